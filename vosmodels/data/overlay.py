"""Paint masks over frames, and lay pictures side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vosmodels.data.masks import palette
from vosmodels.types import U8

GAP = 4  # white pixels between pictures


def overlay(frame: U8, ids: NDArray[np.integer]) -> U8:
    """Tint the objects of a frame and draw their contours.

    frame (H, W, 3) uint8 RGB, ids (H, W) -> (H, W, 3) uint8. Colours are the DAVIS palette at twice
    its brightness. Raises ValueError on unequal sizes.
    """
    if frame.shape[:2] != ids.shape:
        raise ValueError(f"frame {frame.shape} and ids {ids.shape}: wanted (H, W, 3) and (H, W)")
    numbers = ids.astype(np.uint8)
    colours = np.minimum(palette().astype(np.int64) * 2, 255).astype(np.uint8)[numbers]
    around = np.ones((3, 3), dtype=np.uint8)
    inside = (cv2.erode(numbers, around) == numbers) & (cv2.dilate(numbers, around) == numbers)
    tinted = (frame // 2 + colours // 2).astype(np.uint8)
    painted = np.where(inside[..., None], tinted, colours)
    return np.where((numbers > 0)[..., None], painted, frame)


def strip(pictures: Sequence[U8]) -> U8:
    """Lay pictures of one height side by side, GAP white pixels apart.

    pictures (H, W_i, 3) -> (H, sum of W_i and gaps, 3). Raises ValueError on no pictures or unequal
    heights.
    """
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) != 1:
        raise ValueError(
            f"pictures of heights {sorted(heights)}; wanted one height, at least one picture"
        )
    gap = np.full((heights.pop(), GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=1)
