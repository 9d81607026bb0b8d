"""Run a plan's unfinished jobs on Ray, each after those it needs, and collect the failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.execution import interrupts, ray_workers
from orchestrator.execution.asked_trials import AskedTrials, Search
from orchestrator.execution.failures import Failure, failures
from orchestrator.execution.nodes import check_nodes
from orchestrator.execution.out_of_memory import Crowding, OutOfMemory
from orchestrator.execution.trial_source import ASHA, TrialSource, can_start
from orchestrator.planning.datasets import staged
from orchestrator.planning.lockstep import Group, grouped
from orchestrator.planning.memory_need import MemoryNeed, memory_need
from orchestrator.planning.placement import Placement, cores, place
from orchestrator.planning.plan import Job, Plan, rounds_of
from orchestrator.tracking import leases, sweep_settings
from orchestrator.tracking.events import Stopped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.memory import machine_memory

if TYPE_CHECKING:
    from orchestrator.execution.halving import Halving

logger = logging.getLogger(__name__)

Nodes = Sequence[dict[str, float]]


@dataclass(frozen=True)
class Outcome:
    """Failures and placement of a plan's jobs."""

    failures: tuple[Failure, ...]
    placement: str


def nodes_of(config: RunConfig, storage: Storage | None = None) -> Nodes:
    """List the resources of each cluster node, or of this machine without a cluster.

    Raises InputError as `check_nodes`; storage: where given, every node must see it.
    """
    import torch

    if config.cluster.address is None:
        return [{"CPU": float(cores()), "GPU": float(torch.cuda.device_count())}]
    try:
        resources = ray_workers.start(config.cluster.address, dashboard=False)
        check_nodes(storage)
        return resources
    finally:
        ray_workers.stop()


def threads_of(config: RunConfig, storage: Storage, sweep: str, jobs: int) -> int:
    """Choose the CPU threads per worker, once per sweep.

    The keys of the trials hold the number, so it stays what the first run chose. An extended
    sweep, or one that continues on a larger machine, then keeps its finished trials.
    Raises InputError if the file that holds the number is broken.
    """
    if config.cluster.threads is not None:
        return config.cluster.threads
    known = sweep_settings.threads_of(storage, sweep)
    return known or placement(config, nodes_of(config), jobs, None).threads


@contextmanager
def sweep_lock(storage: Storage, sweep: str) -> Iterator[Callable[[], None]]:
    """Hold the lock that admits one driver per sweep, in a store a lease too.

    Yields a check that raises InputError where the lease was lost. Raises it for a second driver.
    """
    storage.sweeps.mkdir(parents=True, exist_ok=True)
    lock = FileLock(storage.sweeps / f"{sweep}.lock")
    try:
        with (
            lock.acquire(timeout=0),
            leases.held(storage.mirror, f"sweep-{sweep}", hasty=True) as lease,
        ):
            yield lease.check
    except Timeout:
        raise InputError(
            f"{lock.lock_file}: this sweep is being run by another process; "
            "wait for it, or stop it, and run the same command again"
        ) from None


def unfinished(jobs: Sequence[Job], storage: Storage, again: Sequence[Job] = ()) -> list[Job]:
    """List the jobs that the ledger does not show as done, and those to be trained again."""
    ledger, keys = Ledger.of(storage), {job.key for job in again}
    return [job for job in jobs if job.key in keys or ledger.job(job.key).state != "done"]


