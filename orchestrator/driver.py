"""Drives a plan to its end: what is done stays done, the rest runs on Ray, rows come out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout

from orchestrator import workers
from orchestrator.config import RunConfig
from orchestrator.evaluation import (
    Scorer,
    Task,
    per_sequence,
    score_all,
    student_of,
    summary,
)
from orchestrator.ledger import Checkpoint, Evaluated, Failed, Ledger
from orchestrator.live import Watch
from orchestrator.placement import Placement, cores, place
from orchestrator.plan import Job, Plan
from orchestrator.results import Row
from orchestrator.storage import Storage
from orchestrator.tracking import Tracker
from vosmodels import checkpoint
from vosmodels.evaluation.runner import Scores
from vosmodels.jsonfile import read_json, write_json
from vosmodels.spacetime import SpaceTimeNetwork
from vosmodels.types import InputError

logger = logging.getLogger(__name__)

Nodes = Sequence[dict[str, float]]


@dataclass(frozen=True)
class Failure:
    """A job that did not get to its end."""

    job: Job
    error: str
    log: str


@dataclass(frozen=True)
class Outcome:
    """What became of a plan's jobs."""

    failures: tuple[Failure, ...]
    peak_mib: float | None  # None where it was not measured
    placement: str


def nodes_of(config: RunConfig) -> Nodes:
    """Resources of each node of the cluster, or of this machine where there is none."""
    import torch

    if config.cluster.address is None:
        return [{"CPU": float(cores()), "GPU": float(torch.cuda.device_count())}]
    try:
        return workers.start(config.cluster.address, dashboard=False)
    finally:
        workers.stop()


def threads_of(config: RunConfig, storage: Storage, sweep: str, jobs: int) -> int:
    """CPU threads per worker. Settled once per sweep, because the trials' keys hold it: a sweep
    that is extended, or runs again on a larger machine, does not train anew what is done."""
    if config.cluster.threads is not None:
        return config.cluster.threads
    known = read_json(storage.sweeps / f"{sweep}.json")
    if known is not None:
        return int(known["threads"])
    return placement(config, nodes_of(config), jobs, None).threads


def remember(config: RunConfig, storage: Storage, sweep: str, threads: int) -> None:
    """Keep the sweep as it was resolved, with its thread count."""
    settled = {"threads": threads, "config": config.model_dump(mode="json")}
    write_json(storage.sweeps / f"{sweep}.json", settled)


@contextmanager
def only_driver(storage: Storage, sweep: str) -> Iterator[None]:
    """One driver per sweep; InputError for the second."""
    storage.sweeps.mkdir(parents=True, exist_ok=True)
    lock = FileLock(storage.sweeps / f"{sweep}.lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"{lock.lock_file}: this sweep is being run by another process; "
            "wait for it, or stop it, and run the same command again"
        ) from None


def unfinished(jobs: Sequence[Job], storage: Storage) -> list[Job]:
    """The jobs without a last line `done`."""
    ledger = Ledger(storage.root)
    return [job for job in jobs if ledger.job(job.key).state != "done"]


def execute(plan: Plan, config: RunConfig, storage: Storage, tracker: Tracker) -> Outcome:
    """Run what is not done, round by round; a job that fails leaves the others alone."""
    ledger = Ledger(storage.root)
    if not unfinished(plan.jobs, storage):
        for job in plan.jobs:
            tracker.project(ledger.job(job.key), plan.sweep)
        return Outcome((), None, "nothing was left to train")
    told, peaks = "", list[float]()
    nodes = workers.start(config.cluster.address, dashboard=config.cluster.workers > 1)
    try:
        for number, round_ in enumerate(plan.rounds):
            todo = unfinished(round_, storage)
            with Watch(round_, ledger, lambda record: tracker.project(record, plan.sweep)) as watch:
                if todo:
                    placed = placement(config, nodes, len(todo), todo[0].threads)
                    told = describe(placed)
                    name = f"{plan.sweep}-{number}-{todo[0].key}"
                    workers.run_round(todo, storage, placed, name)
            if watch.peak_mib is not None:
                peaks.append(watch.peak_mib)
            failures = _failures(round_, storage)
            if failures and number == 0:
                break  # nothing to start from, or to learn from
    finally:
        workers.stop()
    return Outcome(tuple(failures), max(peaks, default=None), told)


def placement(config: RunConfig, nodes: Nodes, jobs: int, threads: int | None) -> Placement:
    """Where so many jobs of this configuration fit."""
    cluster = config.cluster
    return place(
        nodes,
        jobs=jobs,
        workers=cluster.workers,
        gpus_per_worker=cluster.gpus_per_worker,
        threads=threads,
    )


def describe(placement: Placement) -> str:
    """In words: how many at once, each with what."""
    gpus = f", {placement.gpus:g} GPU" if placement.gpus else ""
    backend = "" if placement.workers == 1 else " nccl" if placement.gpus else " gloo"
    return (
        f"{placement.at_once} at a time, each {placement.workers}{backend} "
        f"worker{'s' * (placement.workers > 1)} x {placement.threads} "
        f"thread{'s' * (placement.threads > 1)}{gpus}"
    )


