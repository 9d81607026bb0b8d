"""Run jobs from their plan to their last line in the ledger, without Ray.

Most often it is one. Several trials train in lock-step: one data pass and one run of the teacher
feed all of them, and each has its own model, optimizer, record, checkpoints and resume state.
"""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing

import torch
from torch import nn

from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.failures import retry_can_help
from orchestrator.execution.labelling import labels_of
from orchestrator.execution.member import Member
from orchestrator.execution.scoring import Scorer
from orchestrator.execution.teachers import load_teacher
from orchestrator.execution.usage import Meter
from orchestrator.planning.datasets import Teach, training_clips
from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import Claimed, JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.distill_step import DistillStep
from orchestrator.training.distributed import Workers
from orchestrator.training.lessons import lessons
from orchestrator.training.loader import automatic
from orchestrator.training.precision import half_type
from orchestrator.training.throughput import Throughput
from vosmodels.inference.fold import for_inference
from vosmodels.support.memory import is_out_of_memory, keep_freed_memory, return_freed_memory
from vosmodels.support.seeding import seed_of

logger = logging.getLogger(__name__)

OnScore = Callable[[int, float], None]


def run(
    jobs: Sequence[Job],
    storage: Storage,
    workers: Workers | None = None,
    on_score: OnScore = lambda step, jf: None,
    task: str = "",
) -> None:
    """Train jobs of one lock-step group to their end, from wherever earlier attempts left them.

    on_score: called on rank 0 with step and best select J&F when trials have been scored and can
    be resumed from there; what it raises ends the jobs, and an exit leaves them as if they were
    killed. task: names the work whose attempts these are, see `_groups`.
    Rank 0 evaluates and writes checkpoints and ledger. A job that fails leaves the others as they
    are: its ledger gets the error, its log the traceback, and the error is raised again when the
    others are done. Where memory runs out, they go on in groups half as large.
    """
    workers = workers or Workers()
    _reset_torch_globals(jobs[0].threads)
    storage.mirror.begin()
    errors: list[Exception] = []
    with ExitStack() as claims:
        records = _claim(jobs, storage, workers, claims)
        groups = _groups(jobs, records, workers, task)
        for job in jobs if workers.rank else ():  # rank 0 did so with its claim
            storage.mirror.pull_folder(storage.resume(job.key))
        for group in groups:
            errors += _run_group(group, records, storage, workers, on_score, task)
    for key, record in records.items():
        if record.state == "done":
            shutil.rmtree(storage.resume(key), ignore_errors=True)
            storage.mirror.drop_folder(storage.resume(key))
    if errors:
        raise max(errors, key=retry_can_help)


def _claim(
    jobs: Sequence[Job], storage: Storage, workers: Workers, claims: ExitStack
) -> dict[str, JobRecord]:
    """Claim jobs and return their records on rank 0, nothing on others.

    What another process is at, such as a teacher that another sweep trains too, is waited for
    until it is done or that process has ended. Claims are taken in the order of the keys, so that
    no two groups wait for each other.
    """
    ledger, records = Ledger.of(storage), dict[str, JobRecord]()
    for key in sorted(job.key for job in jobs):
        record, told, held = ledger.job(key), False, torch.zeros(1, device=workers.device)
        while not workers.all_reduce(held):
            workers.alive()
            if workers.rank:
                continue
            try:
                claims.enter_context(record.claim())
                held += 1
                records[key] = record
            except Claimed:
                if not told:
                    logger.warning("job %s: waiting for %s", key, record.holder_name)
                told = True
    return records


