"""`python -m tests.benchmarks.correlation`: the correlation loss without its n x n matrices.

Forward and backward of one item, 64 channels. 9216 pixels are every stride-4 pixel of a 384 crop,
27,300 every one of a 480x910 frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from orchestrator.results import command_line
from tests.benchmarks.rounds import Claim, fresh_peak, report, rounds
from vosmodels.distillation import Method, correlation_loss
from vosmodels.evaluation.speed import ProcessPeak
from vosmodels.seeding import generator

MODULE = "tests.benchmarks.correlation"
CROP, FRAME, WIDTH = 9216, 27_300, 64
CANDIDATES: dict[str, tuple[int, float, Method]] = {  # pixels, omega, how
    "dense, 9216 pixels": (CROP, 0.5, "dense"),
    "tiled, 9216 pixels": (CROP, 0.5, "tiled"),
    "classwise, 9216 pixels, omega 0": (CROP, 0.0, "classwise"),
    "tiled, 27300 pixels": (FRAME, 0.5, "tiled"),
}
FASTER, SMALLER, FRAME_MIB = 8.0, 50.0, 100.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where gradients agree and every claim holds, else 1."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--peak", choices=CANDIDATES, help="print the MiB one candidate takes")
    args = parser.parse_args(arguments)
    if args.peak:
        run = step(*CANDIDATES[args.peak])
        with ProcessPeak() as memory:
            run()
        print(memory.peak / 2**20)
        return 0
    candidates = {name: step(*what) for name, what in CANDIDATES.items()}
    exact, tiled = (candidates[name]() for name in list(candidates)[:2])
    torch.testing.assert_close(tiled, exact, rtol=1e-4, atol=1e-5 * float(exact.norm()))
    timings = rounds(candidates, args.rounds)
    cpu = {name: timing.median() for name, timing in timings.items()}
    peaks = {name: fresh_peak(MODULE, name) for name in candidates}
    for name, mib in peaks.items():
        print(f"{name}: {mib:.0f} MiB at work")
    dense_s, tiled_s, classwise_s, _ = cpu.values()
    dense_mib, tiled_mib, _, frame_mib = peaks.values()
    claims = [
        Claim("tiled: times less CPU than dense", dense_s / tiled_s, FASTER),
        Claim("tiled: times less memory than dense", dense_mib / tiled_mib, SMALLER),
        Claim("classwise: times less CPU than dense", dense_s / classwise_s, FASTER),
        Claim("tiled, 27300 pixels: MiB at work", frame_mib, FRAME_MIB, at_most=True),
    ]
    command = command_line(MODULE, arguments)
    return 0 if report("correlation", command, timings, claims, out=args.out) else 1


def step(pixels: int, omega: float, method: Method) -> Callable[[], Tensor]:
    """One forward and backward on random features; returns the gradient."""
    rng = generator(0, "correlation", pixels)
    student = torch.randn(pixels, WIDTH, generator=rng)
    teacher = torch.randn(pixels, WIDTH, generator=rng)
    labels = (torch.rand(pixels, generator=rng) < 0.5).long()

    def run() -> Tensor:
        z = student.detach().requires_grad_()
        correlation_loss(z, teacher, labels, omega, method).backward()
        assert z.grad is not None
        return z.grad

    return run


if __name__ == "__main__":
    sys.exit(main())
