"""Average a sweep's rows over seeds and compare each row with its baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from orchestrator.config import SweepConfig
from orchestrator.planning.trials import trials
from orchestrator.reporting.results import REPEAT, ROLES, Results, Row
from orchestrator.reporting.split_scores import (
    MEASURES,
    SPLITS,
    Measure,
    Split,
    VideoScores,
    mean,
)
from orchestrator.tracking.mlflow_names import flatten
from vosmodels.errors import InputError
from vosmodels.evaluation.bootstrap import Paired, compare
from vosmodels.support.seeding import numpy_generator

# Keys that may differ between the seeds of one table; its grid may grow.
FREE = ("seed", "sweep.", "cluster.", "storage", "tracking.")


@dataclass(frozen=True)
class SeedRow:
    """Hold one row over its seeds.

    mean: the row with scores averaged and error counts added up; spread: sample standard deviations
    by (split, measure), from two seeds on; difference: to the row `mean.baseline`, None for a row
    without one.
    """

    mean: Row
    spread: Mapping[tuple[Split, Measure], float]
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    difference: Paired | None

    def as_dict(self) -> dict[str, Any]:
        """Return the means like a row's JSON, with seeds, steps, spread and difference."""
        paired = self.difference
        plus, minus, zero = paired.signs if paired else (0, 0, 0)
        row = self.mean.as_dict()
        return {
            "name": row["name"],
            "role": row["role"],
            "seeds": list(self.seeds),
            "steps": list(self.steps),
            "seconds": row["seconds"],
            "baseline": row["baseline"],
            "select": row["select"],
            "report": row["report"],
            "spread": {" ".join(key): value for key, value in self.spread.items()},
            "difference": paired and {**vars(paired), "plus": plus, "minus": minus, "zero": zero},
        }


