"""Make a generated clip, and what a model answers to it, to check its graphs by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from vosmodels.data.frames import frame_tensor
from vosmodels.data.generated import MAX_OBJECTS, GeneratedSequence
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.types import U8

FRAMES = 8
LATE = 3  # the frame in which the last object is given, where there are several


@dataclass(frozen=True)
class ParityClip:
    """Frames (H, W, 3), the masks given by frame number, and the ids that are expected (H, W)."""

    frames: list[U8]
    given: dict[int, U8]
    expected: list[U8]


def parity_clip(
    model: VideoModel, memory: MemoryRule, *, height: int, width: int, objects: int
) -> ParityClip:
    """Draw a clip of so many objects, three at most, and segment it with the model itself.

    Of several objects the last is given in frame LATE.
    """
    video = next(_videos(height, width, min(objects, MAX_OBJECTS)))
    frames = [video.frame(index) for index in range(FRAMES)]
    first, late = video.mask(0), max(video.ids)
    given: dict[int, U8] = {0: first}
    if len(video.ids) > 1:
        given = {0: np.where(first == late, 0, first)}
        given[LATE] = np.where(video.mask(LATE) == late, video.mask(LATE), 0)
    segmenter = VideoSegmenter(for_inference(model), memory=memory)
    expected = []
    for number, frame in enumerate(frames):
        mask = given.get(number)
        ids = None if mask is None else torch.from_numpy(mask.astype(np.int64))
        expected.append(segmenter.step(frame_tensor(frame), ids).numpy().astype(np.uint8))
    return ParityClip(frames, given, expected)


def _videos(height: int, width: int, objects: int) -> Iterator[GeneratedSequence]:
    """Yield scenes of exactly so many objects, the last of which shows in frame LATE."""
    for number in itertools.count():
        video = GeneratedSequence("check", (0, "check", number), height, width, FRAMES, objects)
        if len(video.ids) == objects and (video.mask(LATE) == objects).any():
            yield video
