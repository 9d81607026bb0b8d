"""Make textured clips, and weights regenerated from key names, for model tests."""

from __future__ import annotations

import copy
import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vosmodels import registry
from vosmodels.aot.network import AOTNetwork
from vosmodels.model import VideoModel
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.support.seeding import generator
from vosmodels.types import Clip

DATA = Path(__file__).parent / "conformance" / "files"
# Every model for a suite that each must pass. The largest run in the slow suite: they are made of
# the parts of the others.
EVERY_MODEL = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith("r50_") else name
    for name in registry.REGISTRY
]
SHARED = Path(__file__).resolve().parents[2] / "shared"


def network(name: str, *, seed: int | None = None, **options: Any) -> SpaceTimeNetwork:
    """`registry.build` of a model whose parts a test looks into."""
    if seed is None:
        return _spacetime(registry.build(name, **options))
    return _spacetime(copy.deepcopy(_prototype(name, seed, **options)))


def aot_network(name: str, **options: Any) -> AOTNetwork:
    """A model of the second family, with weights from its names, in eval mode."""
    model = any_filled(name, **options)
    assert isinstance(model, AOTNetwork)
    return model


def _spacetime(model: VideoModel) -> SpaceTimeNetwork:
    assert isinstance(model, SpaceTimeNetwork)
    return model


@functools.cache
def _prototype(name: str, seed: int, **options: Any) -> VideoModel:
    """A model that is copied for each test: building one takes several times as long."""
    with torch.inference_mode(False):  # whichever test asks first
        return registry.build(name, seed=seed, **options)


def textured_frames(count: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """(count, 3, height, width) in [0, 1]: coarse blobs under fine noise."""
    rng = generator(seed, "textured frames")
    coarse = torch.rand(count, 3, height // 8 + 1, width // 8 + 1, generator=rng)
    blobs = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = 0.2 * torch.randn(count, 3, height, width, generator=rng)
    return (blobs + noise).clamp(0, 1)


def textured_clip(
    *, clips: int = 2, frames: int = 3, size: int = 48, slots: int = 2, seed: int = 0
) -> Clip:
    """Objects are two moving rectangles; of several slots the last clip has only the first."""
    masks = torch.zeros(clips, frames, size, size, dtype=torch.int64)
    present = torch.ones(clips, slots, dtype=torch.bool)
    present[-1, 1:] = False
    for t in range(frames):
        masks[:, t, 8 + 4 * t : 40 + 4 * t, 8:32] = 1
        if slots > 1:
            masks[:-1, t, 20:50, 36:60] = 2
    images = textured_frames(clips * frames, size, size, seed=seed)
    return Clip(images.view(clips, frames, 3, size, size), masks, present, tuple(range(clips)))


def fill_from_names(model: nn.Module, *, rule: str = "B") -> None:
    """Weights that depend on each state-dict key's name and shape alone.

    The same rule filled the public STCN code when the golden vectors were made: equal outputs mean
    equal names, shapes and arithmetic. rule: A is 0.02 times a normal number everywhere; B and C
    divide those of matrices by sqrt(fan-in), times 1 and 1.2.
    """
    gains = {"B": 1.0, "C": 1.2}
    filled: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            filled[key] = torch.tensor(0)
            continue
        shape = tuple(value.shape)
        normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
        if key.endswith("running_var"):
            normal = np.abs(0.02 * normal) + 1
        elif key.endswith("weight") and len(shape) == 1:
            normal = 1 + 0.02 * normal
        elif len(shape) >= 2 and rule in gains:
            normal = normal * gains[rule] / np.sqrt(np.prod(shape[1:]))
        else:
            normal = 0.02 * normal
        filled[key] = torch.from_numpy(np.asarray(normal, dtype=np.float32))
    model.load_state_dict(filled)


def filled(name: str, **options: Any) -> SpaceTimeNetwork:
    """A registered model with such weights: unlike random ones they need no calibration."""
    return _spacetime(any_filled(name, **options))


def any_filled(name: str, **options: Any) -> VideoModel:
    """A registered model of any family with weights from its names."""
    return copy.deepcopy(_filled_prototype(name, **options))


@functools.cache
def _filled_prototype(name: str, **options: Any) -> VideoModel:
    with torch.inference_mode(False):
        model = registry.build(name, seed=0, **options)
        fill_from_names(model)
    return model
