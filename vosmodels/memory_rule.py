"""Write down which frames of a video a model remembers: `first,last,2x5`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

GRAMMAR = (
    "first,last[,KxE]: K older frames, of every E-th one; allxE: all of those; all: every frame"
)


@dataclass(frozen=True)
class MemoryRule:
    """The first frame, `last`: the latest one, and between them `older` ones of every `every`-th.

    older: None for all of them, so that the memory grows with the video; every: counted from the
    first frame, at least 1.
    """

    older: int | None = 0
    every: int = 1
    last: bool = True

    @classmethod
    def of(cls, text: str) -> MemoryRule:
        """Read a rule as GRAMMAR says it. Raises ValueError that names the grammar."""
        words = [word.strip() for word in text.split(",")]
        if words == ["all"]:
            return cls(older=None)
        first, *rest = words
        last = rest[:1] == ["last"]
        rest = rest[last:]
        many = (
            re.fullmatch(r"(all|[1-9]\d{0,5})x([1-9]\d{0,5})", rest[0]) if len(rest) == 1 else None
        )
        if first != "first" or len(rest) > 1 or (rest and not many):
            raise ValueError(f"memory {text!r} is no rule; {GRAMMAR}")
        if not many:
            return cls(last=last)
        return cls(None if many[1] == "all" else int(many[1]), int(many[2]), last)

    def __str__(self) -> str:
        if self.older is None and self.every == 1 and self.last:
            return "all"
        words = ["first", *(["last"] if self.last else [])]
        if self.older != 0:
            words.append(f"{'all' if self.older is None else self.older}x{self.every}")
        return ",".join(words)

    @property
    def frames(self) -> int | None:
        """Count the frames in memory at most; None where it grows with the video."""
        return None if self.older is None else 1 + self.last + self.older

    def after(self, frames: int) -> int:
        """Count the frames in memory, at most, after so many frames of a video."""
        if self.older == 0:
            return 1 + self.last
        kept = 1 + frames // self.every + (self.last and self.every > 1)
        return kept if self.frames is None else min(kept, self.frames)


def _written(text: str) -> str:
    try:
        return str(MemoryRule.of(text))
    except ValueError:
        raise PydanticCustomError("memory", "is no rule of memory; " + GRAMMAR) from None


RuleText = Annotated[str, AfterValidator(_written)]  # of an option or key: checked, one spelling
# An option that configs written before it lack; so do those written since where it is not used.
RuleOption = Annotated[RuleText | None, Field(exclude_if=lambda rule: rule is None)]
