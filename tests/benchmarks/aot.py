"""Time DeAOT with and without deformable attention, by objects, and count its training memory.

`python -m tests.benchmarks.aot` segments frames of 480x854 with the folded models, in interleaved
rounds: vanilla and deformable with three objects, deformable with one and with ten, which one pass
segments together. Behind the rounds it prints the bytes of tensors that a clip holds between
forward and backward pass, for crops of several sizes, counted on the meta device.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from orchestrator.config.models import ModelConfig
from orchestrator.planning.memory_need import step_bytes
from tests.benchmarks.rounds import Claim, parsed, report, rounds
from vosmodels import registry
from vosmodels.evaluation.speed.timing import random_video
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.support.memory import keep_freed_memory

MODULE = "tests.benchmarks.aot"
HEIGHT, WIDTH = 480, 854
VANILLA, DEFORMABLE = "deaott", "deaott_deformable"
CASES = ((VANILLA, 3), (DEFORMABLE, 3), (DEFORMABLE, 1), (DEFORMABLE, 10))  # model, objects
SHARE = 0.8  # of the vanilla model's frames a second; the paper has 52.4 of 64.3
MORE_OBJECTS = 1.3  # times the milliseconds of one object
CROPS, FRAMES, OBJECTS = (129, 257, 465), 5, 3
TRAINED = (VANILLA, DEFORMABLE, "deaotl")


def step(name: str, objects: int) -> Callable[[], object]:
    """Return a call that segments the next frame of a video of so many objects."""
    model = for_inference(registry.build(name, seed=0))
    frames, ids = random_video(HEIGHT, WIDTH, objects)
    segmenter = VideoSegmenter(model)
    segmenter.step(frames[0], ids)
    return lambda: segmenter.step(frames[1])


def print_training_memory() -> None:
    """Print MiB of tensors of one clip, by model and by tokens of a frame."""
    for name in TRAINED:
        for crop in CROPS:
            tokens = ((crop - 1) // 16 + 1) ** 2
            mib = step_bytes(ModelConfig(name=name), FRAMES, OBJECTS, crop) / 2**20
            print(
                f"training {name}: {mib:.0f} MiB a clip of {FRAMES} frames of {crop}x{crop}, "
                f"{tokens} tokens, {1024 * mib / (FRAMES * tokens):.0f} KiB a token"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where every claim holds, else 1."""
    args = parsed(MODULE, argv, count=5)
    keep_freed_memory()
    torch.set_num_threads(1)  # the waits of threads for each other would be counted
    names = {case: f"{case[0]}, objects {case[1]}" for case in CASES}
    timings = rounds({names[case]: step(*case) for case in CASES}, args.rounds)
    seconds = {case: timings[name].median() for case, name in names.items()}
    vanilla, three, one, ten = (seconds[case] for case in CASES)
    claims = [
        Claim("deformable: share of the vanilla model's frames a second", vanilla / three, SHARE),
        Claim("three objects: times the CPU of one", three / one, MORE_OBJECTS, at_most=True),
        Claim("ten objects: times the CPU of one", ten / one, MORE_OBJECTS, at_most=True),
    ]
    print_training_memory()
    return 0 if report("aot", args.command, timings, claims, out=args.out) else 1


if __name__ == "__main__":
    sys.exit(main())
