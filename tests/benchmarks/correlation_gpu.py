"""Time the tiled correlation loss against n x n matrices, both in bfloat16.

`python -m tests.benchmarks.correlation_gpu` runs forward and backward of one item on a GPU: 64
channels, every stride-4 pixel of a 384 crop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tests.benchmarks.rounds import Claim, Timing, report, rounds
from vosmodels.distillation.correlation import correlation_loss
from vosmodels.support.provenance import command_line
from vosmodels.support.seeding import generator

MODULE = "tests.benchmarks.correlation_gpu"
PIXELS, WIDTH, OMEGA = 9216, 64, 0.5
FASTER, SMALLER = 1.0, 1.0
ROUNDED = 0.1  # of the gradient's norm: how far bfloat16 may turn it


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where gradients agree and every claim holds, 1 where not, 2 without a GPU."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("no GPU that torch can use; on the CPU run tests.benchmarks.correlation")
    steps = candidates("cuda", PIXELS)
    exact = steps.pop("exact")()
    for name, run in steps.items():
        turned = float((run() - exact).norm() / exact.norm())
        print(f"{name}: gradient off by {turned:.2%} of its norm")
        assert turned < ROUNDED, name
    timings = rounds(steps, args.rounds)
    peaks = {name: peak_mib(run) for name, run in steps.items()}
    for name, mib in peaks.items():
        print(f"{name}: {mib:.0f} MiB at work")
    command = command_line(MODULE, arguments)
    made = claims(timings, peaks)
    return 0 if report("correlation_gpu", command, timings, made, out=args.out) else 1


def candidates(device: str, pixels: int) -> dict[str, Callable[[], Tensor]]:
    """Return calls of forward and backward, by candidate; each gives the gradient.

    A call waits for the device. Candidate `exact` is in float32, to compare the others with.
    """
    rng = generator(0, "correlation", pixels)
    student, teacher = (torch.randn(pixels, WIDTH, generator=rng).to(device) for _ in range(2))
    labels = (torch.rand(pixels, generator=rng) < 0.5).long().to(device)

    def step(loss: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            z = student.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(z), z)
            if device == "cuda":
                torch.cuda.synchronize()
            return gradient

        return run

    def tiled(z: Tensor, inputs: torch.dtype | None) -> Tensor:
        return correlation_loss(z, teacher, labels, OMEGA, "tiled", inputs=inputs, classes=2)

    return {
        "exact": step(lambda z: tiled(z, None)),
        "dense bf16": step(lambda z: dense(z, teacher, labels)),
        "tiled bf16": step(lambda z: tiled(z, torch.bfloat16)),
    }


def dense(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """The loss as autocast runs its formula: products in bfloat16, sums in float32."""
    s, t = (functional.normalize(x, dim=1).bfloat16() for x in (student, teacher))
    y = functional.one_hot(labels, 2).bfloat16()
    correlation = s @ s.T  # (n, n)
    matched = correlation * (OMEGA * (t @ t.T) + (1 - OMEGA) * (y @ y.T))
    sums = [x.square().sum(dtype=torch.float32) for x in (correlation, matched)]
    return (torch.log2(sums[0]) - torch.log2(sums[1])) / len(student)


def peak_mib(run: Callable[[], Tensor]) -> float:
    """Memory of the device that a call takes above what is there before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def claims(timings: Mapping[str, Timing], peaks: Mapping[str, float]) -> list[Claim]:
    """By the clock on the wall, which waits for the GPU."""
    wall = {name: timing.median("wall") for name, timing in timings.items()}
    return [
        Claim("tiled: times faster than dense", wall["dense bf16"] / wall["tiled bf16"], FASTER),
        Claim("tiled: times less memory", peaks["dense bf16"] / peaks["tiled bf16"], SMALLER),
    ]


if __name__ == "__main__":
    sys.exit(main())
