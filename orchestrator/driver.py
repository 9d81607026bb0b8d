"""Drives a plan to its end: what is done stays done, the rest runs on Ray, rows come out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from filelock import FileLock, Timeout

from orchestrator import workers
from orchestrator.config import RunConfig, SweepConfig
from orchestrator.evaluation import (
    BOUNDARY,
    FIRST_FRAME_COPY,
    Scorer,
    Task,
    per_sequence,
    score_all,
    student_of,
    summary,
)
from orchestrator.grid import trials
from orchestrator.ledger import Checkpoint, Evaluated, Failed, Ledger
from orchestrator.ledger import Job as Record
from orchestrator.live import Watch
from orchestrator.placement import Placement, cores, place
from orchestrator.plan import Job, Plan
from orchestrator.results import COPY, Row
from orchestrator.storage import Storage
from orchestrator.tracking import Tracker
from vosmodels import checkpoint
from vosmodels.files import read_json, write_json
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


def execute(
    plan: Plan,
    config: RunConfig,
    storage: Storage,
    tracker: Tracker,
    on_done: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run what is not done, round by round; a job that fails leaves the others alone. on_done is
    called when a job has come to its end, from the thread that watches them."""
    ledger = Ledger(storage.root)
    ended: set[str] = set()

    def follow(record: Record) -> None:
        tracker.project(record, plan.sweep)
        if record.state == "done" and record.key not in ended:
            ended.add(record.key)
            on_done()

    if not unfinished(plan.jobs, storage):
        for job in plan.jobs:
            tracker.project(ledger.job(job.key), plan.sweep)
        return Outcome((), None, "nothing was left to train")
    told, peaks = "", list[float]()
    nodes = workers.start(config.cluster.address, dashboard=config.cluster.workers > 1)
    try:
        for number, round_ in enumerate(plan.rounds):
            todo = unfinished(round_, storage)
            with Watch(round_, ledger, follow) as watch:
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
    baseline: str | None = None


class Table:
    """The rows of a plan, from the ledger and from scores computed once."""

    def __init__(self, plan: Plan, config: SweepConfig, storage: Storage) -> None:
        self.plan = plan
        self.config = config
        self.storage = storage
        self.ledger = Ledger(storage.root)
        self.select = Scorer.choosing(storage, config.data)
        report = config.data.report
        self.report = Scorer.reporting(storage, config.data, report) if report else None

    def rows(self) -> list[Row]:
        """Anchors, teacher, and the best checkpoint by select J&F of every trial; what lacks its
        scores is scored first."""
        entries = self._entries()
        threads = self.plan.trials[0].threads
        score_all(self._unscored(entries), at_once=cores() // threads, threads=threads)
        for scorer in (self.select, self.report):
            if scorer:
                scorer.copy()
        if self.report:
            for entry in entries:
                if entry.role != "teacher":
                    self._record(entry.job, entry.made, self.report)
        return self.so_far()

    def so_far(self) -> list[Row]:
        """The rows whose select scores are known, with what is known of their report."""
        copy = Row(COPY, "anchor", *self._scores(FIRST_FRAME_COPY))
        rows = [copy, *(self._row(entry) for entry in self._entries())]
        return [row for row in rows if row.select]

    def _entries(self) -> list[_Entry]:
        found = []
        stems = {}
        names = [stem.model.name for stem in self.plan.stems]
        for number, stem in enumerate(self.plan.stems, 1):
            several = f" ({stem.model.name if len(set(names)) == len(names) else number})"
            told = several if len(names) > 1 else ""
            stems[stem.key] = _stem_name(stem, stem.steps) + told
            for made in self.ledger.job(stem.key).checkpoints():
                found.append(_Entry(stem, made, _stem_name(stem, made.step) + told, "anchor"))
        if self.plan.teacher:
            for made in self.ledger.job(self.plan.teacher.key).checkpoints()[-1:]:
                found.append(_Entry(self.plan.teacher, made, "teacher", "teacher"))
        for job, trial in zip(self.plan.trials, trials(self.config), strict=True):
            record = self.ledger.job(job.key)
            if record.state == "done":
                best = max(record.checkpoints(), key=lambda c: (c.scores["jf"], c.sha256))
                points = self.config.sweep.points
                baseline = trial.baseline if points else stems[job.needs["stem"]]
                found.append(_Entry(job, best, job.name, "trial", baseline))
        return found

    def _unscored(self, entries: Sequence[_Entry]) -> list[Task]:
        """What lacks scores; jobs keep the select scores of their own checkpoints, so here it is
        the report, and the select split where it is another than when they ran."""
        tasks = []
        for entry in entries:
            for scorer in (self.select, self.report if entry.role != "teacher" else None):
                if scorer is not None and scorer.known(entry.made.sha256) is None:
                    report = self.config.data.report if scorer is self.report else None
                    made = entry.made.sha256, entry.job.model, self.storage, self.config.data
                    tasks.append(Task(*made, report))
        return tasks

    def soup(self, sha256: str, note: str) -> Row:
        """The row of a soup of the plan's trials."""
        load = self._loader(sha256, self.plan.trials[0])
        for scorer in (self.select, self.report):
            if scorer:
                scorer.checkpoint(sha256, load)
        return Row("greedy soup", "soup", *self._scores(sha256), sha256=sha256, note=note)

    def _row(self, entry: _Entry) -> Row:
        job, made = entry.job, entry.made
        select, report = self._scores(made.sha256)
        record = self.ledger.job(job.key)
        done = record.done()
        whole = done if job.role != "stem" or made.step == job.steps else None
        return Row(
            entry.name,
            entry.role,
            select,
            report if entry.role != "teacher" else {},
            step=made.step,
            sha256=made.sha256,
            seconds=whole.seconds if whole else None,
            peak_mib=whole.peak_mib if whole else None,
            note=record.warnings() if whole else "",
            baseline=entry.baseline,
            curve=[(c.step, c.scores["j"]) for c in record.checkpoints()]
            if entry.role == "trial"
            else (),
        )

    def _scores(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is known of a checkpoint, or of the copy, on the select and the report split."""

        def known(scorer: Scorer | None) -> dict[str, Any]:
            scores = scorer.known(name) if scorer else None
            return {**summary(scores), "sequences": per_sequence(scores)} if scores else {}

        report = known(self.report)
        if self.report and report:
            report[BOUNDARY] = dict(self.report.boundary(name))
        return known(self.select), report

    def _record(self, job: Job, made: Checkpoint, scorer: Scorer) -> None:
        """Report scores go to the ledger too, so that MLflow shows them."""
        record = self.ledger.job(job.key)
        known = [e for e in record.of(Evaluated) if e.split == "report" and e.step == made.step]
        if not known:
            scores = scorer.checkpoint(made.sha256, self._loader(made.sha256, job))
            with record.claim():
                record.write(Evaluated(step=made.step, scores=summary(scores), split="report"))

    def _loader(self, sha256: str, job: Job) -> Any:
        def load() -> SpaceTimeNetwork:
            tensors, _ = checkpoint.read(self.storage.checkpoint(sha256))
            return student_of(job.model, tensors)

        return load


def _stem_name(stem: Job, step: int) -> str:
    """What a stem's checkpoint is called: it has one at its start and one at each stage's end."""
    if step == 0:
        return "untrained student"
    if step == stem.steps:
        return "stem: cross-entropy only"
    done = accumulate(stage.train.steps for stage in stem.stages)
    at = next(place for place, steps in enumerate(done) if steps == step)
    return f"stem after {stem.stages[at].name}"