def execute(
    plan: Plan,
    config: SweepConfig,
    storage: Storage,
    search: Search | None = None,
    on_new: Callable[[Job], None] = lambda job: None,
    held: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run a plan's unfinished jobs, each after those it needs; the ledger has what they did.

    Raises InputError before any job starts where the checkpoint that one needs is lost or corrupt.
    A failed job stops only those that need it, which are not started and do not count as failures.
    search: chooses further trials beside those of the plan; on_new: called with each of them;
    held: raises where this driver is no longer the sweep's.
    """
    ray_workers.set_environment(config.cluster.address)  # before asha loads Ray
    ledger = Ledger.of(storage)
    if not (_to_run(plan.jobs, config, ledger, search)[0] or (search and search.left)):
        return Outcome((), "nothing was left to train")
    _check_needed(plan, storage)
    description, failed = "", list[Failure]()
    hours, threads = config.sweep.max_hours, plan.jobs[0].threads
    ends = None if hours is None else time.monotonic() + 3600 * hours
    address, dashboard = config.cluster.address, config.cluster.workers > 1
    nodes = ray_workers.start(address, dashboard=dashboard)

    def run_phase(jobs: list[Job], check: Callable[[], None], search: Search | None) -> set[str]:
        """Run jobs, again with fewer at once for want of memory; return the keys of those begun.

        What the search chooses joins them.
        """
        nonlocal nodes, description
        given, retries, students = set[str](), config.cluster.retries, config.students
        crowding = Crowding(storage, retries)

        def follow(job: Job) -> None:
            storage.mirror.push(storage.sweeps.glob(f"{plan.sweep}-optuna.log"))
            jobs.append(job)
            on_new(job)

        while True:
            todo, halving = _to_run(jobs, config, ledger, search)
            todo = _startable([job for job in todo if crowding.goes_on(job)], ledger)
            rounds = [groups_of(jobs, config, nodes, threads, students) for jobs in rounds_of(todo)]
            groups, most = [*chain.from_iterable(rounds)], max(map(len, rounds), default=0)
            source = TrialSource(groups, ledger, ends)
            if search and not unfinished(plan.stems, storage):
                source = AskedTrials(todo, search, ledger, ends, follow)
                most = len(todo) + search.left
            if not most:
                return given
            resources = crowding.place(placement(config, nodes, most, threads))
            largest = max(map(len, groups), default=1)
            description = describe(resources, largest)
            name = f"{plan.sweep}-{todo[0].key if todo else 'asked'}"
            try:
                ray_workers.run_round(source, storage, resources, name, check, retries, halving)
                return given | source.given
            except OutOfMemory as error:
                given |= source.given
                ray_workers.stop()  # ends the other jobs, too
                ledger.pull(given)
                started = [job for job in jobs if job.key in given]
                crowding.note(error, started, max(resources.at_once, min(largest, 2)))
                students = max(1, largest // 2)
                nodes = ray_workers.start(address, dashboard=dashboard)

    try:
        with interrupts.noted() as interrupted:

            def check() -> None:
                interrupted()
                held()

            # A search and ASHA decide about trials alone. Else all run in one go, in which a
            # worker that has trained the teacher goes on with a stem and a trial.
            apart = search is not None or config.sweep.scheduler != "fifo"
            before = [job for job in plan.jobs if job.role != "trial"]
            phases = [(before, None), ([*plan.trials], search)] if apart else [([*plan.jobs], None)]
            for jobs, searched in phases:
                given = run_phase(jobs, check, searched)
                ledger.pull(given)
                failed += failures([job for job in jobs if job.key in given], storage)
    finally:
        ray_workers.stop()
    return Outcome(tuple(failed), description)


def _to_run(
    jobs: Sequence[Job], config: SweepConfig, ledger: Ledger, search: Search | None
) -> tuple[list[Job], Halving | None]:
    """List the jobs of a round that are to run, with what stops them early; None: nothing does.

    What the ledger has of the round is told to a fresh scheduler first. It then decides of a trial
    whose process died at a rung, and, where the sweep has trials that are new, of those that it
    stopped before: among more scores one of them may go on.
    """
    left = [job for job in jobs if ledger.job(job.key).state != "done"]
    trials = [job for job in jobs if job.role == "trial"]
    if config.sweep.scheduler == "fifo" or not (trials or search):
        return left, None
    from orchestrator.execution.halving import Halving  # loads Ray

    runs = [job.stages[-1].train for job in trials] or [staged(config)[-1].train]
    first = config.sweep.first_rung or min(min(t.eval_every, t.checkpoint_every) for t in runs)
    steps = max(train.steps for train in runs)
    halving = Halving(first=first, factor=config.sweep.reduction, steps=steps)
    scores = {job.key: ledger.job(job.key).scores() for job in trials}
    for key, known in scores.items():
        halving.recall(key, known)
    new = any(ledger.job(job.key).state == "new" for job in trials)
    grown = new or bool(search and search.left)

    def goes_on(job: Job) -> bool:
        record = ledger.job(job.key)
        stopped = record.stopped()
        if job.role != "trial" or not scores[job.key] or (stopped and stopped.why != ASHA):
            return True
        if stopped:
            return grown and not halving.stops(job.key, scores)
        if record.state != "running" or not halving.stops(job.key, scores):
            return True
        with record.claim():
            record.write(Stopped(at=scores[job.key][-1][0], why=ASHA))
        return False

    return [job for job in left if goes_on(job)], halving


def placement(config: RunConfig, nodes: Nodes, jobs: int, threads: int | None) -> Placement:
    """Fit jobs of a configuration on the nodes. Raises InputError as `place` does."""
    cluster = config.cluster
    return place(
        nodes,
        jobs=jobs,
        workers=cluster.workers,
        gpus_per_worker=cluster.gpus_per_worker,
        threads=threads,
    )


def groups_of(
    jobs: Sequence[Job],
    config: SweepConfig,
    nodes: Nodes,
    threads: int,
    students: int | Literal["auto"],
) -> list[Group]:
    """Group jobs of a round into at most so many students: `auto` as this machine has room for."""
    at_once = placement(config, nodes, len(jobs), threads).at_once

    def fits(groups: Sequence[Group]) -> bool:
        place = placement(config, nodes, len(groups), threads)
        return memory_of_rounds([groups], config, place).fits

    return grouped(jobs, students, at_once, fits)


def memory_of(
    plan: Plan,
    config: SweepConfig,
    storage: Storage,
    nodes: Nodes,
    again: Sequence[Job] = (),
) -> MemoryNeed:
    """Compute what the jobs that are `unfinished` take, against this machine or its GPUs."""
    threads = plan.jobs[0].threads
    left = [unfinished(jobs, storage, again) for jobs in plan.rounds]
    rounds = [groups_of(jobs, config, nodes, threads, config.students) for jobs in left]
    most = max(map(len, rounds), default=1)
    return memory_of_rounds(rounds, config, placement(config, nodes, max(1, most), threads))


def memory_of_rounds(
    rounds: Sequence[Sequence[Group]], config: RunConfig, placement: Placement
) -> MemoryNeed:
    """Compute what rounds of groups take, against this machine or its GPUs."""
    if config.cluster.address is not None:
        return memory_need(rounds, config, placement, None, None)
    gpu = None
    if placement.gpus:
        import torch

        gpu = float(torch.cuda.get_device_properties(0).total_memory)
    return memory_need(rounds, config, placement, machine_memory(), gpu)


def describe(placement: Placement, students: int = 1) -> str:
    """Describe a placement: how many jobs run at once, each on which resources.

    students: in the largest job.
    """
    gpus = f", {placement.gpus:g} GPU" if placement.gpus else ""
    backend = "" if placement.workers == 1 else " nccl" if placement.gpus else " gloo"
    lockstep = f", up to {students} students in lock-step" if students > 1 else ""
    return (
        f"{placement.at_once} at a time, each {placement.workers}{backend} "
        f"worker{'s' * (placement.workers > 1)} x {placement.threads} "
        f"thread{'s' * (placement.threads > 1)}{gpus}{lockstep}"
    )


def _check_needed(plan: Plan, storage: Storage) -> None:
    """Raise InputError that names every file that is needed from a job done before, and is bad."""
    ledger, problems = Ledger.of(storage), []
    needed = {
        key: role for job in unfinished(plan.jobs, storage) for role, key in job.needs.items()
    }
    for key, role in needed.items():
        record = ledger.job(key)
        if record.state == "done":
            try:
                record.last_file()
            except InputError as error:
                problems.append(f"the {role}: {error}")
    if problems:
        raise InputError("; ".join(problems))


def _startable(jobs: Sequence[Job], ledger: Ledger) -> list[Job]:
    """Leave out the jobs that need one which is neither done nor before them, and log which."""
    startable: dict[str, Job] = {}
    for job in jobs:
        if can_start(job, ledger, startable):
            startable[job.key] = job
    return list(startable.values())
