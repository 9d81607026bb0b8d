"""Hold the scores of one table row on one split, and convert them to JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, get_args

from vosmodels.evaluation.scores import Scores

Split = Literal["select", "report"]
Measure = Literal["j", "f", "jf"]
SPLITS: tuple[Split, ...] = get_args(Split)
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True)
class VideoScores:
    """Hold J and F of one video, means over its objects, and their number."""

    j: float
    f: float
    objects: int = 1

    @property
    def jf(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class ErrorCounts:
    """Hold counts of wrong pixels, as `BoundaryErrors.as_dict` gives them.

    within: wrong pixels by their largest distance in px from the true boundary; wrong: all wrong
    pixels; masks: (frame, object) pairs that were compared; added: false positives among the wrong
    pixels, None in files that are older than this count.
    """

    within: Mapping[int, int]
    wrong: int
    masks: int
    added: int | None = None

    def as_dict(self) -> dict[str, int]:
        """Return JSON-able counts by name; a distance's name is its digits."""
        added = {} if self.added is None else {"added": self.added}
        near = {str(distance): count for distance, count in self.within.items()}
        return {**near, "wrong": self.wrong, **added, "masks": self.masks}

    @classmethod
    def from_dict(cls, values: Mapping[str, int]) -> ErrorCounts:
        """Invert `as_dict`. Raises KeyError where `wrong` or `masks` is missing."""
        within = {int(name): count for name, count in values.items() if name.isdigit()}
        return cls(within, values["wrong"], values["masks"], values.get("added"))


@dataclass(frozen=True)
class SplitScores:
    """Hold the scores of one row on one split.

    j, f, jf: means over all objects; sequences: by video name, empty in means over several seeds;
    errors: None where wrong pixels were not counted.
    """

    j: float
    f: float
    jf: float
    sequences: Mapping[str, VideoScores] = field(default_factory=dict)
    errors: ErrorCounts | None = None

    @property
    def means(self) -> dict[Measure, float]:
        """J, F and J&F by measure."""
        return {"j": self.j, "f": self.f, "jf": self.jf}

    @classmethod
    def of(cls, scores: Scores, errors: Mapping[str, int]) -> SplitScores:
        """Summarise an evaluation.

        errors: counts as `BoundaryErrors.as_dict` gives them, or empty.
        """
        sequences = {s.name: VideoScores(s.j, s.f, len(s.objects)) for s in scores.sequences}
        counts = ErrorCounts.from_dict(errors) if errors else None
        return cls(scores.j, scores.f, scores.jf, sequences, counts)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able j, f, jf, and `sequences` and `boundary` where there are any."""
        values: dict[str, Any] = {"j": self.j, "f": self.f, "jf": self.jf}
        if self.sequences:
            values["sequences"] = {name: {**vars(s)} for name, s in self.sequences.items()}
        if self.errors:
            values["boundary"] = self.errors.as_dict()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitScores:
        """Invert `as_dict`.

        Raises KeyError or TypeError where a score is missing or unknown.
        """
        sequences = {name: VideoScores(**s) for name, s in values.get("sequences", {}).items()}
        counts = values.get("boundary")
        errors = ErrorCounts.from_dict(counts) if counts else None
        return cls(values["j"], values["f"], values["jf"], sequences, errors)


def mean(scores: Sequence[SplitScores]) -> SplitScores:
    """Average j, f and jf over seeds and add up the error counts.

    Videos are left out, and so is a count that one of the files lacks. Raises StatisticsError where
    `scores` is empty.
    """
    j, f, jf = (fmean(s.means[measure] for s in scores) for measure in MEASURES)
    return SplitScores(j, f, jf, errors=_total([s.errors for s in scores if s.errors]))


def _total(counts: Sequence[ErrorCounts]) -> ErrorCounts | None:
    if not counts:
        return None
    distances = [d for d in counts[0].within if all(d in c.within for c in counts)]
    added = [c.added for c in counts if c.added is not None]
    return ErrorCounts(
        within={d: sum(c.within[d] for c in counts) for d in distances},
        wrong=sum(c.wrong for c in counts),
        masks=sum(c.masks for c in counts),
        added=sum(added) if len(added) == len(counts) else None,
    )
