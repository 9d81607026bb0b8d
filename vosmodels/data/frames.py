"""Scale the frames and masks of a scored video to the height a segmenter runs at."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vosmodels.data.masks import resize_ids
from vosmodels.errors import InputError
from vosmodels.types import U8, ScoredVideo


def visited_frames(sequence: ScoredVideo, stride: int) -> list[int]:
    """Return every `stride`-th frame number, and each where an object begins."""
    return sorted({*range(0, len(sequence), stride), *sequence.begins.values()})


def given_mask(sequence: ScoredVideo, number: int, height: int | None) -> Tensor | None:
    """Return the ids (H, W) int64 of objects that begin in frame `number`, or None.

    The mask is scaled to `height` rows, where a tiny object may vanish; it is then left out.
    Raises InputError if frame 0 has no object left.
    """
    new = [i for i, first in sequence.begins.items() if first == number]
    if not new and number:
        return None
    truth = scaled_mask(sequence, number, height)
    ids = np.where(np.isin(truth, new), truth, 0)
    if ids.any():
        return torch.from_numpy(ids.astype(np.int64))
    if number:
        return None
    raise InputError(
        f"{sequence.name}: no object in the first mask at {truth.shape[0]} rows, so "
        "nothing to follow; take it out of the split, or score at a larger height"
    )


def scaled_frame(sequence: ScoredVideo, index: int, height: int | None) -> U8:
    """Return frame `index` (H, W, 3), scaled down to `height` rows; never enlarged.

    The aspect ratio stays, up to rounding of the width.
    """
    frame = sequence.frame(index)
    if height is None or height >= frame.shape[0]:
        return frame
    small = cv2.resize(frame, _size(frame, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def scaled_mask(sequence: ScoredVideo, index: int, height: int | None) -> U8:
    """Return the ids (H, W) of a frame that has a mask, at the size of `scaled_frame`."""
    ids = sequence.mask(index)
    if height is None or height >= ids.shape[0]:
        return ids
    width, _ = _size(ids, height)
    return resize_ids(ids, height, width)


def _size(picture: U8, height: int) -> tuple[int, int]:
    """Return (width, height) of a picture scaled to `height` rows."""
    return max(1, round(picture.shape[1] * height / picture.shape[0])), height


def frame_tensor(frame: U8) -> Tensor:
    """Convert (H, W, 3) uint8 -> (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(frame).permute(2, 0, 1).float().div_(255).contiguous()
