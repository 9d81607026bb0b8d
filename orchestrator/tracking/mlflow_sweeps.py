"""Keep the runs of sweeps in MLflow: what was asked, what came out, where it is shown.

A sweep is a parent run. `mlflow_writer` copies the jobs of its child runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.config.loading import resolve, run_of
from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import Started
from orchestrator.tracking.mlflow_names import (
    BEST,
    LONGEST_NOTE,
    NOTE,
    OPENED,
    ROLE,
    SWEEP,
    VIEW_TAG,
)
from orchestrator.tracking.mlflow_store import Connection
from vosmodels.errors import InputError

OF_TRIALS = ("loss.", "train.")  # swept keys that shape neither a teacher nor a stem
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 1000  # MLflow's own limits


class SweepRuns:
    """Writer of the parent runs of one MLflow store."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.store = connection.store
        self._client = connection.client
        self._parents: dict[tuple[str, str], str] = {}
        self._experiments: dict[str, str] = {}  # ids by name
        self.varied: set[str] = set()  # keys of the opened sweep that only trials vary

    def open_sweep(self, config: SweepConfig, sweep: str, text: str = "") -> str:
        """Find or create a sweep's parent run, set it RUNNING and return its run id.

        text: the YAML file, logged as an artifact. Swept keys are no parameters of the parent run.
        Values that may differ between two runs of a sweep (cluster, storage, paths) keep the
        parameters of the first run, which MLflow never changes; config.json has the newest values.
        """
        run_id = self._parent_run(config.name, sweep, mlflow_names.sweep_name(config))
        experiment_id = self._experiment_id(config.name)
        view = mlflow_names.view(sorted(config.sweep.keys))
        self._client.set_experiment_tag(experiment_id, VIEW_TAG, view)
        self.varied = {key for key in config.sweep.keys if key.startswith(OF_TRIALS)}
        flat = mlflow_names.flatten(resolve(config).model_dump(mode="json", exclude={"sweep"}))
        params = self._client.get_run(run_id).data.params
        skip = config.sweep.keys | params.keys()
        self._log_params(run_id, {k: v for k, v in flat.items() if k not in skip})
        self._client.set_tag(run_id, OPENED, str(time.time()))
        self._client.update_run(run_id, status="RUNNING")
        self._client.log_dict(run_id, run_of(config).model_dump(mode="json"), "config.json")
        if text:
            self._client.log_text(run_id, text, "sweep.yaml")
        return run_id

    def log_results(self, experiment: str, sweep: str, results: Mapping[str, Any]) -> None:
        """Log a sweep's results on the parent run, as results.json and table.csv.

        results: {"rows": [{"name", "role", "select": {"j", "f", "jf"}, "report", ...}, ...], ...}
        """
        run_id = self._parent_run(experiment, sweep)
        self._client.log_dict(run_id, dict(results), "results.json")
        rows = [mlflow_names.flat_row(row) for row in results["rows"]]
        self._client.log_text(run_id, mlflow_names.csv_table(rows), "table.csv")

    def log_best(self, experiment: str, sweep: str, name: str, scores: Mapping[str, float]) -> None:
        """Log which row of a sweep is best on its parent run. scores: j, f and jf on select."""
        run_id = self._parent_run(experiment, sweep)
        self._client.set_tag(run_id, BEST, name)
        self._log_metrics(run_id, [(f"best/{key}", scores[key], 0) for key in ("j", "f", "jf")])

    def describe(self, experiment: str, sweep: str, name: str, note: str) -> None:
        """Name a sweep's parent run, and describe it in Markdown."""
        run_id = self._parent_run(experiment, sweep)
        self._client.update_run(run_id, name=name)
        self._client.set_tag(run_id, NOTE, note[:LONGEST_NOTE])

    def log_files(self, experiment: str, sweep: str, files: Sequence[Path]) -> None:
        """Log files, such as figures, on a sweep's parent run, under table/."""
        for file in files:
            self._client.log_artifact(self._parent_run(experiment, sweep), str(file), "table")

    def close_sweep(self, experiment: str, sweep: str, *, status: str = "FINISHED") -> None:
        """End a sweep's parent run. status: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._parent_run(experiment, sweep), status)

    def _parent_run(self, experiment: str, sweep: str, name: str = "") -> str:
        """Return the run id of a sweep's parent run, found by its tag or created with a name."""
        if (experiment, sweep) not in self._parents:
            experiment_id = self._experiment_id(experiment)
            runs = self.connection.sweeps(experiment_id, sweep)
            run = (
                runs[0]
                if runs
                else self._client.create_run(
                    experiment_id,
                    tags={ROLE: "sweep", SWEEP: sweep},
                    run_name=name or f"sweep {sweep[:8]}",
                )
            )
            self._parents[experiment, sweep] = run.info.run_id
        return self._parents[experiment, sweep]

    def _experiment_id(self, name: str) -> str:
        """Return the id of an experiment, found by its name or created. Asks the store once."""
        if name not in self._experiments:
            self._experiments[name] = self._open_experiment(name)
        return self._experiments[name]

    def _open_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            folder = self.store.artifacts
            location = str(folder / name) if folder else None
            # MLflow then opens on runs and models, not on its pages for language agents.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(self._client.create_experiment(name, artifact_location=location, tags=kind))
        if experiment.lifecycle_stage != "active":
            raise InputError(
                f"{self.store.uri}: experiment {name!r} was deleted; choose another `name`, or "
                f"restore it: mlflow experiments restore -x {experiment.experiment_id}"
            )
        return str(experiment.experiment_id)

    def _log_params(self, run_id: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in values.items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])

    def _log_metrics(
        self,
        run_id: str,
        numbers: Sequence[tuple[str, float, int]],
        first: Started | None = None,
        model_id: str | None = None,
        times: Mapping[tuple[str, int], float] = {},
    ) -> None:
        """Log metrics by log_batch, which unlike mlflow.log_metric adds none to models.

        times: of some metrics and steps, in seconds since 1970; of the others it is now.
        """
        from mlflow.entities import Metric

        now = time.time()
        metrics = []
        for name, value, step in numbers:
            data = mlflow_names.dataset_of(name, first.config) if first else None
            metrics.append(
                Metric(
                    name,
                    value,
                    int(times.get((name, step), now) * 1000),
                    step,
                    model_id=model_id,
                    dataset_name=data.name if data else None,
                    dataset_digest=data.digest if data else None,
                )
            )
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])
