"""Score a set of ingredients by its parts, no further than until it can no longer win."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

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


class Sequences(Protocol):
    """Score of weights that is made of those of sequences; it may go to other processes by pickle.

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


@dataclass(frozen=True)
class Whole:
    """Sequences of a function of weights, which is called once and has one part."""

    score: Callable[[Weights], float | Scored]
    names: Sequence[str] = ("all",)

    def opened(self, weights: Weights) -> Callable[[str], float | Scored]:
        """Return what scores the weights."""
        return lambda name: self.score(weights)

    def total(self, parts: Mapping[str, Any]) -> float | Scored:
        """Return the one part."""
        (scored,) = parts.values()
        found: float | Scored = scored
        return found

    def at_most(self, parts: Mapping[str, Any]) -> float:
        """Know no limit."""
        return float("inf")


class Parts(Protocol):
    """Memory of the parts of sets, in which other processes may write too."""

    def read(self, members: Members) -> dict[str, Any]:
        """Return the parts that are kept of a set, by the name of their sequence."""

    def write(self, members: Members, parts: Mapping[str, Any]) -> None:
        """Keep the parts of a set."""


class NotKept:
    """Parts that are forgotten."""

    def read(self, members: Members) -> dict[str, Any]:
        """Return none."""
        return {}

    def write(self, members: Members, parts: Mapping[str, Any]) -> None:
        """Keep none."""


@dataclass(frozen=True)
class SetScorer:
    """Scorer of sets of ingredients: by sequences, keeping parts, stopping where a set cannot win.

    It stops after the first sequence with which `Sequences.at_most` is no higher than the floor:
    the decision is the one that the whole score gives. Where it stops depends on the parts and the
    floor alone, neither on what is kept nor on which part is scored first.
    """

    sequences: Sequences
    parts: Parts = field(default_factory=NotKept)

    @classmethod
    def of(cls, score: Callable[[Weights], float | Scored] | SetScorer) -> SetScorer:
        """Take a function of weights too, which remembers nothing and never stops early."""
        return score if isinstance(score, SetScorer) else cls(Whole(score))

    def begin(self, members: Members, floor: Floor) -> Attempt:
        """Begin to score the mean of a set with the parts that are kept.

        A score that is not above `floor` need not be known exactly.
        """
        return Attempt(self, members, floor)

    def answer(self, members: Members, floor: Floor, weights: Callable[[], Weights]) -> Answer:
        """Score a set in this process; weights: computes its mean, where a part is missing."""
        attempt, score = self.begin(members, floor), None
        while attempt.answer is None:
            score = score or self.sequences.opened(weights())
            name = attempt.missing[0]
            attempt.take(name, score(name))
        return attempt.answer


class Attempt:
    """A set that is being scored: its parts, and its answer as soon as they give one."""

    def __init__(self, scorer: SetScorer, members: Members, floor: Floor) -> None:
        self.answer: Answer | None = None
        self._scorer, self._members, self._floor = scorer, members, floor
        self._found = scorer.parts.read(members)
        self._counted = dict[str, Any]()  # parts of the first sequences, up to one that lacks
        self._count()

    @property
    def missing(self) -> Sequence[str]:
        """Names of the sequences without a part, in their order; none once there is an answer."""
        names = self._scorer.sequences.names
        return [] if self.answer else [name for name in names if name not in self._found]

    def take(self, name: str, part: Any) -> None:
        """Take the part of a sequence, and keep it."""
        self._found[name] = part
        self._scorer.parts.write(self._members, self._found)
        self._count()

    def _count(self) -> None:
        """Go through the parts in the order of their sequences, until one lacks or they answer."""
        sequences, floor = self._scorer.sequences, self._floor
        while self.answer is None:
            if len(self._counted) == len(sequences.names):
                self.answer = Answer.of(sequences.total(self._counted))
                return
            name = sequences.names[len(self._counted)]
            if name not in self._found:
                return
            self._counted[name] = self._found[name]
            if floor is None or len(self._counted) == len(sequences.names):
                continue
            if (most := sequences.at_most(self._counted)) <= floor:
                self.answer = Answer(None, most)
