"""Test that the memory of a student, or of a model with a queue, does not grow with the video."""

import dataclasses
import gc
import itertools
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from tests.model_tools import textured_frames
from vosmodels import registry
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.memory_rule import MemoryRule

STUDENT = "mobilevos_mobilenetv2_noaspp"  # all students have the same propagator
# Models, options of their propagator, the frame from which on nothing grows, and of how many.
BOUNDED: list[tuple[str, dict[str, Any], int, int]] = [
    (STUDENT, {}, 3, 1000),
    (STUDENT, {"memory": MemoryRule.of("first,last,2x5")}, 12, 300),
    ("deaott_deformable", {}, 3, 300),  # remembers reference frames alone
    ("deaotl", {"queue": 3}, 12, 300),  # every fifth frame, three at most
]


def held(value: Any) -> int:
    """Bytes of every tensor in a state."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if dataclasses.is_dataclass(value):
        return sum(held(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sum(map(held, value)) if isinstance(value, tuple) else 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "settled", "frames"), BOUNDED)
def test_nothing_grows_after_the_first_frames_over_hundreds_of_frames(
    name: str, options: dict[str, Any], settled: int, frames: int
):
    model = for_inference(registry.build(name, seed=0))
    pictures = itertools.cycle(textured_frames(7, 32, 48))
    ids = torch.zeros(32, 48, dtype=torch.int64)
    ids[6:20, 6:20], ids[12:30, 26:46] = 1, 2
    segmenter = VideoSegmenter(model, **options)
    segmenter.step(next(pictures), ids)
    states, resident = [], {}
    for count in range(2, frames + 1):
        segmenter.step(next(pictures))
        states.append(held(segmenter.state))
        if count in (frames // 4, frames):
            gc.collect()
            resident[count] = psutil.Process().memory_info().rss
    assert states[0] > 0
    assert len({*states[settled - 2 :]}) == 1
    early, late = resident.values()
    assert late - early < 8 * 2**20


def test_without_a_queue_such_a_memory_grows():
    model = registry.build("deaotl", seed=0)
    frames = textured_frames(13, 33, 33)
    segmenter = VideoSegmenter(model)
    segmenter.step(frames[0], torch.ones(33, 33, dtype=torch.int64))
    sizes = []
    for frame in frames[1:]:
        segmenter.step(frame)
        sizes.append(held(segmenter.state))
    assert len({*sizes}) == 3  # after frames 5 and 10
