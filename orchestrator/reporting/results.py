"""What a finished sweep has to say: its rows, and the address of every number in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vosmodels.support import provenance
from vosmodels.support.grid import Grid

COPY = "first-frame copy"  # the name of that row
MARGIN = 0.10  # of J: a student this close to the copy has not learnt to follow


@dataclass(frozen=True)
class Row:
    """One line of the table. role: anchor, teacher, trial or soup; select and report hold j, f, jf
    and per-sequence scores under "sequences", report also `BoundaryErrors` under "boundary".

    baseline: the row a trial is compared with; curve: (step, select J) of a trial's checkpoints.
    """

    name: str
    role: str
    select: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    sha256: str | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    note: str = ""
    baseline: str | None = None
    curve: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class Results:
    """All rows of a sweep with where they come from; JSON by `as_dict`."""

    name: str
    sweep: str
    rows: Sequence[Row]
    command: str
    config: Mapping[str, Any]
    protocol: str
    seconds: float
    peak_mib: float | None
    placement: str
    commit: str = field(default_factory=provenance.commit)
    machine: str = field(default_factory=provenance.machine)
    date: str = field(default_factory=provenance.today)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Results:
        return cls(**{**values, "rows": tuple(Row(**row) for row in values["rows"])})

    def grid(self) -> Grid:
        """Lay out all rows with their seconds and notes, in the order of `ordered`."""
        reported = any(row.report for row in self.rows)
        head = ["", *_head(reported), "seconds", ""]
        rows = []
        for row in ordered(self.rows):
            seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
            rows.append([row.name, *_cells(row, reported), seconds, row.note])
        note = shortfall(self.rows)
        title = f"{self.name}: {self.protocol}"
        return Grid(head, rows, title, notes=[note] if note else [], left=(0, len(head) - 1))

    def cost(self) -> str:
        """What this run took; of a peak that was not measured nothing, as where nothing ran."""
        peak = [f"peak {self.peak_mib / 1024:.1f} GiB"] if self.peak_mib else []
        return ", ".join([f"{self.seconds / 60:.1f} min", *peak, self.placement])

    def markdown(self) -> str:
        """For the README: the same rows, and their address below."""
        reported = any(row.report for row in self.rows)
        rows = [
            [row.name + (f" ({row.note})" if row.note else ""), *_cells(row, reported)]
            for row in ordered(self.rows)
        ]
        note = shortfall(self.rows)
        grid = Grid(["row", *_head(reported)], rows, notes=[f"**{note}**"] if note else [])
        trained = sum(row.seconds or 0.0 for row in self.rows)
        largest = max((row.peak_mib or 0.0 for row in self.rows), default=0.0)
        memory = f", {largest / 1024:.1f} GiB the largest" if largest else ""
        minutes = (
            f"jobs {trained / 60:.1f} min in all{memory}; this run {self.seconds / 60:.1f} min"
        )
        seed = self.config.get("seed", 0)
        address = (
            f"`{self.command}` · seed {seed} · commit {self.commit} · {self.machine} · "
            f"{self.placement} · {minutes} · {self.date}"
        )
        return "\n\n".join([f"**{self.name}**: {self.protocol}", grid.markdown(), address])


ROLES = ("anchor", "teacher", "trial", "soup")


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Anchors and teacher as they come, then trials, then soups, best select J&F first."""

    def place(row: Row) -> tuple[int, float]:
        chosen = row.role in ("trial", "soup")
        return ROLES.index(row.role), -float(row.select.get("jf", 0.0)) if chosen else 0.0

    return sorted(rows, key=place)


def shortfall(rows: Sequence[Row]) -> str:
    """A line that says so where the best student (by select J&F) is hardly better than its anchor
    on what is reported, else on select; empty where it is better, or there is nothing to compare.
    """
    copies = [row for row in rows if row.name == COPY]
    students = [row for row in rows if row.role in ("trial", "soup") and row.select]
    if not copies or not students:
        return ""
    best = max(students, key=lambda row: row.select["jf"])
    split = "report" if best.report and copies[0].report else "select"
    ours, copied = getattr(best, split)["j"], getattr(copies[0], split)["j"]
    if ours - copied >= MARGIN:
        return ""
    return (
        f"FAILED, not a result: the best student, {best.name}, has {split} J {ours:.3f}, less than "
        f"{100 * MARGIN:.0f} points above the {COPY}'s {copied:.3f}"
    )


def _head(reported: bool) -> list[str]:
    return ["step", "J", "F", "J&F", *(["report J", "F", "J&F"] if reported else [])]


def _cells(row: Row, reported: bool) -> list[str]:
    """The cells under `_head`, empty where a row lacks a score."""
    splits = (row.select, row.report) if reported else (row.select,)
    scores = [f"{s[m]:.3f}" if m in s else "" for s in splits for m in ("j", "f", "jf")]
    return ["" if row.step is None else str(row.step), *scores]
