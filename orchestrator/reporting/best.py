"""Say which row of a sweep is best: one answer for the terminal, MLflow and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from orchestrator.reporting.results import BASELINE, REPEAT, Row


@dataclass(frozen=True)
class Point:
    """The trials of one place of a sweep: one, or its repeats. rows: at least one, scored."""

    name: str
    rows: tuple[Row, ...]

    @property
    def jf(self) -> float:
        """Select J&F, the mean of the repeats."""
        return fmean(self._jfs)

    @property
    def spread(self) -> float | None:
        """Standard deviation of select J&F over the repeats, None for a single trial."""
        return stdev(self._jfs) if len(self.rows) > 1 else None

    @property
    def best(self) -> Row:
        """The row of the repeat with the highest select J&F."""
        return max(self.rows, key=lambda row: row.scores["select"].jf)

    @property
    def _jfs(self) -> list[float]:
        return [row.scores["select"].jf for row in self.rows]


@dataclass(frozen=True)
class Best:
    """The best point of a sweep, and the soup where it scores higher than every trial."""

    point: Point
    soup: Row | None = None

    @property
    def row(self) -> Row:
        """The row with the highest score: the soup, or the best repeat of the point."""
        return self.soup or self.point.best

    @property
    def name(self) -> str:
        """The name of the soup, or of the point."""
        return self.soup.name if self.soup else self.point.name

    def __str__(self) -> str:
        """Name both with their J&F, as `omega=0.8 J&F .681, greedy soup .690`."""
        repeats = len(self.point.rows)
        mean = f" (mean of {repeats})" if repeats > 1 else ""
        soup = f", {self.soup.name} {short(self.soup.scores['select'].jf)}" if self.soup else ""
        return f"{self.point.name} J&F {short(self.point.jf)}{mean}{soup}"


def points(rows: Sequence[Row]) -> list[Point]:
    """Gather the scored trials by place, the best first; equal ones in the order of the rows."""
    places: dict[str, list[Row]] = {}
    for row in rows:
        if row.role == "trial" and "select" in row.scores:
            found = REPEAT.fullmatch(row.name)
            places.setdefault(found[1] if found else row.name, []).append(row)
    return sorted((Point(n, tuple(r)) for n, r in places.items()), key=lambda point: -point.jf)


def best_of(rows: Sequence[Row]) -> Best | None:
    """Find what is best among the trials of a sweep and their soup; None without a trial.

    A point counts by the mean of its repeats. A soup that equals the best trial is that trial.
    """
    ranked = points(rows)
    if not ranked:
        return None
    top = max(point.best.scores["select"].jf for point in ranked)
    soups = [row for row in rows if row.role == "soup" and "select" in row.scores]
    higher = [row for row in soups if row.scores["select"].jf > top]
    return Best(ranked[0], max(higher, key=lambda row: row.scores["select"].jf, default=None))


def best_stem(rows: Sequence[Row]) -> Row | None:
    """Return the stem, trained or given, with the highest select J&F; None without one."""
    stems = [r for r in rows if r.role == BASELINE and r.sha256 and "select" in r.scores]
    return max(stems, key=lambda row: row.scores["select"].jf, default=None)


def comparison(rows: Sequence[Row]) -> str:
    """Say how far the best row is above the stem and above the trial that it is compared with.

    By select J&F, a point by the mean of its repeats: `+.151 over the stem, +.126 over
    cross-entropy`, or that no trial beat the stem. Empty where there is nothing to compare.
    """
    best, stem = best_of(rows), best_stem(rows)
    if best is None:
        return ""
    jf = best.soup.scores["select"].jf if best.soup else best.point.jf
    if stem is not None and jf <= stem.scores["select"].jf:
        return f"no trial beat {stem.name!r}, J&F {short(stem.scores['select'].jf)}"
    others = [] if stem is None else [("the stem", stem.scores["select"].jf)]
    found = REPEAT.fullmatch(best.point.best.baseline or "")
    baseline = found[1] if found else best.point.best.baseline
    others += [(p.name, p.jf) for p in points(rows) if p.name == baseline]
    return ", ".join(f"+{short(jf - other)} over {name}" for name, other in others if jf > other)


def short(score: float) -> str:
    """Write a score of 0 to 1 without the zero, as `.681`."""
    return f"{score:.3f}".removeprefix("0")
