"""Compare soups with what they could have been, sequence by sequence, on select and on report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from soups.worth.entrants import Entrant, name_of
from soups.worth.rows import BEST, SOUP
from vosmodels.evaluation.bootstrap import LEVEL, Paired, compare
from vosmodels.evaluation.scores import Scores
from vosmodels.support.grid import Grid
from vosmodels.support.seeding import numpy_generator

FEW = 10  # sequences: below, an interval stands beside what every sequence says

_Place = tuple[str, float | None]  # key and alpha of a row


@dataclass(frozen=True)
class Table:
    """The rows of one soup on a split: what scores one, and what a frame of it costs.

    cost is asked only of those that take several passes.
    """

    entrants: Sequence[Entrant]
    score: Callable[[Entrant], Scores]
    cost: Callable[[Entrant], float]


@dataclass(frozen=True)
class Line:
    """A row: its means over objects, and its difference to the best single checkpoint.

    All are means over the soups that are compared. cost: seconds relative to one network in one
    view; None where the row is one.
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
    """The rows on one split. protocol: in words; chose: what these videos chose, "" on report.

    soups: so many are compared.
    """

    split: str
    protocol: str
    chose: str
    lines: Sequence[Line]
    soups: int = 1

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
            "soups": self.soups,
            "rows": [line.as_dict() for line in self.lines],
            "notes": self.notes,
        }

    @property
    def notes(self) -> list[str]:
        """Say what the differences are of, and what they cannot say."""
        soups = f" and {self.soups} soups" if self.soups > 1 else ""
        over = "videos and soups" if soups else "videos"
        notes = [
            f"Differences in {self.split} J&F are to the best single checkpoint, on "
            f"{self.sequences} videos{soups}; their interval is a paired bootstrap over {over}, "
            "and P the share of its resamples above 0."
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
    tables: Sequence[Table],
    *,
    chose: str = "",
    tell: Callable[[Entrant, float], object] = lambda entrant, jf: None,
) -> Comparison:
    """Score every row on a split and compare it with the best single checkpoint.

    tables: one for each soup; a row that not all of them have is left out. tell: takes notice of
    each row with its J&F. Raises StopIteration without a row of the best single checkpoint.
    """
    scores: list[list[Scores]] = []
    for table in tables:
        scores.append([])
        for entrant in table.entrants:
            scores[-1].append(table.score(entrant))
            tell(entrant, scores[-1][-1].jf)
    rows = [{_place(e): n for n, e in enumerate(table.entrants)} for table in tables]
    single = next(place for place in rows[0] if place[0] == BEST)

    def of(place: _Place) -> list[Scores]:
        return [own[row[place]] for own, row in zip(scores, rows, strict=True)]

    lines = []
    for place in rows[0]:
        if not all(place in row for row in rows):
            continue
        entrants = [table.entrants[row[place]] for table, row in zip(tables, rows, strict=True)]
        found, name = of(place), name_of(entrants)
        costs = [t.cost(e) for t, e in zip(tables, entrants, strict=True) if e.passes > 1]
        lines.append(
            Line(
                place[0],
                name,
                fmean(each.j for each in found),
                fmean(each.f for each in found),
                fmean(each.jf for each in found),
                None if place == single else difference(found, of(single), name),
                fmean(costs) if costs else None,
                place[1],
            )
        )
    return Comparison(split, protocol, chose, lines, len(tables))


def _place(entrant: Entrant) -> _Place:
    return entrant.key, entrant.alpha


def difference(ours: Sequence[Scores], theirs: Sequence[Scores], name: str) -> Paired:
    """Compare J&F by video and soup.

    name: seeds the bootstrap, so that the same row says the same again.
    """
    weights = {s.name: float(len(s.objects)) for s in ours[0].sequences}
    rng = numpy_generator(0, "worth", name)
    return compare([_jf(s) for s in ours], [_jf(s) for s in theirs], weights, rng)


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
