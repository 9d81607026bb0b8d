"""Time a student's whole step at 480x910 against the teacher's.

`python -m tests.benchmarks.step` follows one object on random frames through VideoSegmenter, all
models in one process and in turn. STCN runs with its official settings (every fifth frame in
memory, top 20). A second check holds STCN to the seconds of the public code, scaled to this machine
by a matrix product, so that no student wins by a slow teacher. A round is a block of frames of each
model.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.rounds import Claim, fresh_peak, parsed, print_peak, report, rounds
from vosmodels import registry
from vosmodels.evaluation.speed.timing import random_video
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel
from vosmodels.support.memory import keep_freed_memory

MODULE = "tests.benchmarks.step"
SIZE = (480, 910)
BLOCK = 5  # frames of a round: STCN remembers one of them
TIMES = {"mobilevos_mobilenetv2_noaspp": 8.0, "mobilevos_resnet18": 5.0}  # fp32; bf16 twice that
HALF = " bf16"
STUDENTS = [name + half for name in TIMES for half in ("", HALF)]
PEAK_MIB, TAIL = 150.0, 1.3  # memory above the model; p95 over median
# The public STCN takes 3.1 CPU seconds a frame where this product of two matrices takes 0.153
# (112 GFLOP a CPU second); at most 1.1 times as many products on any machine.
PRODUCT, STCN_PRODUCTS = 2048, 1.1 * 3.1 / 0.153


class Stream:
    """A model that follows an object through an endless video."""

    def __init__(self, model: VideoModel, frames: list[Tensor], ids: Tensor) -> None:
        self.segmenter = VideoSegmenter(model)
        self.frames = frames
        self.segmenter.step(self.frames[0], ids)
        self.seconds: list[float] = []
        self.shown = 0

    def block(self) -> None:
        """The next frames; each one's seconds are kept."""
        for _ in range(BLOCK):
            self.shown += 1
            start = time.perf_counter()
            self.segmenter.step(self.frames[self.shown % len(self.frames)])
            self.seconds.append(time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every claim holds, else 1."""
    args = parsed(MODULE, argv, count=5, peaks=STUDENTS)
    keep_freed_memory()  # as every command and worker does
    video = random_video(*SIZE, objects=1)
    if args.peak:
        model = student(args.peak)
        return print_peak(lambda: Stream(model, *video).block())
    streams = {"stcn": Stream(registry.build("stcn", seed=0), *video)}
    streams |= {name: Stream(student(name), *video) for name in STUDENTS}
    a, b = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)
    candidates: dict[str, Callable[[], object]] = {n: s.block for n, s in streams.items()}
    candidates["matrix product"] = lambda: a @ b
    timings = rounds(candidates, args.rounds)
    cpu = {name: timing.median() for name, timing in timings.items()}
    products = cpu["stcn"] / BLOCK / cpu["matrix product"]
    claims = [Claim("stcn: matrix products a frame", products, STCN_PRODUCTS, at_most=True)]
    for name, stream in list(streams.items())[1:]:
        half = name.endswith(HALF)
        target = TIMES[name.removesuffix(HALF)] * (2 if half else 1)
        if half and not has_bfloat16():
            print(f"{name}: no bfloat16 instructions here, so no claim")
        else:
            claims.append(Claim(f"{name}: times less CPU", cpu["stcn"] / cpu[name], target))
        steady = np.array(stream.seconds[BLOCK:])
        tail = float(np.percentile(steady, 95) / np.median(steady))
        claims.append(Claim(f"{name}: p95 over median", tail, TAIL, at_most=True))
        mib = fresh_peak(MODULE, name)
        claims.append(Claim(f"{name}: MiB above the model", mib, PEAK_MIB, at_most=True))
    return 0 if report("step", args.command, timings, claims, out=args.out) else 1


def student(name: str) -> VideoModel:
    """Build one of STUDENTS for inference, with random weights."""
    dtype = torch.bfloat16 if name.endswith(HALF) else torch.float32
    return for_inference(registry.build(name.removesuffix(HALF), seed=0), dtype=dtype)


def has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 instructions."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "avx512_bf16" in cpuinfo.read_text()


if __name__ == "__main__":
    sys.exit(main())