def _reset_torch_globals(threads: int) -> None:
    """Reset process-wide settings of torch that change results, and keep freed memory.

    A reused worker may have run any other job before.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.mkldnn.set_flags(True)
    for device in ("cpu", "cuda"):
        torch.set_autocast_enabled(device, False)


def _groups(
    jobs: Sequence[Job], records: Mapping[str, JobRecord], workers: Workers, task: str
) -> list[tuple[Job, ...]]:
    """Divide the jobs that are not done into those that train together now.

    In the first attempt at a task that is all of them. In later ones a job that failed trains
    alone; those whose process died, perhaps for want of memory, train in groups half as large.
    Rank 0, which has the records, decides for all workers.
    """
    numbers = torch.zeros(len(jobs), dtype=torch.int64, device=workers.device)
    if workers.rank == 0:
        together, alone, attempts = list[int](), list[int](), 0
        for place, job in enumerate(jobs):
            record = records[job.key]
            tried = [event for event in record.of(events.Started) if task and event.task == task]
            if record.state == "failed" and tried:
                alone.append(place)
            elif record.state != "done":
                together.append(place)
                attempts = max(attempts, len(tried))
        size = max(1, len(jobs) >> attempts)
        groups = [together[start : start + size] for start in range(0, len(together), size)]
        for number, group in enumerate([*groups, *([place] for place in alone)], start=1):
            numbers[group] = number
    chosen = workers.all_reduce(numbers).tolist()
    return [
        tuple(job for job, number in zip(jobs, chosen, strict=True) if number == each)
        for each in range(1, max(chosen) + 1)
    ]


def _run_group(
    jobs: Sequence[Job],
    records: Mapping[str, JobRecord],
    storage: Storage,
    workers: Workers,
    on_score: OnScore,
    task: str,
) -> list[Exception]:
    """Train jobs together; return the errors of those that failed."""
    members = [Member(job, storage, workers, records.get(job.key)) for job in jobs]
    try:
        _train(members, storage, workers, on_score, task)
    except Exception as error:  # of what they share: it ends all that are left
        left = [member for member in members if member.works]
        if not (_needs_less(error, workers) and len(left) > 1):
            for member in left:
                member.fail(error)
            if workers.world > 1:  # else the other ranks would wait for this one
                raise
            left = []
    else:
        left = []
    errors = [member.error for member in members if member.error is not None]
    if not left:
        return errors
    halves = left[: len(left) // 2], left[len(left) // 2 :]
    again = [[member.job for member in half] for half in halves]
    names = " and ".join(str(len(half)) for half in again)
    logger.warning(
        "out of memory with %d students in lock-step: going on with %s", len(left), names
    )
    del members, left, halves  # and with them what did not fit
    gc.collect()
    return_freed_memory()
    if workers.device.type == "cuda":
        torch.cuda.empty_cache()
    for half in again:
        errors += _run_group(half, records, storage, workers, on_score, task)
    return errors


def _needs_less(error: Exception, workers: Workers) -> bool:
    """Return whether fewer students at once may help; workers together cannot agree on that."""
    return workers.world == 1 and is_out_of_memory(error)


def _train(
    members: Sequence[Member], storage: Storage, workers: Workers, on_score: OnScore, task: str
) -> None:
    """Train members to their end; those that fail hold their error.

    They share data, seed, stages and teacher (`planning.lockstep.kin`). Raises what concerns all.
    """
    started, meter = time.monotonic(), Meter(workers.device)
    first = members[0].job
    scorer = None
    if workers.rank == 0:
        scorer = Scorer(storage, ScoringProtocol.for_select(first.config.data))
    for member in members:
        member.start(task, students=len(members))
    teach = None
    for member in members:
        teach = labels_of(member.job, storage, workers, member.record)
    teacher = load_teacher(first, storage)[0].to(workers.device) if first.teaches else None
    for member in members:
        with member.working(alone=len(members) == 1):
            member.prepare(teacher, teach, scorer)
    if teacher is not None and half_type(first.stages[0].train, workers.device):
        teacher = for_inference(teacher)  # rounds in another order, as the type does
    for index in range(len(first.stages)):
        _train_stage(index, members, teacher, teach, workers, on_score, meter)
    last = meter.rest()
    for member in members:
        if member.works:
            own = sum(member.seconds for member in members)
            shared_s = (time.monotonic() - started - own) / len(members)
            with member.working(alone=len(members) == 1):
                member.finish(shared_s, last)


def _train_stage(
    index: int,
    members: Sequence[Member],
    teacher: nn.Module | None,
    teach: Teach | None,
    workers: Workers,
    on_score: OnScore,
    meter: Meter,
) -> None:
    """Train members from wherever each is to the end of a stage.

    One that is further than others waits until they have caught up.
    """
    first = members[0].job
    stage, clock = first.stages[index], Throughput()
    seed = seed_of(first.seed, "stage", index) if index else first.seed
    label_above = first.config.teacher.threshold if first.labels_clips else None
    soft = first.config.teacher.targets == "soft"
    pupils = [member for member in members if member.works and member.state.stage <= index]
    if not pupils:
        return
    losses = [
        DistillStep(m.job.loss, seed=seed, label_above=label_above, soft=soft) for m in pupils
    ]
    for member, distill in zip(pupils, losses, strict=True):
        member.enter(index, distill, clock)
    loaders = first.config.cluster.loaders
    each = lessons(
        training_clips(stage, seed, labels=first.labels, teach=teach),
        losses,
        stage.train,
        range(min(member.state.step for member in pupils), stage.train.steps),
        workers=workers,
        clock=clock,
        teacher=teacher,
        loaders=automatic(workers.device, first.threads) if loaders is None else loaders,
    )
    with closing(each):
        for lesson in each:
            scores, used = [], meter.due()
            for place, member in enumerate(pupils):
                if not member.works or member.state.step != lesson.step:
                    continue
                alone = sum(other.works for other in pupils) == 1
                with member.working(alone=alone):
                    jf = member.learn(lesson, place, stage, used)
                    scores += [] if jf is None else [jf]
                workers.alive()
            if not any(member.works for member in pupils):
                return
            if scores:
                on_score(lesson.step + 1, max(scores))
