"""One sweep from several seeds: its rows side by side, and what each differs by from a baseline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.planning.trials import trials
from orchestrator.reporting.results import ROLES, Results, Row
from orchestrator.tracking.mlflow_names import flatten
from vosmodels.errors import InputError
from vosmodels.evaluation.bootstrap import Paired, compare
from vosmodels.support.seeding import numpy_generator

MEASURES = ("j", "f", "jf")
SPLITS = ("select", "report")
# What may differ from seed to seed of one table; the grid may grow.
FREE = ("seed", "sweep.", "cluster.", "storage", "tracking.")


@dataclass(frozen=True)
class SeedRow:
    """A row over its seeds. mean: scores are means, boundary counts sums; spread: sample standard
    deviations by (split, measure), from two seeds on; difference: to the row `mean.baseline`."""

    mean: Row
    spread: Mapping[tuple[str, str], float]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    difference: Paired | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: name, role, seeds, steps, seconds, baseline, means, spread, difference."""
        paired = self.difference
        plus, minus, zero = paired.signs if paired else (0, 0, 0)
        return {
            "name": self.mean.name,
            "role": self.mean.role,
            "seeds": list(self.seeds),
            "steps": list(self.steps),
            "seconds": self.mean.seconds,
            "baseline": self.mean.baseline,
            "select": dict(self.mean.select),
            "report": dict(self.mean.report),
            "spread": {" ".join(key): value for key, value in self.spread.items()},
            "difference": paired and {**vars(paired), "plus": plus, "minus": minus, "zero": zero},
        }


@dataclass(frozen=True)
class SeedTable:
    """The results of a sweep by its top-level seed, each with a stem and a teacher of its own."""

    name: str
    runs: Mapping[int, Results]

    def as_dict(self) -> dict[str, Any]:
        """For a file: nothing but the runs, from which all the rest is computed."""
        return {
            "table": self.name,
            "seeds": sorted(self.runs),
            "runs": [self.runs[seed].as_dict() for seed in sorted(self.runs)],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SeedTable:
        runs = [Results.from_dict(run) for run in values["runs"]]
        return cls(values["table"], {run.config["seed"]: run for run in runs})

    def has(self, config: SweepConfig) -> bool:
        """True where the rows of the sweep are there, with all the scores they were to have."""
        run = self.runs.get(config.seed)
        if run is None:
            return False
        wanted = {trial.name for trial in trials(config)}
        whole = all(row.report for row in run.rows if row.role != "teacher")
        return (
            wanted <= {row.name for row in run.rows}
            and (whole or config.data.report is None)
            and (any(row.role == "soup" for row in run.rows) or not config.soup.after_sweep)
        )

    def expect(self, config: Mapping[str, Any]) -> None:
        """InputError where another configuration made the runs that are here."""
        ours = flatten(config)
        for seed, run in self.runs.items():
            whole = SweepConfig.model_validate(run.config)  # with keys that are newer than it
            theirs = flatten(whole.model_dump(mode="json"))
            other = [
                f"{key} {ours[key]} here, {theirs[key]} there"
                for key in sorted(ours.keys() & theirs.keys())
                if not key.startswith(FREE) and ours[key] != theirs[key]
            ]
            if other:
                raise InputError(
                    f"seed {seed} of table {self.name} has another configuration: "
                    f"{'; '.join(other)}; give this table another --out, or move that file away"
                )

    def with_run(self, results: Results) -> SeedTable:
        """With the results of one more seed, or newer ones of a seed that is here."""
        return SeedTable(self.name, {**self.runs, results.config["seed"]: results})

    @property
    def split(self) -> str:
        """The split that differences are of: what is reported, where anything is."""
        reported = any(run.config["data"]["report"] for run in self.runs.values())
        return "report" if reported else "select"

    def lines(self) -> list[SeedRow]:
        """Anchors, teacher, trials, soup; within a role in the order of the sweep."""
        by_name: dict[str, dict[int, Row]] = {}
        for seed in sorted(self.runs):
            for row in self.runs[seed].rows:
                by_name.setdefault(row.name, {})[seed] = row
        made = [self._line(rows, by_name) for rows in by_name.values()]
        return sorted(made, key=lambda line: ROLES.index(line.mean.role))

    def _line(self, rows: Mapping[int, Row], by_name: Mapping[str, Mapping[int, Row]]) -> SeedRow:
        *_, last = rows.values()
        seconds = [row.seconds for row in rows.values() if row.seconds is not None]
        mean = Row(
            last.name,
            last.role,
            _mean([row.select for row in rows.values()]),
            _mean([row.report for row in rows.values()]),
            seconds=fmean(seconds) if seconds else None,
            baseline=last.baseline,
        )
        spread = {
            (split, measure): stdev(values)
            for split in SPLITS
            for measure in MEASURES
            if len(values := _values(rows.values(), split, measure)) > 1
        }
        theirs = by_name.get(last.baseline or "", {})
        return SeedRow(
            mean,
            spread,
            tuple(rows),
            tuple(row.step for row in rows.values() if row.step is not None),
            self._difference(last.name, rows, theirs),
        )

    def _difference(
        self, name: str, ours: Mapping[int, Row], theirs: Mapping[int, Row]
    ) -> Paired | None:
        """In J&F on `split`, over the seeds that both rows have."""
        pairs = [
            (_sequences(row, self.split), _sequences(theirs[seed], self.split))
            for seed, row in ours.items()
            if seed in theirs
        ]
        pairs = [(a, b) for a, b in pairs if a and b]
        if not pairs:
            return None
        weights = {video: float(told.get("objects", 1)) for video, told in pairs[0][0].items()}
        a, b = zip(*([_jf(side) for side in pair] for pair in pairs), strict=True)
        return compare(a, b, weights, numpy_generator(0, "bootstrap", name))


def read(path: Path) -> SeedTable:
    """The table in a file; InputError where it holds something else."""
    try:
        return SeedTable.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not a table of several seeds ({type(error).__name__}: {error}); "
            f"write it with: python -m orchestrator.table SWEEP.yaml --out {path}"
        ) from None


def _sequences(row: Row, split: str) -> Mapping[str, Mapping[str, float]]:
    found: Mapping[str, Mapping[str, float]] = getattr(row, split).get("sequences", {})
    return found


def _jf(sequences: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: (scores["j"] + scores["f"]) / 2 for name, scores in sequences.items()}


def _values(rows: Iterable[Row], split: str, measure: str) -> list[float]:
    return [getattr(row, split)[measure] for row in rows if measure in getattr(row, split)]


def _mean(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of those that are there: means of j, f, jf, sums of boundary counts."""
    there = [one for one in scores if one]
    if not there:
        return {}
    made: dict[str, Any] = {key: fmean(one[key] for one in there) for key in MEASURES}
    counts = [one["boundary"] for one in there if one.get("boundary")]
    if counts:
        made["boundary"] = {
            key: sum(one[key] for one in counts)
            for key in counts[0]
            if all(key in one for one in counts)  # older reports lack some
        }
    return made
