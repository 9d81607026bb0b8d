"""Time the steps of students in lock-step against those of as many trials alone.

`python -m tests.benchmarks.lockstep`. `stcn` teaches both students on generated clips, 4 of 3
frames of 192x192, from the boundary, with an omega each. A candidate makes one step of k students:
one batch, one run of the teacher, k students. A sweep of k trials alone makes k steps of one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import torch

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, make_trainee
from orchestrator.training.distributed import Workers
from orchestrator.training.lessons import lessons
from orchestrator.training.loop import Student
from orchestrator.training.state import TrainingState
from orchestrator.training.throughput import Throughput
from tests.benchmarks.rounds import Claim, parsed, report, rounds
from vosmodels import registry
from vosmodels.data.generated import GeneratedClips
from vosmodels.model import VideoModel
from vosmodels.support.memory import keep_freed_memory

MODULE = "tests.benchmarks.lockstep"
TEACHER = "stcn"
STUDENTS = {  # most that 4 in lock-step may cost, of 4 alone
    "mobilevos_mobilenetv2_noaspp": 0.5,
    "mobilevos_mobilenetv2": 0.5,
    "mobilevos_resnet18": 0.65,
}
COUNTS = (1, 2, 4, 8)
NEVER = 10**6  # steps
TRAIN = TrainConfig(
    steps=NEVER, eval_every=NEVER, checkpoint_every=NEVER, batch_size=4, clip_length=3, crop=192
)
CLIPS = GeneratedClips(seed=0, clip_length=TRAIN.clip_length, crop=TRAIN.crop, max_objects=2)


def steps(name: str, count: int, teacher: VideoModel) -> Iterator[None]:
    """Train so many students in lock-step, without end."""
    workers, clock = Workers(), Throughput()
    losses = [DistillStep(LossConfig(omega=n / 8), seed=0) for n in range(count)]
    students = []
    for distill in losses:
        model = registry.build(name, seed=1).eval()
        state = TrainingState(make_trainee(distill.loss, model, teacher, seed=0), TRAIN)
        students.append(Student(state, distill, TRAIN, clock=clock, workers=workers))
    for lesson in lessons(
        CLIPS, losses, TRAIN, range(NEVER), workers=workers, clock=clock, teacher=teacher
    ):
        for place, student in enumerate(students):
            student.learn(lesson, place)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every claim holds, else 1."""
    args = parsed(MODULE, argv, count=5)
    keep_freed_memory()
    print(f"{torch.get_num_threads()} threads")
    teacher: VideoModel = registry.build(TEACHER, seed=0).eval()
    teacher.requires_grad_(False)
    candidates: dict[str, Callable[[], object]] = {
        f"{name} x {count}": steps(name, count, teacher).__next__
        for name in STUDENTS
        for count in COUNTS
    }
    timings = rounds(candidates, args.rounds)
    claims = []
    for name, target in STUDENTS.items():
        alone = timings[f"{name} x 1"].median()
        shares = {k: timings[f"{name} x {k}"].median() / (k * alone) for k in COUNTS}
        print(
            f"{name}, of k trials alone: " + ", ".join(f"{k}: {s:.2f}" for k, s in shares.items())
        )
        claims.append(Claim(f"{name}: 4 in lock-step, of 4 alone", shares[4], target, at_most=True))
    return 0 if report("lockstep", args.command, timings, claims, out=args.out) else 1


if __name__ == "__main__":
    sys.exit(main())
