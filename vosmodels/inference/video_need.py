"""Compute the memory that a video takes, from one frame traced without its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from vosmodels.inference.fold import for_inference
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.spacetime.propagator import STRIDE
from vosmodels.support.live_bytes import LiveBytes, replace_modules

TRACED = (15 * STRIDE, 16 * STRIDE)  # height and width in px; what a frame needs grows with both
# Resident memory over the bytes of live tensors: buffers of convolutions, and gaps between blocks.
OVERHEAD = 1.8


@dataclass(frozen=True)
class VideoNeed:
    """Bytes that a model takes for a video of so many objects.

    weights: of the folded copy; pixel: of a frame at work, per pixel; remembered: of a frame in
    memory, per pixel; memory: which frames are remembered.
    """

    weights: float
    pixel: float
    remembered: float
    memory: MemoryRule

    def of(self, height: int, width: int, frames: int) -> float:
        """Compute the bytes for a video of `frames` frames of (height, width)."""
        bank = (
            2 * self.memory.after(frames) * self.remembered
        )  # a longer bank is written beside the old one
        return self.weights + height * width * (OVERHEAD * self.pixel + bank)


def video_need(model: VideoModel, objects: int, memory: MemoryRule | None = None) -> VideoNeed:
    """Trace a first and a later frame with `objects` objects on the meta device.

    model: on any device; with one on the meta device nothing is allocated. memory: in
    place of the model's own rule. Raises RuntimeError where the model reads numbers of its tensors,
    which have none there.
    """
    ready = for_inference(model).to("meta")
    replace_modules(
        ready, nn.ReLU6, partial(nn.ReLU, inplace=True)
    )  # traced in a tenth of the time
    height, width = TRACED
    frame = torch.empty(3, height, width, device="meta")
    ids = torch.full((height, width), objects)
    propagator = ready.propagator()
    with torch.inference_mode(), LiveBytes() as live:
        state = propagator.begin(frame, ids)
        remembered = live.now
        live.peak = live.now
        prediction = propagator.predict(state, frame)
        state = propagator.commit(state, prediction)
        peak = live.peak
    pixels = height * width
    stored = sum(x.numel() * x.element_size() for x in ready.state_dict().values())
    return VideoNeed(stored, peak / pixels, remembered / pixels, memory or ready.memory)
