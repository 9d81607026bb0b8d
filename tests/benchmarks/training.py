"""Time a step of distillation on the CPU, as `fit` runs it, against a plain loop.

`python -m tests.benchmarks.training`. The plain loop is written out below: float32, the correlation
loss with all its matrices, the teacher as it was trained.

stcn_mobilenetv2 teaches mobilevos_mobilenetv2_noaspp on generated clips, 4 of 3 frames of 192x192,
with pixels from the boundary and with all pixels. A round is one step of each loop. Before the
rounds every part of both loops is timed by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import torch

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, Trainee, embedding_between
from orchestrator.training.loader import automatic
from orchestrator.training.loop import fit
from orchestrator.training.precision import arrange, autocast, half_type
from orchestrator.training.state import TrainingState
from tests.benchmarks.rounds import Claim, report, rounds
from tests.benchmarks.step import has_bfloat16
from vosmodels import registry
from vosmodels.data.clips import batch
from vosmodels.data.generated import GeneratedClips
from vosmodels.inference.fold import for_inference
from vosmodels.model import VideoModel
from vosmodels.support.provenance import command_line
from vosmodels.types import Sampling

MODULE = "tests.benchmarks.training"
TEACHER, STUDENT = "stcn_mobilenetv2", "mobilevos_mobilenetv2_noaspp"
SAMPLINGS: tuple[Sampling, ...] = ("boundary", "all")
TIMES = 1.5
PART_STEPS = 3  # after one that warms up
CPU = torch.device("cpu")
NEVER = 10**6  # steps
PLAIN = TrainConfig(
    steps=NEVER, eval_every=NEVER, checkpoint_every=NEVER, batch_size=4, clip_length=3, crop=192
)
CLIPS = GeneratedClips(seed=0, clip_length=PLAIN.clip_length, crop=PLAIN.crop, max_objects=2)


class Setting:
    """Teacher, student and losses in one of the two ways; both start from the same weights."""

    def __init__(self, sampling: Sampling, train: TrainConfig, *, method: Any) -> None:
        self.train = train
        self.distil = DistillStep(LossConfig(sampling=sampling, method=method), seed=0)
        self.teacher: VideoModel = registry.build(TEACHER, seed=0).eval()
        self.teacher.requires_grad_(False)
        student = registry.build(STUDENT, seed=1).eval()
        embedding = embedding_between(student, self.teacher, seed=0)
        self.state = TrainingState(Trainee(student, embedding), train)
        if half_type(train, CPU):
            arrange(self.state.trainee, self.state.optimizer)
            self.teacher = for_inference(self.teacher)
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds this process's CPU time to `name`."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start

    def steps(self) -> Iterator[None]:
        """The loop written out, without end."""
        trainee, optimizer = self.state.trainee, self.state.optimizer

        def timed(*inputs: Any) -> Any:
            with self.part("student"):
                return trainee(*inputs)

        student: Any = timed

        for n in count():
            with self.part("data"):
                clip = batch(CLIPS, n, self.train.batch_size)
                selection = self.distil.select(clip)
            with autocast(self.train, CPU):
                with self.part("teacher"):
                    teacher_output = self.distil.teach(self.teacher, clip)
                with self.part("losses"):
                    losses = self.distil.losses(
                        student, clip, keep=1.0, teacher_output=teacher_output, selection=selection
                    )
            with self.part("backward"):
                terms = zip(
                    losses.sums.values(),
                    losses.counts.values(),
                    losses.weights.values(),
                    strict=True,
                )
                torch.stack([w * total / number for total, number, w in terms]).sum().backward()
            with self.part("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
            yield

    def told(self) -> str:
        """Seconds and share of every part of a step."""
        run = self.steps()
        next(run)
        self.seconds.clear()
        for _ in range(PART_STEPS):
            next(run)
        self.seconds["losses"] -= self.seconds["student"]  # which runs inside
        whole = sum(self.seconds.values())
        return ", ".join(
            f"{name} {seconds / PART_STEPS:.3f} s ({seconds / whole:.0%})"
            for name, seconds in self.seconds.items()
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every claim holds, else 1."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--threads", type=int, metavar="N", help="default: torch's own")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    half = has_bfloat16()
    fast = PLAIN.model_copy(update={"amp": "bfloat16" if half else "auto"})
    loaders = automatic(CPU, torch.get_num_threads())
    print(f"amp {fast.amp}, {loaders} loaders, {torch.get_num_threads()} threads")
    candidates: dict[str, Callable[[], object]] = {}
    for sampling in SAMPLINGS:
        plain = Setting(sampling, PLAIN, method="dense")
        ours = Setting(sampling, fast, method="auto")
        print(f"{sampling}, plain: {plain.told()}")
        print(f"{sampling}, ours: {ours.told()}")
        run = fit(ours.state, CLIPS, ours.distil, fast, teacher=ours.teacher, loaders=loaders)
        candidates[f"{sampling}, plain"] = plain.steps().__next__
        candidates[f"{sampling}, ours"] = run.__next__
    timings = rounds(candidates, args.rounds)
    claims = []
    for sampling in SAMPLINGS:
        cpu = {how: timings[f"{sampling}, {how}"].median() for how in ("plain", "ours")}
        claims.append(Claim(f"{sampling}: times less CPU", cpu["plain"] / cpu["ours"], TIMES))
    if not half:
        print("no bfloat16 instructions here, so no claim but that of all pixels")
        claims = claims[1:]
    command = command_line(MODULE, arguments)
    return 0 if report("training", command, timings, claims, out=args.out) else 1


if __name__ == "__main__":
    sys.exit(main())
