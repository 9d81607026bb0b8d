"""Compare a soup with what it could have been, sequence by sequence, on select and on report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from soups.worth.entrants import Entrant
from soups.worth.rows import BEST, SOUP
from vosmodels.evaluation.bootstrap import LEVEL, Paired, compare
from vosmodels.evaluation.scores import Scores
from vosmodels.support.grid import Grid
from vosmodels.support.seeding import numpy_generator

FEW = 10  # sequences: below, an interval stands beside what every sequence says

Score = Callable[[Entrant], Scores]
Cost = Callable[[Entrant], float]


@dataclass(frozen=True)
class Line:
    """A row: its means over objects, and its difference to the best single checkpoint.

    cost: seconds relative to one network in one view; None where the row is one.
    """

    key: str
    name: str
    j: float
    f: float
    jf: float
    difference: Paired | None
    cost: float | None
    alpha: float | None

    @property
    def verdict(self) -> str:
        """Return better or worse where the interval of the difference excludes 0, else nothing."""
        if self.difference is None or self.difference.low <= 0 <= self.difference.high:
            return ""
        return "better" if self.difference.low > 0 else "worse"

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON-able values."""
        values = {**asdict(self), "verdict": self.verdict}
        if self.difference is not None:
            plus, minus, zero = self.difference.signs
            values["difference"] |= {"plus": plus, "minus": minus, "zero": zero}
        return values


@dataclass(frozen=True)
class Comparison:
    """The rows on one split. protocol: in words; chose: what these videos chose, "" on report."""

    split: str
    protocol: str
    chose: str
    lines: Sequence[Line]

    @property
    def sequences(self) -> int:
        """Count the videos of the split."""
        return next((len(d.per_sequence) for line in self.lines if (d := line.difference)), 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-able values."""
        return {
            "protocol": self.protocol,
            "chose": self.chose,
            "sequences": self.sequences,
            "rows": [line.as_dict() for line in self.lines],
            "notes": self.notes,
        }

    @property
    def notes(self) -> list[str]:
        """Say what the differences are of, and what they cannot say."""
        notes = [
            f"Differences in {self.split} J&F are to the best single checkpoint, on "
            f"{self.sequences} videos; their interval is a paired bootstrap over videos, and P the "
            "share of its resamples above 0."
        ]
        if self.chose:
            notes.append(f"{self.chose}: what was chosen here looks better here than it is.")
        if 0 < self.sequences < FEW:
            notes.append(f"Over fewer than {FEW} videos read the differences by video as well.")
        return notes

    def grids(self) -> list[Grid]:
        """Return the table, and below FEW videos the differences by video."""
        few = 0 < self.sequences < FEW
        head = ["row", "J", "F", "J&F", "difference", f"{LEVEL:.0%} interval", "P"]
        head += ["videos + / - / 0"] if few else []
        rows = [self._cells(line, few) for line in self.lines]
        title = f"{self.split}: {self.protocol}"
        grids = [Grid([*head, "cost", ""], rows, title, self.notes, left=(0, len(head) + 1))]
        compared = [(line, line.difference) for line in self.lines if line.difference]
        if few:
            names = list(compared[0][1].per_sequence)
            table = [
                [line.name, *(f"{paired.per_sequence[name]:+.3f}" for name in names)]
                for line, paired in compared
            ]
            grids.append(Grid(["difference by video", *names], table))
        return grids

    def _cells(self, line: Line, few: bool) -> list[str]:
        paired = line.difference
        cells = [line.name, f"{line.j:.4f}", f"{line.f:.4f}", f"{line.jf:.4f}"]
        if paired is None:
            cells += ["", "", "", *([""] if few else [])]
        else:
            cells += [f"{paired.mean:+.4f}", f"{paired.low:+.4f} to {paired.high:+.4f}"]
            cells += [f"{paired.above:.2f}"]
            cells += [" / ".join(map(str, paired.signs))] if few else []
        return [*cells, "" if line.cost is None else f"{line.cost:.1f}x", line.verdict]


def compared(
    split: str,
    protocol: str,
    entrants: Sequence[Entrant],
    score: Score,
    cost: Cost,
    *,
    chose: str = "",
    tell: Callable[[Entrant, float], object] = lambda entrant, jf: None,
) -> Comparison:
    """Score every row on a split and compare it with the best single checkpoint.

    score, cost: of a row; cost is asked only of those that take several passes. tell: takes notice
    of each row with its J&F. Raises StopIteration without a row of the best single checkpoint.
    """
    scores: dict[int, Scores] = {}
    for number, entrant in enumerate(entrants):
        scores[number] = score(entrant)
        tell(entrant, scores[number].jf)
    single = next(scores[n] for n, entrant in enumerate(entrants) if entrant.key == BEST)
    lines = []
    for number, entrant in enumerate(entrants):
        own = scores[number]
        lines.append(
            Line(
                entrant.key,
                entrant.name,
                own.j,
                own.f,
                own.jf,
                None if entrant.key == BEST else difference(own, single, entrant.name),
                cost(entrant) if entrant.passes > 1 else None,
                entrant.alpha,
            )
        )
    return Comparison(split, protocol, chose, lines)


def difference(ours: Scores, theirs: Scores, name: str) -> Paired:
    """Compare J&F by video. name: seeds the bootstrap, so that the same row says the same again."""
    weights = {s.name: float(len(s.objects)) for s in ours.sequences}
    return compare([_jf(ours)], [_jf(theirs)], weights, numpy_generator(0, "worth", name))


def _jf(scores: Scores) -> Mapping[str, float]:
    return {sequence.name: sequence.jf for sequence in scores.sequences}


def verdict(comparison: Comparison) -> str:
    """Say in a sentence whether the greedy soup was worth it on a split; "" without its row."""
    line = next((line for line in comparison.lines if line.key == SOUP), None)
    if line is None or line.difference is None:
        return ""
    paired = line.difference
    said = {
        "better": "is better than the best single checkpoint",
        "worse": "is worse than the best single checkpoint",
        "": "shows no difference to the best single checkpoint that is larger than chance",
    }[line.verdict]
    return (
        f"on {comparison.split} the greedy soup {said}: {paired.mean:+.4f} J&F, {LEVEL:.0%} "
        f"interval {paired.low:+.4f} to {paired.high:+.4f}, P(better) {paired.above:.2f}"
    )
