"""Compare the memory that is forecast for a step with what real steps take.

`python -m tests.benchmarks.memory_need`: each configuration trains three steps in a new process,
whose largest resident memory is read at the end. Exits with 1 where a forecast is outside of 0.7
to 1.5 times of what was measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence

import torch

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.config.loss import LossConfig
from orchestrator.config.train import StemConfig, TrainConfig
from orchestrator.planning.memory_need import PROCESS, memory_need
from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import plan_sweep
from orchestrator.training.distill_step import DistillStep, make_trainee
from orchestrator.training.loop import fit
from orchestrator.training.precision import arrange, half_type
from orchestrator.training.state import TrainingState
from vosmodels import registry
from vosmodels.data.generated import GeneratedClips
from vosmodels.inference.fold import for_inference
from vosmodels.support.memory import GIB, keep_freed_memory

MODULE = "tests.benchmarks.memory_need"
LOW, HIGH = 0.7, 1.5
ALONE = Placement(at_once=1, workers=1, threads=1, gpus=0)
TEACHER = "stcn_mobilenetv2"
# model, batch, frames, objects, crop, loss, amp
CASES = (
    ("mobilevos_mobilenetv2_noaspp", 4, 3, 2, 96, "trial", "off"),
    ("mobilevos_mobilenetv2_noaspp", 4, 3, 2, 192, "trial", "bfloat16"),
    ("mobilevos_resnet18", 2, 5, 2, 128, "stem", "off"),
    ("mobilevos_resnet18", 8, 3, 1, 96, "trial", "off"),
    (TEACHER, 4, 3, 2, 96, "stem", "off"),
    ("mobilevos_mobilenetv2_noaspp", 2, 3, 2, 192, "all", "off"),
)


def configuration(case: Sequence[object]) -> RunConfig:
    """Return the run of a case, whose trial trains as the case says."""
    model, batch, frames, objects, crop, kind, amp = case
    taught = {} if kind != "stem" else {"logit": 0.0, "representation": 0.0}
    loss = {"dice": 1.0, "norm": "none", "sampling": "all" if kind == "all" else "boundary"}
    size = {"batch_size": batch, "crop": crop}
    train = TrainConfig.model_validate({**size, "steps": 3, "clip_length": frames, "amp": amp})
    return RunConfig.model_validate(
        {
            "name": "memory",
            "student": {"name": model},
            "data": DataConfig.model_validate({"max_objects": objects}),
            "loss": LossConfig.model_validate({**loss, **taught}),
            "stem": StemConfig.model_validate({**size, "steps": 0}),
            "train": train,
        }
    )


def forecast(case: Sequence[object]) -> float:
    """Return the bytes of a worker that are forecast."""
    config = configuration(case).as_sweep()
    plan = plan_sweep(config, "memory", 1)
    (need,) = memory_need([[(job,) for job in plan.trials]], config, ALONE, None, None).steps
    return PROCESS + need.device


def train(case: Sequence[object]) -> None:
    """Train three steps and print the largest resident memory in bytes."""
    keep_freed_memory()
    torch.set_num_threads(1)
    config = configuration(case)
    student = registry.build(config.student.name, seed=0)
    teacher = None
    if config.loss.needs_teacher:
        teacher = registry.build(TEACHER, seed=0).eval().requires_grad_(False)
    trainee = make_trainee(config.loss, student, teacher, seed=0)
    state = TrainingState(trainee, config.train)
    if half_type(config.train, torch.device("cpu")):
        arrange(trainee, state.optimizer)
        teacher = teacher and for_inference(teacher)
    clips = GeneratedClips(
        seed=0,
        clip_length=config.train.clip_length,
        crop=config.train.crop,
        max_objects=config.data.max_objects,
    )
    for _ in fit(state, clips, DistillStep(config.loss, seed=0), config.train, teacher=teacher):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every forecast is near what was measured, else 1."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--case", metavar="JSON", help="train one case, print its bytes")
    args = parser.parse_args(argv)
    if args.case:
        train(json.loads(args.case))
        return 0
    well = True
    for case in CASES:
        command = [sys.executable, "-m", MODULE, "--case", json.dumps(case)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured, expected = float(done.stdout), forecast(case)
        ratio = expected / measured
        well &= LOW <= ratio <= HIGH
        print(
            f"{' '.join(map(str, case)):62} forecast {expected / GIB:.2f} GiB, "
            f"measured {measured / GIB:.2f} GiB, ratio {ratio:.2f}",
            flush=True,
        )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
