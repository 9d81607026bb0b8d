"""Drives a plan to its end: what is done stays done, the rest runs on Ray, rows come out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock, Timeout

from orchestrator.config import RunConfig
from orchestrator.execution import ray_workers
from orchestrator.execution.progress import ProgressWatcher
from orchestrator.planning.placement import Placement, cores, place
from orchestrator.planning.plan import Job, Plan
from orchestrator.tracking.events import Failed
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json, write_json

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
        return ray_workers.start(config.cluster.address, dashboard=False)
    finally:
        ray_workers.stop()


def threads_of(config: RunConfig, storage: Storage, sweep: str, jobs: int) -> int:
    """CPU threads per worker. Settled once per sweep, because the trials' keys hold it: a sweep
    that is extended, or runs again on a larger machine, does not train anew what is done."""
    if config.cluster.threads is not None:
        return config.cluster.threads
    known = read_json(storage.sweeps / f"{sweep}.json")
    if known is not None:
        return int(known["threads"])
    return placement(config, nodes_of(config), jobs, None).threads


def save_resolved_config(config: RunConfig, storage: Storage, sweep: str, threads: int) -> None:
    """Keep the sweep as it was resolved, with its thread count."""
    settled = {"threads": threads, "config": config.model_dump(mode="json")}
    write_json(storage.sweeps / f"{sweep}.json", settled)


@contextmanager
def sweep_lock(storage: Storage, sweep: str) -> Iterator[None]:
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

    def follow(record: JobRecord) -> None:
        tracker.project(record, plan.sweep)
        if record.state == "done" and record.key not in ended:
            ended.add(record.key)
            on_done()

    if not unfinished(plan.jobs, storage):
        for job in plan.jobs:
            tracker.project(ledger.job(job.key), plan.sweep)
        return Outcome((), None, "nothing was left to train")
    told, peaks = "", list[float]()
    nodes = ray_workers.start(config.cluster.address, dashboard=config.cluster.workers > 1)
    try:
        for number, round_ in enumerate(plan.rounds):
            todo = unfinished(round_, storage)
            with ProgressWatcher(round_, ledger, follow) as watch:
                if todo:
                    placed = placement(config, nodes, len(todo), todo[0].threads)
                    told = describe(placed)
                    name = f"{plan.sweep}-{number}-{todo[0].key}"
                    ray_workers.run_round(todo, storage, placed, name)
            if watch.peak_mib is not None:
                peaks.append(watch.peak_mib)
            failures = _failures(round_, storage)
            if failures and number < len(plan.rounds) - 1:
                break  # nothing to start from, or to learn from
    finally:
        ray_workers.stop()
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
