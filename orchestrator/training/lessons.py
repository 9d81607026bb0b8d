"""Make what the students of a step share: the batch, and what the teacher says of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from torch import nn

from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep
from orchestrator.training.distributed import Workers
from orchestrator.training.loader import Batches, prefetch
from orchestrator.training.precision import autocast
from orchestrator.training.throughput import Throughput
from vosmodels.distillation.pixels import Selection
from vosmodels.support.seeding import drawn_from, seed_of
from vosmodels.types import Clip, ClipSource, StepOutput


@dataclass(frozen=True)
class Lesson:
    """Hold what a step teaches.

    step: counted from 0; selections: the pixels that each student's losses compare, in the order of
    the students; teacher: its output, None where there is none. Students only read all of it.
    """

    step: int
    clip: Clip
    selections: tuple[Selection | None, ...]
    teacher: StepOutput | None


def lessons(
    clips: ClipSource,
    students: Sequence[DistillStep],
    train: TrainConfig,
    steps: range,
    *,
    workers: Workers,
    clock: Throughput,
    teacher: nn.Module | None = None,
    loaders: int = 0,
) -> Generator[Lesson, None, None]:
    """Yield the lesson of each step: one data pass and one run of the teacher for all students.

    clips: by global sample index; step n takes n * batch_size ... of them; students: what each
    one's losses want of the batch, all with the same seed and the same intermediates of the
    teacher; teacher: needed where a loss reads it or it labels clips; clock: counts the time.
    A lesson depends on the step alone, whoever else learns from it.
    Raises ValueError where the teacher is missing or workers do not divide the batch; InputError
    where clips cannot be read.
    """
    first = students[0]
    taught = any(each.loss.needs_teacher or each.label_above is not None for each in students)
    if taught and teacher is None:
        raise ValueError("there is no teacher for the terms or labels that need one")
    batches = Batches(
        clips,
        tuple(each.select for each in students),
        train.batch_size,
        workers.rank,
        workers.world,
    )
    device = workers.device
    with closing(prefetch(batches, steps, workers=loaders, pin=device.type == "cuda")) as ahead:
        for step in steps:
            with clock.running():
                batch = clock.take(ahead, train.batch_size).to(device)
                output = None
                if taught and teacher is not None:
                    seed = seed_of(first.seed, "model", *batch.clip.samples)
                    with drawn_from(seed, device), autocast(train, device):
                        output = first.teach(teacher, batch.clip, first.teacher_watch)
            yield Lesson(step, batch.clip, batch.selections, output)
