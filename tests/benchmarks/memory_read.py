"""Time the memory read of two frames at 480x910, plain and ours.

`python -m tests.benchmarks.memory_read`: 1710 queries, 3420 entries, keys 64 wide, values 512, as
in STCN. The plain read is that of the public code: the whole matrix of scores; for the top 20 a
scatter into zeros and a dense product.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from tests.benchmarks.rounds import Claim, fresh_peak, parsed, print_peak, report, rounds
from vosmodels.spacetime.memory import affinity, read_memory, readout
from vosmodels.support.seeding import generator

MODULE = "tests.benchmarks.memory_read"
HEIGHT, WIDTH, FRAMES, KEY, VALUE, TOP_K = 30, 57, 2, 64, 512, 20
TOP_K_TARGET = 2.8  # times less CPU than scatter and dense product
FULL_TARGET = 1.5  # times less CPU than the whole softmax
CHUNKS = "softmax, in chunks"
MATRIX_MIB = HEIGHT * WIDTH * HEIGHT * WIDTH * FRAMES * 4 / 2**20


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where the answers are equal and every claim holds, else 1."""
    args = parsed(MODULE, argv, count=15, peaks=[CHUNKS])
    rng = generator(0, "memory read")
    key = torch.randn(1, KEY, FRAMES, HEIGHT, WIDTH, generator=rng)
    query = torch.randn(1, KEY, HEIGHT, WIDTH, generator=rng)
    value = torch.randn(1, 1, VALUE, FRAMES, HEIGHT, WIDTH, generator=rng)
    keys = key[0].flatten(1).T.contiguous()
    rows = (query[0].flatten(1).T.contiguous(), keys, keys.square().sum(1))
    values = value[0, 0].flatten(1).T.contiguous()
    candidates = {
        "top 20, scatter and dense": lambda: readout(affinity(key, query, TOP_K), value),
        "top 20, gathered": lambda: read_memory(*rows, values, TOP_K),
        "softmax, whole matrix": lambda: readout(affinity(key, query), value),
        CHUNKS: lambda: read_memory(*rows, values),
    }
    if args.peak:
        with torch.inference_mode():
            return print_peak(candidates[args.peak])
    with torch.inference_mode():
        for plain, ours in (list(candidates)[:2], list(candidates)[2:]):
            expected = candidates[plain]()[0, 0].flatten(1).T
            torch.testing.assert_close(candidates[ours](), expected, atol=1e-4, rtol=0)
        timings = rounds(candidates, args.rounds)
    cpu = {name: timing.median() for name, timing in timings.items()}
    top_dense, top, dense, chunks = cpu.values()
    claims = [
        Claim("top 20: times less CPU", top_dense / top, TOP_K_TARGET),
        Claim("softmax: times less CPU", dense / chunks, FULL_TARGET),
        Claim("softmax: MiB above its inputs", fresh_peak(MODULE, CHUNKS), MATRIX_MIB, True),
    ]
    return 0 if report("memory_read", args.command, timings, claims, out=args.out) else 1


if __name__ == "__main__":
    sys.exit(main())
