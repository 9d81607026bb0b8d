"""Compute the memory that a video takes, from one frame traced without its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from vosmodels.inference.fold import for_inference
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
    memory, per pixel; queue: most frames in memory, None for no end; every: frames between two
    that are remembered.
    """

    weights: float
    pixel: float
    remembered: float
    queue: int | None
    every: int

    def of(self, height: int, width: int, frames: int) -> float:
        """Compute the bytes for a video of `frames` frames of (height, width)."""
        kept = 1 + frames // self.every
        if self.queue is not None:
            kept = min(kept, self.queue)
        bank = 2 * kept * self.remembered  # a longer bank is written beside the old one
        return self.weights + height * width * (OVERHEAD * self.pixel + bank)


def video_need(model: VideoModel, objects: int, *, remembers_all: bool = False) -> VideoNeed:
    """Trace a first and a later frame with `objects` objects on the meta device.

    model: on any device; with one on the meta device nothing is allocated. remembers_all: every
    frame enters a memory without end, whatever the model's own rule is. Raises RuntimeError
    where the model reads numbers of its tensors, which have none there.
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
    own = ready.queue is not None or remembers_all
    every = 1 if own else getattr(ready, "mem_every", 1)
    queue = None if remembers_all else ready.queue
    pixels = height * width
    stored = sum(x.numel() * x.element_size() for x in ready.state_dict().values())
    return VideoNeed(stored, peak / pixels, remembered / pixels, queue, every)
