"""Test that a student's memory does not grow with the video."""

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

FRAMES = 2000
STUDENTS = [name for name in registry.REGISTRY if name.startswith("mobilevos_")]


def held(value: Any) -> int:
    """Bytes of every tensor in a state."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if dataclasses.is_dataclass(value):
        return sum(held(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sum(map(held, value)) if isinstance(value, tuple) else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_nothing_grows_after_the_third_frame_over_2000_frames(name: str):
    model = for_inference(registry.build(name, seed=0))
    frames = itertools.cycle(textured_frames(7, 64, 80))
    ids = torch.zeros(64, 80, dtype=torch.int64)
    ids[10:40, 10:30], ids[20:50, 40:60] = 1, 2
    segmenter = VideoSegmenter(model)
    segmenter.step(next(frames), ids)
    states, resident = [], {}
    for count in range(2, FRAMES + 1):
        segmenter.step(next(frames))
        states.append(held(segmenter.state))
        if count in (FRAMES // 4, FRAMES):
            gc.collect()
            resident[count] = psutil.Process().memory_info().rss
    assert states[0] > 0
    assert set(states[1:]) == {states[1]}  # frames 3 to 2000
    early, late = resident.values()
    assert late - early < 8 * 2**20
