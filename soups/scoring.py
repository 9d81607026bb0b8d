"""Score a set of ingredients, no further than until it can no longer win."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Weights = Mapping[str, Tensor]
Members = tuple[
    str, ...
]  # sha256 of the ingredients of a mean, ascending, one as often as it is in

Floor = float | None  # a score above it wins; None: none does, and all are scored to the end


class Scored(Protocol):
    """Anything with a `jf`, the mean of J and F, which the search compares."""

    @property
    def jf(self) -> float: ...


@dataclass(frozen=True)
class Answer:
    """Hold what scoring a set found.

    value: its score, None where scoring stopped early; at_most: no score of it is higher; scored:
    all that was found where it was scored to the end.
    """

    value: float | None
    at_most: float
    scored: float | Scored | None = None

    @classmethod
    def of(cls, scored: float | Scored) -> Answer:
        """Answer with a whole score."""
        value = scored if isinstance(scored, float | int) else scored.jf
        return cls(value, value, scored)

    def above(self, floor: Floor) -> bool:
        """Tell whether the score is above a floor; none is above None."""
        return self.value is not None and floor is not None and self.value > floor


@runtime_checkable
class SetScorer(Protocol):
    """Scorer of sets of ingredients, which may remember them and stop early.

    It may go to other processes by pickle.
    """

    def known(self, members: Members, floor: Floor) -> Answer | None:
        """Return what `answer` would, if that needs no weights; else None."""

    def answer(self, weights: Weights, members: Members, floor: Floor) -> Answer:
        """Score the mean of a set; a score that is not above `floor` need not be known exactly."""


@dataclass(frozen=True)
class WholeScorer:
    """SetScorer of a function of weights, which remembers nothing and never stops early."""

    score: Callable[[Weights], float | Scored]

    def known(self, members: Members, floor: Floor) -> Answer | None:
        """Know nothing."""
        return None

    def answer(self, weights: Weights, members: Members, floor: Floor) -> Answer:
        """Score the weights."""
        return Answer.of(self.score(weights))


class Sequences(Protocol):
    """Score of weights that is made of those of sequences.

    A part is the score of one sequence, of any type that `Parts` can keep.
    """

    @property
    def names(self) -> Sequence[str]:
        """Names of the sequences, in the order in which they are scored."""

    def opened(self, weights: Weights) -> Callable[[str], Any]:
        """Make a function that scores a sequence by these weights, and returns its part."""

    def total(self, parts: Mapping[str, Any]) -> float | Scored:
        """Return the score of the parts of all sequences."""

    def at_most(self, parts: Mapping[str, Any]) -> float:
        """Return the score if the sequences that have no part yet had a perfect one.

        It must be no lower than `total` ever gives, as floating point rounds.
        """


class Parts(Protocol):
    """Memory of the parts of sets, in which other processes may write too."""

    def read(self, members: Members) -> dict[str, Any]:
        """Return the parts that are kept of a set, by the name of their sequence."""

    def write(self, members: Members, parts: Mapping[str, Any]) -> None:
        """Keep the parts of a set."""


@dataclass(frozen=True)
class BySequence:
    """SetScorer that goes through sequences, keeps their parts, and stops where a set cannot win.

    It stops after the first sequence with which `Sequences.at_most` is no higher than the floor:
    the decision is the one that the whole score gives. Where it stops depends on the parts and the
    floor alone, not on what is kept.
    """

    sequences: Sequences
    parts: Parts

    def known(self, members: Members, floor: Floor) -> Answer | None:
        """Answer from the parts that are kept; None where one is missing."""
        return self._answer(self.parts.read(members), floor, None)

    def answer(self, weights: Weights, members: Members, floor: Floor) -> Answer:
        """Score the sequences whose parts are not kept."""
        kept = self.parts.read(members)
        score: Callable[[str], Any] | None = None

        def part(name: str) -> Any:
            nonlocal score
            score = score or self.sequences.opened(weights)
            kept[name] = score(name)
            self.parts.write(members, kept)
            return kept[name]

        answer = self._answer(kept, floor, part)
        assert answer is not None
        return answer

    def _answer(
        self, kept: Mapping[str, Any], floor: Floor, part: Callable[[str], Any] | None
    ) -> Answer | None:
        names, parts = self.sequences.names, dict[str, Any]()
        for name in names:
            if name in kept:
                parts[name] = kept[name]
            elif part is not None:
                parts[name] = part(name)
            else:
                return None
            if floor is None or len(parts) == len(names):
                continue
            if (most := self.sequences.at_most(parts)) <= floor:
                return Answer(None, most)
        return Answer.of(self.sequences.total(parts))
