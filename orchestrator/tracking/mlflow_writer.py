"""Copy the ledger to MLflow; `mlflow_reader` reads the copy.

Only the driver calls this module: jobs write the ledger, and `Tracker.project` copies it.
Any process may repeat the copy at any time: `project` skips what MLflow already has, by
(job key, step, sha256).

A sweep is a parent run, a job is one child run over all its attempts. A checkpoint is a LoggedModel
linked to its run, since MLflow sorts models by score but not artifacts. `mlflow_names` has the
names of tags and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import Checkpoint, Event, Picture, Souped, Started, Taught, Usage
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_names import (
    ANCESTOR,
    KEY,
    LABELS,
    REPLACED,
    ROLE,
    SHA256,
    STEP,
    SWEEP,
)
from orchestrator.tracking.mlflow_store import Connection
from orchestrator.tracking.mlflow_sweeps import SweepRuns
from vosmodels.errors import InputError
from vosmodels.support.digests import check_sha256

PARENT = "mlflow.parentRunId"
ENDED = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "running": "RUNNING"}


@dataclass
class _JobRun:
    """A job's run in MLflow, with the part of the job that MLflow already has.

    events: how many of the ledger's it has; tagged: sweeps that each model is tagged with.
    """

    run_id: str
    experiment_id: str
    status: str
    metrics: set[tuple[str, int]]
    models: dict[tuple[int, str], str]  # (step, sha256) -> model id, READY ones
    unfinished: dict[tuple[int, str], list[str]]  # same, not READY: their copy was cut off
    pictures: dict[str, int]  # bytes by name
    tagged: dict[str, set[str]]
    events: int = 0
    has_soup: bool = False
    has_labels: bool = False


@dataclass(frozen=True)
class SweepPages:
    """Addresses below that of MLflow's server.

    runs: of the experiment's runs; artifacts: what the name of a file that `log_files` logged
    completes; jobs: of the runs of jobs, by key.
    """

    runs: str
    artifacts: str
    jobs: Mapping[str, str]


class Tracker(SweepRuns):
    """Writer to one MLflow store: the runs of sweeps and those of their jobs."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._job_runs: dict[str, _JobRun] = {}

    def pages(self, experiment: str, sweep: str) -> SweepPages:
        """Return the addresses of a sweep's pages, and of the runs of the jobs copied so far."""
        parent, experiment_id = self._parent_run(experiment, sweep), self._experiment_id(experiment)
        return SweepPages(
            runs=mlflow_names.runs_page(experiment_id),
            artifacts=f"get-artifact?run_uuid={parent}&path=table/",
            jobs={
                key: mlflow_names.run_page(run.experiment_id, run.run_id)
                for key, run in self._job_runs.items()
            },
        )

    def project(self, job: JobRecord, sweep: str | None = None) -> None:
        """Copy new events of a job to MLflow.

        sweep: id of the sweep that uses the job, where another sweep trained it.
        Raises InputError where the file of a checkpoint is missing. After an error the next copy
        reads first what MLflow has: the store may have taken what it did not confirm.
        """
        events = job.events()
        first = next((event for event in events if isinstance(event, Started)), None)
        if first is None:
            return
        known = self._job_runs.get(job.key)
        if known is None or len(events) < known.events:  # the ledger may have been set aside
            self._job_runs[job.key] = self._find_or_create_run(job.key, first)
        try:
            self._copy(job, events, first, self._job_runs[job.key], sweep)
        except InputError:  # of a file of ours: MLflow has what it was given
            raise
        except BaseException:
            del self._job_runs[job.key]
            raise

    def log_job_files(self, job: JobRecord, files: Sequence[Path], folder: str) -> None:
        """Log files on a job's run in MLflow, in a folder there. Raises InputError as `project`."""
        self.project(job)
        for file in files:
            self._client.log_artifact(self._job_runs[job.key].run_id, str(file), folder)

    def has(self, job: JobRecord) -> bool:
        """Return whether this tracker has copied all events of a job; one without any has none."""
        known = self._job_runs.get(job.key)
        return (known.events if known else 0) == len(job.events())

    def _copy(
        self,
        job: JobRecord,
        events: Sequence[Event],
        first: Started,
        job_run: _JobRun,
        sweep: str | None,
    ) -> None:
        """Copy what a job's run in MLflow lacks."""
        new = events[job_run.events :]
        self._log_new_metrics(job_run, new, first)
        for event in new:
            if isinstance(event, Checkpoint) and (event.step, event.sha256) not in job_run.models:
                self._log_checkpoint(job, job_run, first, event)
            elif isinstance(event, Picture):
                self._log_picture(job.storage / event.path, job_run)
            elif isinstance(event, Souped) and not job_run.has_soup:
                models = self._tried(job_run, event)
                self._client.log_dict(job_run.run_id, asdict(event) | models, "soup.json")
                text = mlflow_names.csv_table(event.decisions)
                self._client.log_text(job_run.run_id, text, "decisions.csv")
                job_run.has_soup = True
            elif isinstance(event, Taught) and not job_run.has_labels:
                self._client.set_tag(job_run.run_id, LABELS, event.describe())
                job_run.has_labels = True
        self._tag_sweeps(job_run, {first.sweep, sweep or first.sweep})
        if new:
            self._update_status(job, job_run)
        job_run.events = len(events)

    def _tried(self, job_run: _JobRun, event: Souped) -> dict[str, Any]:
        """Return the ids of the models that a soup tried, by sha256, as far as they are here."""
        tried = {turn["sha256"] for turn in event.decisions}
        models = self.connection.models(job_run.experiment_id)
        ids = {model.tags.get(SHA256): model.model_id for model in models}
        return {"models": {sha256: ids[sha256] for sha256 in sorted(tried & ids.keys())}}

    def kill_orphans(self, ledger: Ledger, experiment: str) -> list[str]:
        """Set runs to KILLED that are RUNNING without a process; return the jobs' keys."""
        keys = []
        experiment_id = self.connection.experiment(experiment).experiment_id
        for run in self.connection.runs(experiment_id, "status = 'RUNNING'"):
            key = run.data.tags.get(KEY)
            if key and not ledger.job(key).claimed:
                self._client.set_terminated(run.info.run_id, "KILLED")
                self._job_runs.pop(key, None)
                keys.append(key)
        return keys

    def _find_or_create_run(self, key: str, first: Started) -> _JobRun:
        """Find a job's run in MLflow, or create one, and read what it holds.

        A job whose ledger was set aside and that is trained again gets another run: the start of
        a run is that of the ledger.
        """
        experiment_id = self._experiment_id(first.experiment)
        start = int(first.time * 1000)
        runs = self.connection.runs(experiment_id, f"tags.`{KEY}` = '{key}'")
        ours = [run for run in runs if run.info.start_time == start]
        if ours:
            run = self._client.get_run(ours[0].info.run_id)
        else:
            parent = self._parent_run(first.experiment, first.sweep)
            tags = {ROLE: first.role, KEY: key, SWEEP: first.sweep, PARENT: parent}
            if first.ancestor:
                tags[ANCESTOR] = first.ancestor
            run = self._client.create_run(experiment_id, start, tags=tags, run_name=first.name)
        there = run.data.params
        if first.role == "trial" or not there:  # the copy may have been cut off right before
            # a teacher's configuration is the whole file's: names of points are no parameters
            params = mlflow_names.flatten({k: v for k, v in first.config.items() if k != "sweep"})
            if first.role != "trial":  # a chart of a swept key shows no job that does not vary it
                params = {k: v for k, v in params.items() if k not in self.varied}
            self._log_params(run.info.run_id, {k: v for k, v in params.items() if k not in there})
        run_id = run.info.run_id
        for earlier in runs:
            if earlier.info.start_time < start and REPLACED not in earlier.data.tags:
                self._replace(earlier.info.run_id, experiment_id, run_id)
        ready: dict[tuple[int, str], str] = {}
        unfinished: dict[tuple[int, str], list[str]] = {}
        tagged: dict[str, set[str]] = {}
        for model in self.connection.models(experiment_id, f"source_run_id = '{run_id}'"):
            mark = (int(model.tags[STEP]), model.tags[SHA256])
            tagged[model.model_id] = mlflow_names.sweeps_of(model.tags)
            if model.status == "READY":
                ready[mark] = model.model_id
            else:
                unfinished.setdefault(mark, []).append(model.model_id)
        for mark in unfinished.keys() & ready.keys():  # of a copy that another one has completed
            for model_id in unfinished.pop(mark):
                self._client.delete_logged_model(model_id)
        return _JobRun(
            run_id=run_id,
            experiment_id=experiment_id,
            status=run.info.status,
            metrics={
                (name, point.step)
                for name in run.data.metrics
                for point in self._client.get_metric_history(run_id, name)
            },
            models=ready,
            unfinished=unfinished,
            pictures={
                Path(file.path).name: file.file_size
                for file in self._client.list_artifacts(run_id, "images")
            },
            tagged=tagged,
        )

    def _replace(self, earlier: str, experiment_id: str, run_id: str) -> None:
        """Take the models of an earlier run of a job from the sweeps; run and models stay."""
        for model in self.connection.models(experiment_id, f"source_run_id = '{earlier}'"):
            for tag in model.tags:
                if tag.startswith(f"{SWEEP}."):
                    self._client.delete_logged_model_tag(model.model_id, tag)
        self._client.set_tag(earlier, REPLACED, run_id)

    def _log_new_metrics(self, job_run: _JobRun, events: Sequence[Event], first: Started) -> None:
        """Log the metrics that MLflow lacks, without those of checkpoints."""
        new: list[tuple[str, float, int]] = []
        times: dict[tuple[str, int], float] = {}
        for event in events:
            for name, value, step in mlflow_names.metrics_of(event):
                if (name, step) not in job_run.metrics:
                    job_run.metrics.add((name, step))
                    new.append((name, value, step))
                    if isinstance(event, Usage):  # charts of these are over time
                        times[name, step] = event.time
        self._log_metrics(job_run.run_id, new, first, times=times)

    def _log_picture(self, file: Path, job_run: _JobRun) -> None:
        """Log a picture, unless it is there whole: a server that was killed may have a part."""
        there = job_run.pictures.get(file.name)
        if there is None or (file.is_file() and file.stat().st_size != there):
            self._client.log_artifact(job_run.run_id, str(file), "images")
            job_run.pictures[file.name] = file.stat().st_size

    def _log_checkpoint(
        self, job: JobRecord, job_run: _JobRun, first: Started, event: Checkpoint
    ) -> None:
        """Log a checkpoint as a LoggedModel, READY once file, link and scores are logged.

        Raises InputError where the checkpoint's file is missing or is not the one recorded.
        """
        from mlflow.entities import LoggedModelOutput

        mark = (event.step, event.sha256)
        file = job.storage / event.path
        if not file.is_file():
            raise InputError(f"{file}: gone, but job {job.key} has it at step {event.step}")
        check_sha256(file, event.sha256, job.remedy, named_in=job.recorded)
        started = job_run.unfinished.pop(mark, [])
        if started:
            model_id, *more = started
            for duplicate in more:
                self._client.delete_logged_model(duplicate)
        else:
            ancestor = event.ancestor or first.ancestor
            tags = {ROLE: first.role, KEY: job.key, STEP: str(event.step), SHA256: event.sha256}
            model_id = self._client.create_logged_model(
                job_run.experiment_id,
                name=mlflow_names.model_name(first.name, event.step),
                source_run_id=job_run.run_id,
                tags={**tags, **({ANCESTOR: ancestor} if ancestor else {})},
                params={"step": str(event.step), "job": first.name},
            ).model_id
        self._client.log_model_artifact(model_id, str(file))
        outputs = self._client.get_run(job_run.run_id).outputs if started else None
        if not any(m.model_id == model_id for m in (outputs.model_outputs if outputs else ())):
            self._client.log_outputs(job_run.run_id, [LoggedModelOutput(model_id, event.step)])
        if not (started and self._client.get_logged_model(model_id).metrics):
            numbers = [(n, v, event.step) for n, v in mlflow_names.checkpoint_metrics(event)]
            self._log_metrics(job_run.run_id, numbers, first, model_id=model_id)
        self._client.finalize_logged_model(model_id, "READY")
        job_run.models[mark] = model_id

    def _tag_sweeps(self, job_run: _JobRun, sweeps: set[str]) -> None:
        """Tag every checkpoint of a job with the sweeps that trained or used it."""
        for model_id in job_run.models.values():
            there = job_run.tagged.setdefault(model_id, set())
            if sweeps - there:
                tags = {mlflow_names.sweep_tag(sweep): "yes" for sweep in sorted(sweeps - there)}
                self._client.set_logged_model_tags(model_id, tags)
                there |= sweeps

    def _update_status(self, job: JobRecord, job_run: _JobRun) -> None:
        state = job.state
        status = ENDED[state]
        if status != job_run.status:
            if warnings := job.warnings():
                self._client.set_tag(job_run.run_id, "vos.warning", warnings)
            if failure := job.failed():
                self._client.set_tag(job_run.run_id, "vos.error", failure.error)
            if stopped := job.stopped():
                said = f"by {stopped.why} at step {stopped.at}"
                self._client.set_tag(job_run.run_id, "vos.stopped", said)
            if state == "running":
                self._client.update_run(job_run.run_id, status=status)
            else:
                self._client.set_terminated(job_run.run_id, status)
            job_run.status = status