@dataclass(frozen=True)
class SeedTable:
    """Hold a sweep's results by top-level seed, each with its stem and teacher.

    unit: what the runs differ in; `repeat` where they are the repeats of one sweep, from one stem.
    """

    name: str
    runs: Mapping[int, Results]
    unit: Literal["seed", "repeat"] = "seed"

    @classmethod
    def of_repeats(cls, results: Results) -> SeedTable:
        """Return the repeats of a sweep's trials (`sweep.seeds`) as runs of one table.

        What the trials share, such as stem and teacher, is a row of every run.
        """
        split = [(REPEAT.fullmatch(row.name), row) for row in results.rows]
        runs = {}
        for index in sorted({int(found[2]) for found, _ in split if found}):
            rows = [
                replace(row, name=found[1] if found else row.name, baseline=_point(row.baseline))
                for found, row in split
                if found is None or int(found[2]) == index
            ]
            runs[index] = replace(results, rows=rows)
        return cls(results.name, runs, "repeat")

    def as_dict(self) -> dict[str, Any]:
        """Return the runs as JSON-able values; everything else is computed from them."""
        return {
            "table": self.name,
            "seeds": sorted(self.runs),
            "runs": [self.runs[seed].as_dict() for seed in sorted(self.runs)],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SeedTable:
        """Invert `as_dict`.

        Raises KeyError or TypeError where a key is missing or unknown.
        """
        runs = [Results.from_dict(run) for run in values["runs"]]
        return cls(values["table"], {run.config["seed"]: run for run in runs})

    @classmethod
    def read(cls, path: Path) -> SeedTable:
        """Read a table from its JSON file.

        Raises InputError where the file holds something else.
        """
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: not a table of several seeds ({type(error).__name__}: {error}); "
                f"write it with: python -m orchestrator.table SWEEP.yaml --out {path}"
            ) from None

    def has(self, config: SweepConfig) -> bool:
        """Tell whether the seed of `config` has every row with every score."""
        run = self.runs.get(config.seed)
        if run is None:
            return False
        names = {trial.name for trial in trials(config)}
        reported = all("report" in row.scores for row in run.rows if row.role != "teacher")
        return (
            names <= {row.name for row in run.rows}
            and (reported or config.data.report is None)
            and (any(row.role == "soup" for row in run.rows) or not config.soup.after_sweep)
        )

    def expect(self, config: Mapping[str, Any]) -> None:
        """Raise InputError where the runs were made with another configuration."""
        ours = flatten(config)
        for seed, run in self.runs.items():
            complete = SweepConfig.model_validate(run.config)  # an older file lacks newer keys
            theirs = flatten(complete.model_dump(mode="json"))
            differences = [
                f"{key} {ours[key]} here, {theirs[key]} there"
                for key in sorted(ours.keys() & theirs.keys())
                if not key.startswith(FREE) and ours[key] != theirs[key]
            ]
            if differences:
                raise InputError(
                    f"seed {seed} of table {self.name} has another configuration: "
                    f"{'; '.join(differences)}; give this table another --out, or move that file "
                    "away"
                )

    def with_run(self, results: Results) -> SeedTable:
        """Return a table with these results in place of any of the same seed."""
        return SeedTable(self.name, {**self.runs, results.config["seed"]: results})

    @property
    def split(self) -> Split:
        """The split on which rows are compared: report where any run has one, else select."""
        reported = any(run.config["data"]["report"] for run in self.runs.values())
        return "report" if reported else "select"

    def rows(self) -> list[SeedRow]:
        """Average every row over its seeds; sort by role, then as the sweep does."""
        by_name: dict[str, dict[int, Row]] = {}
        for seed in sorted(self.runs):
            for row in self.runs[seed].rows:
                by_name.setdefault(row.name, {})[seed] = row
        rows = [self._row(by_seed, by_name) for by_seed in by_name.values()]
        return sorted(rows, key=lambda row: ROLES.index(row.mean.role))

    def ahead(self, names: Sequence[str], of: str) -> list[str]:
        """Return those of the rows that are above another by J&F on `split` from every seed.

        A row or the other that lacks a seed's scores is not ahead.
        """
        runs = [{row.name: row for row in run.rows} for run in self.runs.values()]

        def above(name: str, rows: Mapping[str, Row]) -> bool:
            pair = [rows[n].scores.get(self.split) for n in (name, of) if n in rows]
            ours, theirs = pair if len(pair) == 2 else (None, None)
            return ours is not None and theirs is not None and ours.jf > theirs.jf

        return [name for name in names if all(above(name, rows) for rows in runs)]

    def _row(self, by_seed: Mapping[int, Row], by_name: Mapping[str, Mapping[int, Row]]) -> SeedRow:
        rows = list(by_seed.values())
        last = rows[-1]
        scores = {
            split: [row.scores[split] for row in rows if split in row.scores] for split in SPLITS
        }
        seconds = [row.seconds for row in rows if row.seconds is not None]
        return SeedRow(
            mean=Row(
                last.name,
                last.role,
                {split: mean(values) for split, values in scores.items() if values},
                seconds=fmean(seconds) if seconds else None,
                baseline=last.baseline,
            ),
            spread={
                (split, measure): stdev(s.means[measure] for s in values)
                for split, values in scores.items()
                for measure in MEASURES
                if len(values) > 1
            },
            seeds=tuple(by_seed),
            steps=tuple(row.step for row in rows if row.step is not None),
            difference=self._difference(last.name, by_seed, by_name.get(last.baseline or "", {})),
        )

    def _difference(
        self, name: str, ours: Mapping[int, Row], baseline: Mapping[int, Row]
    ) -> Paired | None:
        """Compare J&F on `split` by video, over the seeds that have scores of both rows."""
        pairs = [
            (a, b)
            for seed, row in ours.items()
            if seed in baseline
            and (a := _videos(row, self.split))
            and (b := _videos(baseline[seed], self.split))
        ]
        if not pairs:
            return None
        weights = {video: float(scores.objects) for video, scores in pairs[0][0].items()}
        return compare(
            [_jf(a) for a, _ in pairs],
            [_jf(b) for _, b in pairs],
            weights,
            numpy_generator(0, "bootstrap", name),
        )


def _point(name: str | None) -> str | None:
    """Return the name of a row without the number of its repeat."""
    found = REPEAT.fullmatch(name or "")
    return found[1] if found else name


def _videos(row: Row, split: Split) -> Mapping[str, VideoScores]:
    return row.scores[split].sequences if split in row.scores else {}


def _jf(videos: Mapping[str, VideoScores]) -> dict[str, float]:
    return {name: scores.jf for name, scores in videos.items()}
