"""Scale the frames and masks of a scored video to the height a segmenter runs at."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vosmodels.data.masks import resize_ids
from vosmodels.data.shrink import lost_ids, shrink_ids
from vosmodels.errors import InputError
from vosmodels.types import U8, ScoredVideo


def visited_frames(sequence: ScoredVideo, stride: int) -> list[int]:
    """Return every `stride`-th frame number, and each where an object begins."""
    return sorted({*range(0, len(sequence), stride), *sequence.begins.values()})


def given_mask(sequence: ScoredVideo, number: int, height: int | None) -> Tensor | None:
    """Return the ids (H, W) int64 of objects that begin in frame `number`, or None.

    The mask is scaled to `height` rows, where each object keeps at least a pixel.
    Raises InputError if frame 0 has no object, or if so few rows have no pixel for each object.
    """
    new = [i for i, first in sequence.begins.items() if first == number]
    if not new and number:
        return None
    truth = sequence.mask(number)
    ids = np.where(np.isin(truth, new), truth, 0).astype(np.uint8)
    if not ids.any():
        raise InputError(
            f"{sequence.name}: no object in the mask of frame {number}, so nothing to follow; "
            "draw one, or take the video out of the split"
        )
    if height is not None and height < ids.shape[0]:
        width, _ = _size(ids, height)
        small = shrink_ids(ids, height, width)
        if lost := lost_ids(ids, small):
            raise InputError(
                f"{sequence.name}: frame {number} has no pixel left at {height} rows for objects "
                f"{', '.join(map(str, lost))}; score at a larger height"
            )
        ids = small
    return torch.from_numpy(ids.astype(np.int64))


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
