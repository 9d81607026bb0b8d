"""Segment a whole video from the masks that give its objects, with probabilities."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from vosmodels.data.frames import frame_tensor, given_mask
from vosmodels.data.teacher_masks import CERTAIN
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.types import U8, ScoredVideo


def soft_masks(segmenter: VideoSegmenter | ScaledSegmenter, video: ScoredVideo) -> Iterator[U8]:
    """Yield (1 + K, H, W) uint8 of every frame: ids, then each object's probability times 255.

    The K objects are those of `video.begins`, ascending; each is given in the frame where it
    begins, and is certain at the pixels of its mask there. In frame 0 every pixel is certain.
    segmenter: a new one. Raises InputError on a corrupt file, or a first mask without an object.
    """
    objects = sorted(video.begins)
    place = {number: channel for channel, number in enumerate(objects, 1)}
    for number in range(len(video)):
        mask = given_mask(video, number, None)
        ids = segmenter.step(frame_tensor(video.frame(number)), mask).cpu().numpy()
        planes = np.zeros((1 + len(objects), *ids.shape), dtype=np.uint8)
        planes[0] = ids
        for i, probability in zip(segmenter.ids, segmenter.probabilities[1:], strict=True):
            planes[place[i]] = _quantised(probability)
        if mask is not None:
            given = mask.numpy()
            planes[1:, (given > 0) | (number == 0)] = 0
            for i in np.unique(given[given > 0]):
                planes[place[int(i)], given == i] = CERTAIN
        yield planes


def _quantised(probability: Tensor) -> U8:
    """Return probabilities (H, W) in [0, 1] times 255, rounded."""
    return np.asarray((probability * CERTAIN).round().cpu().numpy(), dtype=np.uint8)
