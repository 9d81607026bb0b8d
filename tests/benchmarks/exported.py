"""Time exported graphs in ONNX Runtime against the model's own step in torch, on one thread.

`python -m tests.benchmarks.exported` exports each student at 240x432 with the memory of the paper,
the first and the latest frame, and follows one object on random frames: torch through
`VideoSegmenter` as a user runs it, the graphs through `Runner`. Both in one process and in turn; a
round is a block of frames. Beside them one dense convolution, by whose arithmetic a second the
share of the machine's peak is told: multiplications of the step / its seconds / that rate.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.rounds import Claim, parsed, report, rounds
from vosmodels import checkpoint, demo, registry
from vosmodels.evaluation.speed.timing import random_video
from vosmodels.export.families import exportable_step
from vosmodels.export.folder import Request, export
from vosmodels.export.runner import Runner
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.support.memory import keep_freed_memory

MODULE = "tests.benchmarks.exported"
SIZE = (240, 432)
PAPER = MemoryRule.of("first,last")
BLOCK = 3  # frames of a round
MOST = 0.6  # of the CPU seconds of torch
STUDENTS = ("mobilevos_mobilenetv2_noaspp", "mobilevos_mobilenetv2", "mobilevos_resnet18")
CONVOLUTION = (256, 64)  # channels in and out, and rows and columns, of the one that tells the peak


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every claim holds, else 1."""
    args = parsed(MODULE, argv, count=9)
    keep_freed_memory()
    torch.set_num_threads(1)
    pictures, ids = random_video(*SIZE, objects=1)
    channels, edge = CONVOLUTION
    x, kernel = torch.rand(1, channels, edge, edge), torch.rand(channels, channels, 3, 3)
    candidates: dict[str, Callable[[], object]] = {
        "convolution": lambda: functional.conv2d(x, kernel, padding=1)
    }
    work = {"convolution": flops(lambda: functional.conv2d(x, kernel, padding=1))}
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        for name in (demo.DEMO, *STUDENTS):
            file, model = student(name, Path(place))
            request = Request(*SIZE, memory=PAPER)
            export(file, request, Path(place) / name)
            runner = Runner(Path(place) / name, threads=1)
            segmenter = VideoSegmenter(for_inference(model), memory=PAPER)
            segmenter.step(pictures[0], ids)
            runner.step(pictures[0].numpy(), ids.numpy())
            frames = pictures[1 : 1 + BLOCK]
            candidates[f"{name}, torch"] = partial(follow, segmenter.step, frames)
            arrays = [frame.numpy() for frame in frames]
            candidates[f"{name}, ONNX Runtime"] = partial(follow, runner.step, arrays)
            step = exportable_step(model, PAPER, height=SIZE[0], width=SIZE[1], objects=1)
            graph = step.graphs["step"]
            work[name] = flops(partial(graph, *(step.examples[key] for key in graph.inputs)))
        timings = rounds(candidates, args.rounds)
    cpu = {name: timing.median() for name, timing in timings.items()}
    peak = work["convolution"] / cpu["convolution"]
    claims = []
    for name in (demo.DEMO, *STUDENTS):
        exported, own = (cpu[f"{name}, {runtime}"] for runtime in ("ONNX Runtime", "torch"))
        claims.append(Claim(f"{name}: of torch's CPU seconds", exported / own, MOST, at_most=True))
        for runtime, seconds in (("ONNX Runtime", exported), ("torch", own)):
            share = work[name] * BLOCK / seconds / peak
            print(
                f"{name}, {runtime}: {share:.0%} of the convolution's rate ({work[name]:.3g} FLOP)"
            )
    print(f"convolution: {peak / 1e9:.0f} GFLOP a CPU second")
    return 0 if report("exported", args.command, timings, claims, out=args.out) else 1


def follow(step: Callable[[Any], object], frames: Sequence[Any]) -> None:
    """A round: segment the frames."""
    for frame in frames:
        step(frame)


def student(name: str, place: Path) -> tuple[Path, VideoModel]:
    """Return the file and the model of `demo`, or of a preset with random weights."""
    file = demo.student_file()
    if name != demo.DEMO:
        model = registry.build(name, seed=0)
        info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
        file, _ = checkpoint.write(place / "checkpoints", model.state_dict(), info)
    return file, checkpoint.load_model(file)


def flops(run: Callable[[], object]) -> int:
    """Count the additions and multiplications of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


if __name__ == "__main__":
    sys.exit(main())