def _failures(jobs: Sequence[Job], storage: Storage) -> list[Failure]:
    ledger = Ledger(storage.root)
    found = []
    for job in unfinished(jobs, storage):
        record = ledger.job(job.key)
        failed = record.failed()
        stall_s = job.config.cluster.stall_s
        silent = f"its process was killed, or stood still for {stall_s:g} s (cluster.stall_s)"
        error = failed.error if failed else silent
        if failed is None and record.state == "running":
            with record.claim():
                record.write(Failed(error=error, log=str(storage.log(job.key))))
        found.append(Failure(job, error, str(storage.log(job.key))))
    return found


@dataclass(frozen=True)
class _Entry:
    """A checkpoint that has a row of its own."""

    job: Job
    made: Checkpoint
    name: str
    role: str


class Table:
    """The rows of a plan, from the ledger and from scores computed once."""

    def __init__(self, plan: Plan, config: RunConfig, storage: Storage) -> None:
        self.plan = plan
        self.config = config
        self.storage = storage
        self.ledger = Ledger(storage.root)
        self.select = Scorer.choosing(storage, config.data)
        report = config.data.report
        self.report = Scorer.reporting(storage, config.data, report) if report else None

    def rows(self) -> list[Row]:
        """Anchors, teacher, and the best checkpoint by select J&F of every trial."""
        entries = self._entries()
        threads = self.plan.trials[0].threads
        score_all(self._unscored(entries), at_once=cores() // threads, threads=threads)
        copied = self.report.copy() if self.report else None
        first = Row(
            "first-frame copy",
            "anchor",
            _with_sequences(self.select.copy()),
            _with_sequences(copied) if copied else {},
        )
        return [first, *(self._row(entry) for entry in entries)]

    def _entries(self) -> list[_Entry]:
        found = []
        for stem in self.plan.stems:
            several = f" ({stem.key[:8]})" if len(self.plan.stems) > 1 else ""
            names = {0: "untrained student", stem.train.steps: "stem: cross-entropy only"}
            for made in self.ledger.job(stem.key).checkpoints():
                found.append(_Entry(stem, made, names[made.step] + several, "anchor"))
        if self.plan.teacher:
            for made in self.ledger.job(self.plan.teacher.key).checkpoints()[-1:]:
                found.append(_Entry(self.plan.teacher, made, "teacher", "teacher"))
        for trial in self.plan.trials:
            record = self.ledger.job(trial.key)
            if record.state == "done":
                best = max(record.checkpoints(), key=lambda c: (c.scores["jf"], c.sha256))
                found.append(_Entry(trial, best, trial.name, "trial"))
        return found

    def _unscored(self, entries: Sequence[_Entry]) -> list[Task]:
        """What lacks scores; jobs keep the select scores of their own checkpoints, so here it is
        the report, and the select split where it is another than when they ran."""
        tasks = []
        for entry in entries:
            for scorer in (self.select, self.report if entry.role != "teacher" else None):
                if scorer is not None and not scorer.known(entry.made.sha256):
                    report = self.config.data.report if scorer is self.report else None
                    made = entry.made.sha256, entry.job.model, self.storage, self.config.data
                    tasks.append(Task(*made, report))
        return tasks

    def soup(self, sha256: str, note: str) -> Row:
        """The row of a soup of the plan's trials."""
        load = self._loader(sha256, self.plan.trials[0])
        select = self.select.checkpoint(sha256, load)
        report = self.report.checkpoint(sha256, load) if self.report else None
        return Row(
            "greedy soup",
            "soup",
            _with_sequences(select),
            _with_sequences(report) if report else {},
            sha256=sha256,
            note=note,
        )

    def _row(self, entry: _Entry) -> Row:
        job, made = entry.job, entry.made
        load = self._loader(made.sha256, job)
        select = self.select.checkpoint(made.sha256, load)
        report = None
        if self.report and entry.role != "teacher":
            report = self.report.checkpoint(made.sha256, load)
            self._record(job, made, report)
        done = self.ledger.job(job.key).done()
        whole = done if job.role != "stem" or made.step == job.train.steps else None
        return Row(
            entry.name,
            entry.role,
            _with_sequences(select),
            _with_sequences(report) if report else {},
            step=made.step,
            sha256=made.sha256,
            seconds=whole.seconds if whole else None,
            peak_mib=whole.peak_mib if whole else None,
        )

    def _record(self, job: Job, made: Checkpoint, scores: Scores) -> None:
        """Report scores go to the ledger too, so that MLflow shows them."""
        record = self.ledger.job(job.key)
        known = [e for e in record.of(Evaluated) if e.split == "report" and e.step == made.step]
        if not known:
            with record.claim():
                record.write(Evaluated(step=made.step, scores=summary(scores), split="report"))

    def _loader(self, sha256: str, job: Job) -> Any:
        def load() -> SpaceTimeNetwork:
            tensors, _ = checkpoint.read(self.storage.checkpoint(sha256))
            return student_of(job.model, tensors)

        return load


def _with_sequences(scores: Scores) -> dict[str, Any]:
    return {**summary(scores), "sequences": per_sequence(scores)}
