"""Hold the rows of a sweep with their provenance, and lay them out as a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.reporting.split_scores import MEASURES, SPLITS, Split, SplitScores
from orchestrator.reporting.strata import by_objects
from vosmodels.support import provenance
from vosmodels.support.grid import Grid

BASELINE = "anchor"  # the role of a baseline row, by the word that files have for it
STEM = "stem"  # how the name of a stem's row begins
ROLES = (BASELINE, "teacher", "trial", "soup")
COPY = "first-frame copy"  # the name of that baseline row
REPEAT = re.compile(r"(.+) repeat=(\d+)")  # name of a trial that is repeated
MARGIN = 0.10  # of J: a student closer than this to the first-frame copy has not learnt to follow


@dataclass(frozen=True)
class Row:
    """Hold one row of a sweep's table.

    role: one of ROLES; scores: by split, without the splits on which the row was not scored;
    seconds, peak_mib: of the job that made the checkpoint; baseline: name of the row that a trial
    is compared with; curve: (step, select J) of a trial's checkpoints.
    """

    name: str
    role: str
    scores: Mapping[Split, SplitScores] = field(default_factory=dict)
    step: int | None = None
    sha256: str | None = None
    seconds: float | None = None
    peak_mib: float | None = None
    note: str = ""
    baseline: str | None = None
    curve: Sequence[tuple[int, float]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-able fields; a split that was not scored is an empty object."""
        values = {**vars(self)}
        scores = values.pop("scores")
        splits = {split: scores[split].as_dict() if split in scores else {} for split in SPLITS}
        return {"name": values.pop("name"), "role": values.pop("role"), **splits, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """Invert `as_dict`.

        Raises KeyError or TypeError where a key is missing or unknown.
        """
        fields = {key: value for key, value in values.items() if key not in SPLITS}
        scores = {s: SplitScores.from_dict(values[s]) for s in SPLITS if values.get(s)}
        return cls(**fields, scores=scores)


@dataclass(frozen=True)
class Results:
    """Hold all rows of a sweep with the command and machine that made them.

    sweep: id of the sweep in MLflow; protocol: on what the rows are scored, in words; seconds,
    peak_mib: of the whole run, whose jobs may have been done before; placement: workers, in words.
    """

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
        """Return everything as JSON-able values."""
        return {**vars(self), "rows": [row.as_dict() for row in self.rows]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Results:
        """Invert `as_dict`.

        Raises KeyError or TypeError where a key is missing or unknown.
        """
        return cls(**{**values, "rows": tuple(Row.from_dict(row) for row in values["rows"])})

    def grid(self) -> Grid:
        """Lay out all rows with their seconds and notes, in the order of `ordered`."""
        splits = self._splits()
        head = ["", *_head(splits), "seconds", ""]
        rows = []
        for row in ordered(self.rows):
            seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
            rows.append([row.name, *_cells(row, splits), seconds, row.note])
        note = shortfall(self.rows)
        title = f"{self.name}: {self.protocol}"
        return Grid(head, rows, title, notes=[note] if note else [], left=(0, len(head) - 1))

    @property
    def repeated(self) -> bool:
        """True where trials were repeated from one stem (`sweep.seeds`)."""
        return any(REPEAT.fullmatch(row.name) for row in self.rows if row.role == "trial")

    def address(self) -> str:
        """Say which sweep this is, of what day and code."""
        return f"sweep {self.sweep} of {self.name}, {self.date}, commit {self.commit}"

    def cost(self) -> str:
        """Name the run's minutes, its peak memory if measured, and its placement."""
        peak = [f"peak {self.peak_mib / 1024:.1f} GiB"] if self.peak_mib else []
        return ", ".join([f"{self.seconds / 60:.1f} min", *peak, self.placement])

    def markdown(self) -> str:
        """Return the table for a README, with its provenance below."""
        splits = self._splits()
        rows = [
            [row.name + (f" ({row.note})" if row.note else ""), *_cells(row, splits)]
            for row in ordered(self.rows)
        ]
        note = shortfall(self.rows)
        grid = Grid(["row", *_head(splits)], rows, notes=[f"**{note}**"] if note else [])
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
        strata = self.by_objects()
        tables = [each.markdown() for each in (grid, strata) if each]
        return "\n\n".join([f"**{self.name}**: {self.protocol}", *tables, address])

    def by_objects(self) -> Grid | None:
        """Lay out J&F on the last split that rows are scored on, by number of objects."""
        split = self._splits()[-1]
        rows = {row.name: [row.scores[split]] for row in ordered(self.rows) if split in row.scores}
        return by_objects(rows, split)

    def _splits(self) -> tuple[Split, ...]:
        """Name the splits that have columns: select always, report where any row has it."""
        return SPLITS if any("report" in row.scores for row in self.rows) else ("select",)


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by role, and trials and soups by select J&F, the best first.

    Baseline rows keep the order that they have.
    """

    def place(row: Row) -> tuple[int, float]:
        select = row.scores.get("select")
        if row.role in ("trial", "soup") and select:
            return ROLES.index(row.role), -select.jf
        return ROLES.index(row.role), 0.0

    return sorted(rows, key=place)


def shortfall(rows: Sequence[Row]) -> str:
    """Say whether the best student is hardly better than the first-frame copy.

    The best student is the one with the highest select J&F. It must exceed the copy's J by MARGIN
    on report, or on select where one of the two has no report. Empty where it does, or where one
    of them is missing.
    """
    copies = [row for row in rows if row.name == COPY]
    students = [row for row in rows if row.role in ("trial", "soup") and "select" in row.scores]
    if not copies or not students:
        return ""
    best = max(students, key=lambda row: row.scores["select"].jf)
    reported = "report" in best.scores and "report" in copies[0].scores
    split: Split = "report" if reported else "select"
    j, copy_j = best.scores[split].j, copies[0].scores[split].j
    if j - copy_j >= MARGIN:
        return ""
    return (
        f"FAILED, not a result: the best student, {best.name}, has {split} J {j:.3f}, less than "
        f"{100 * MARGIN:.0f} points above the {COPY}'s {copy_j:.3f}"
    )


def _head(splits: Sequence[Split]) -> list[str]:
    return ["step", "J", "F", "J&F", *(["report J", "F", "J&F"] if "report" in splits else [])]


def _cells(row: Row, splits: Sequence[Split]) -> list[str]:
    """Fill the cells under `_head`; those of a split without scores stay empty."""
    cells = ["" if row.step is None else str(row.step)]
    for split in splits:
        scores = row.scores.get(split)
        cells += [f"{scores.means[measure]:.3f}" if scores else "" for measure in MEASURES]
    return cells
