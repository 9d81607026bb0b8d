"""What MLflow shows of the ledger; `catalogue` finds it again.

The driver alone writes here: jobs write the ledger, `Tracker.project` copies it. It can be called
at any time, by any later process: what is already there, by (job key, step, sha256), stays.

A sweep is a parent run, a job one child run for life. A checkpoint is a LoggedModel linked to its
run: MLflow's models can be sorted by score, plain artifacts cannot. `records` has the names.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.config.loading import resolve
from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import Checkpoint, Event, Picture, Souped, Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_names import ANCESTOR, KEY, OPENED, ROLE, SHA256, STEP, SWEEP
from orchestrator.tracking.mlflow_store import Connection
from vosmodels.errors import InputError

PARENT = "mlflow.parentRunId"
PARAMS_AT_ONCE, METRICS_AT_ONCE = 100, 1000  # MLflow's own limits
ENDED = {"done": "FINISHED", "failed": "FAILED", "running": "RUNNING"}


@dataclass
class _Shown:
    """What MLflow already has of one job."""

    run_id: str
    experiment_id: str
    status: str
    metrics: set[tuple[str, int]]
    models: dict[tuple[int, str], str]  # (step, sha256) -> model id, READY ones
    halves: dict[tuple[int, str], str]  # left by a driver that died in between
    pictures: set[str]
    sweeps: set[str] = field(default_factory=set)
    souped: bool = False


class Tracker:
    """Writes to one MLflow store."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.store = connection.store
        self._client = connection.client
        self._shown: dict[str, _Shown] = {}
        self._parents: dict[tuple[str, str], str] = {}

    def open_sweep(self, config: SweepConfig, sweep: str, text: str = "") -> str:
        """Run id of the sweep's parent run, made or found again and set RUNNING.

        text: the YAML file, kept as an artifact. Swept keys are no parameters of the sweep. What
        may differ from one run of a sweep to the next (cluster, storage, where a folder lies) is
        a parameter as it was first, as MLflow has it; config.json is as it is now.
        """
        run_id = self._parent(config.name, sweep)
        flat = mlflow_names.flatten(resolve(config).model_dump(mode="json", exclude={"sweep"}))
        known = self._client.get_run(run_id).data.params
        left_out = config.sweep.keys | known.keys()
        self._log_params(run_id, {k: v for k, v in flat.items() if k not in left_out})
        self._client.set_tag(run_id, OPENED, str(time.time()))
        self._client.update_run(run_id, status="RUNNING")
        here = {"storage": str(config.storage_root)}  # absolute: it is read from anywhere
        run = resolve(config).model_copy(update=here).model_dump(mode="json", exclude={"sweep"})
        self._client.log_dict(run_id, run, "config.json")
        if text:
            self._client.log_text(run_id, text, "sweep.yaml")
        return run_id

    def log_results(self, experiment: str, sweep: str, results: Mapping[str, Any]) -> None:
        """A sweep's results on its parent run: results.json, table.csv, best scores as metrics.

        results: {"rows": [{"name", "role", "select": {"j", "f", "jf"}, "report", ...}, ...], ...}
        """
        run_id = self._parent(experiment, sweep)
        self._client.log_dict(run_id, dict(results), "results.json")
        rows = [mlflow_names.flat_row(row) for row in results["rows"]]
        self._client.log_text(run_id, mlflow_names.table(rows), "table.csv")
        chosen = [row for row in results["rows"] if row["role"] in ("trial", "soup")]
        if chosen:
            best = max(chosen, key=lambda row: row["select"].get("jf", 0.0))
            self._client.set_tag(run_id, "vos.best", best["name"])
            numbers = [(f"best/{k}", best["select"][k], 0) for k in ("j", "f", "jf")]
            self._log_metrics(run_id, numbers)

    def log_files(self, experiment: str, sweep: str, files: Sequence[Path]) -> None:
        """Files that tell of more than this sweep, on its parent run under table/."""
        for file in files:
            self._client.log_artifact(self._parent(experiment, sweep), str(file), "table")

    def close_sweep(self, experiment: str, sweep: str, *, status: str = "FINISHED") -> None:
        """End the parent run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._parent(experiment, sweep), status)

    def project(self, job: JobRecord, sweep: str | None = None) -> None:
        """Copy what is new of a job. `sweep`: the sweep that uses it, where another trained it."""
        events = job.events()
        first = next((event for event in events if isinstance(event, Started)), None)
        if first is None:
            return
        if job.key not in self._shown:
            self._shown[job.key] = self._look_up(job.key, first)
        shown = self._shown[job.key]
        self._show_numbers(shown, events, first)
        for event in events:
            if isinstance(event, Checkpoint) and (event.step, event.sha256) not in shown.models:
                self._show_checkpoint(job, shown, first, event)
            elif isinstance(event, Picture) and Path(event.path).name not in shown.pictures:
                self._client.log_artifact(shown.run_id, str(job.storage / event.path), "images")
                shown.pictures.add(Path(event.path).name)
            elif isinstance(event, Souped) and not shown.souped:
                self._client.log_dict(shown.run_id, asdict(event), "soup.json")
                text = mlflow_names.table(event.decisions)
                self._client.log_text(shown.run_id, text, "decisions.csv")
                shown.souped = True
        self._share(shown, {first.sweep, sweep or first.sweep})
        self._show_state(job, shown)

    def kill_orphans(self, ledger: Ledger, experiment: str) -> list[str]:
        """Set KILLED every run shown as RUNNING whose job no process is at; returns their keys."""
        killed = []
        experiment_id = self.connection.experiment(experiment).experiment_id
        for run in self.connection.runs(experiment_id, "status = 'RUNNING'"):
            key = run.data.tags.get(KEY)
            if key and not ledger.job(key).claimed:
                self._client.set_terminated(run.info.run_id, "KILLED")
                self._shown.pop(key, None)
                killed.append(key)
        return killed

    def _look_up(self, key: str, first: Started) -> _Shown:
        """The job's run as MLflow has it, made where it is new."""
        experiment_id = self._made_experiment(first.experiment)
        runs = self.connection.runs(experiment_id, f"tags.`{KEY}` = '{key}'")
        if runs:
            run = self._client.get_run(runs[0].info.run_id)
        else:
            parent = self._parent(first.experiment, first.sweep)
            tags = {ROLE: first.role, KEY: key, SWEEP: first.sweep, PARENT: parent}
            if first.ancestor:
                tags[ANCESTOR] = first.ancestor
            run = self._client.create_run(
                experiment_id, int(first.time * 1000), tags=tags, run_name=first.name
            )
            self._log_params(run.info.run_id, mlflow_names.flatten(first.config))
        run_id = run.info.run_id
        ready: dict[tuple[int, str], str] = {}
        halves: dict[tuple[int, str], str] = {}
        for model in self.connection.models(experiment_id, f"source_run_id = '{run_id}'"):
            mark = (int(model.tags[STEP]), model.tags[SHA256])
            (ready if model.status == "READY" else halves)[mark] = model.model_id
        return _Shown(
            run_id=run_id,
            experiment_id=experiment_id,
            status=run.info.status,
            metrics={
                (name, point.step)
                for name in run.data.metrics
                for point in self._client.get_metric_history(run_id, name)
            },
            models=ready,
            halves=halves,
            pictures={Path(f.path).name for f in self._client.list_artifacts(run_id, "images")},
        )

    def _show_numbers(self, shown: _Shown, events: Sequence[Event], first: Started) -> None:
        """Metrics that are not there yet; of a checkpoint the numbers go with its model."""
        new: list[tuple[str, float, int]] = []
        for event in events:
            for name, value, step in mlflow_names.numbers(event):
                if (name, step) not in shown.metrics:
                    shown.metrics.add((name, step))
                    new.append((name, value, step))
        self._log_metrics(shown.run_id, new, first)

    def _show_checkpoint(
        self, job: JobRecord, shown: _Shown, first: Started, event: Checkpoint
    ) -> None:
        """A LoggedModel, READY only when all of it is there: file, link, scores."""
        from mlflow.entities import LoggedModelOutput

        mark = (event.step, event.sha256)
        file = job.storage / event.path
        if not file.is_file():
            raise InputError(f"{file}: gone, but job {job.key} has it at step {event.step}")
        model_id = shown.halves.pop(mark, None)
        if model_id is None:
            ancestor = event.ancestor or first.ancestor
            tags = {ROLE: first.role, KEY: job.key, STEP: str(event.step), SHA256: event.sha256}
            model_id = self._client.create_logged_model(
                shown.experiment_id,
                name=mlflow_names.model_name(job.key, event.step),
                source_run_id=shown.run_id,
                tags={**tags, **({ANCESTOR: ancestor} if ancestor else {})},
                params={"step": str(event.step), "job": first.name},
            ).model_id
        self._client.log_model_artifact(model_id, str(file))
        outputs = self._client.get_run(shown.run_id).outputs
        if not any(m.model_id == model_id for m in (outputs.model_outputs if outputs else ())):
            self._client.log_outputs(shown.run_id, [LoggedModelOutput(model_id, event.step)])
        if not self._client.get_logged_model(model_id).metrics:
            numbers = [(n, v, event.step) for n, v in mlflow_names.select_numbers(event)]
            self._log_metrics(shown.run_id, numbers, first, model_id=model_id)
        self._client.finalize_logged_model(model_id, "READY")
        shown.models[mark] = model_id
        shown.sweeps.clear()

    def _share(self, shown: _Shown, sweeps: set[str]) -> None:
        """Tag every checkpoint of the job with the sweeps it belongs to."""
        if sweeps <= shown.sweeps:
            return
        for model_id in shown.models.values():
            tags = {mlflow_names.sweep_tag(sweep): "yes" for sweep in sorted(sweeps)}
            self._client.set_logged_model_tags(model_id, tags)
        shown.sweeps |= sweeps

    def _show_state(self, job: JobRecord, shown: _Shown) -> None:
        state = job.state
        status = ENDED[state]
        if status != shown.status:
            if warnings := job.warnings():
                self._client.set_tag(shown.run_id, "vos.warning", warnings)
            if failure := job.failed():
                self._client.set_tag(shown.run_id, "vos.error", failure.error)
            if state == "running":
                self._client.update_run(shown.run_id, status=status)
            else:
                self._client.set_terminated(shown.run_id, status)
            shown.status = status

    def _parent(self, experiment: str, sweep: str) -> str:
        """Run id of a sweep's parent run; found by its tag, made where it is new."""
        if (experiment, sweep) not in self._parents:
            experiment_id = self._made_experiment(experiment)
            runs = self.connection.sweeps(experiment_id, sweep)
            run = (
                runs[0]
                if runs
                else self._client.create_run(
                    experiment_id, tags={ROLE: "sweep", SWEEP: sweep}, run_name=f"sweep {sweep[:8]}"
                )
            )
            self._parents[experiment, sweep] = run.info.run_id
        return self._parents[experiment, sweep]

    def _made_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            folder = self.store.artifacts
            location = str(folder / name) if folder else None
            # Opens on runs and models, not on the pages for language agents.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            made = self._client.create_experiment(name, artifact_location=location, tags=kind)
            return str(made)
        if found.lifecycle_stage != "active":
            raise InputError(
                f"{self.store.uri}: experiment {name!r} was deleted; choose another `name`, or "
                f"restore it: mlflow experiments restore -x {found.experiment_id}"
            )
        return str(found.experiment_id)

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
    ) -> None:
        """By log_batch: unlike mlflow.log_metric it adds no numbers to models unasked."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = []
        for name, value, step in numbers:
            data = mlflow_names.dataset_of(name, first.config) if first else None
            metrics.append(
                Metric(
                    name,
                    value,
                    now,
                    step,
                    model_id=model_id,
                    dataset_name=data.name if data else None,
                    dataset_digest=data.digest if data else None,
                )
            )
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])
