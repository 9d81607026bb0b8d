"""Order in which a search tries the ingredients of a soup."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args

By = Literal["score", "step", "random"]
WORDS = "score, step, random or random:SEED"


class Sortable(Protocol):
    """Anything with the score, step and sha256 of an ingredient."""

    @property
    def score(self) -> float: ...
    @property
    def step(self) -> int: ...
    @property
    def sha256(self) -> str: ...


Item = TypeVar("Item", bound=Sortable)


@dataclass(frozen=True)
class Order:
    """Rule by which ingredients are sorted: any two pools have those that they share in one order.

    score: the best first; step: the latest first, of one step the best; random: by a digest of
    seed and sha256. Ties go by sha256, ascending.
    """

    by: By = "score"
    seed: int = 0

    @classmethod
    def of(cls, text: str) -> Order:
        """Read the order that WORDS describes. Raises ValueError on another text."""
        for by in get_args(By):
            if text == by:
                return cls(by)
        if match := re.fullmatch(r"random:(\d+)", text):
            return cls("random", int(match[1]))
        raise ValueError(f"order {text!r}: one of {WORDS}")

    def __str__(self) -> str:
        """Write the order as `of` reads it."""
        return f"random:{self.seed}" if self.by == "random" else self.by

    def sort(self, items: Iterable[Item]) -> list[Item]:
        """Return the items in this order."""
        return sorted(items, key=self._key)

    def _key(self, item: Item) -> tuple[float | str, ...]:
        if self.by == "score":
            return -item.score, item.sha256
        if self.by == "step":
            return -item.step, -item.score, item.sha256
        return hashlib.sha256(f"{self.seed} {item.sha256}".encode()).hexdigest(), item.sha256
