"""Time the correlation loss with and without its n x n matrices.

`python -m tests.benchmarks.correlation` runs forward and backward of one item with 64 channels.
9216 pixels are every stride-4 pixel of a 384 crop, 27,300 of a 480x910 frame.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.benchmarks.rounds import Claim, fresh_peak, parsed, print_peak, report, rounds
from vosmodels.distillation.correlation import correlation_loss
from vosmodels.support.seeding import generator
from vosmodels.types import CorrelationMethod

MODULE = "tests.benchmarks.correlation"
CROP, FRAME, WIDTH = 9216, 27_300, 64
CANDIDATES: dict[str, tuple[int, float, CorrelationMethod]] = {  # pixels, omega, how
    "dense, 9216 pixels": (CROP, 0.5, "dense"),
    "tiled, 9216 pixels": (CROP, 0.5, "tiled"),
    "classwise, 9216 pixels, omega 0": (CROP, 0.0, "classwise"),
    "tiled, 27300 pixels": (FRAME, 0.5, "tiled"),
}
FASTER, SMALLER, FRAME_MIB = 8.0, 50.0, 100.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where gradients agree and every claim holds, else 1."""
    args = parsed(MODULE, argv, count=5, peaks=CANDIDATES)
    if args.peak:
        return print_peak(step(*CANDIDATES[args.peak]))
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
    return 0 if report("correlation", args.command, timings, claims, out=args.out) else 1


def step(pixels: int, omega: float, method: CorrelationMethod) -> Callable[[], Tensor]:
    """Return a call of forward and backward on random features; it gives the gradient."""
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
