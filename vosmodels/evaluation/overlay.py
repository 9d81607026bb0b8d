"""Masks painted over frames, to be looked at: strips of frames with prediction and truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vosmodels.data.masks import palette
from vosmodels.evaluation.runner import (
    frame_tensor,
    given_mask,
    scaled_frame,
    scaled_mask,
    visited_frames,
)
from vosmodels.inference import HasPropagator, VideoSegmenter
from vosmodels.types import U8, ScoredVideo

_GAP = 4  # white pixels between pictures


def overlay(frame: U8, ids: NDArray[np.integer]) -> U8:
    """frame (H, W, 3) RGB and ids (H, W) -> (H, W, 3): objects tinted, their contours drawn.

    Colours are the DAVIS palette at twice its brightness. Raises ValueError on unequal sizes.
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
    """(H, W_i, 3) pictures of one height side by side -> (H, sum of W_i and gaps, 3).

    Raises ValueError on no pictures or unequal heights.
    """
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) != 1:
        raise ValueError(f"pictures of heights {sorted(heights)}; wanted one height, and a picture")
    gap = np.full((heights.pop(), _GAP, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=1)


def save_strip(
    path: Path,
    model: HasPropagator,
    sequence: ScoredVideo,
    *,
    height: int | None = None,
    stride: int = 1,
    frames: int = 4,
) -> None:
    """Run `model` over a video and save `frames` of it as PNG: predictions above, truth below.

    Frames are spread evenly from the first, whose mask is given, to the last visited; where there
    is no truth the bare frame stands. Height and stride as in `runner.evaluate`.
    """
    visited = visited_frames(sequence, stride)
    shown = {visited[round(i)] for i in np.linspace(0, len(visited) - 1, frames)}
    segmenter = VideoSegmenter(model)
    above, below = [], []
    for number in visited:
        frame = scaled_frame(sequence, number, height)
        answer = segmenter.step(frame_tensor(frame), given_mask(sequence, number, height))
        if number in shown:
            known = number == 0 or number in sequence.judged
            above.append(overlay(frame, answer.cpu().numpy()))
            below.append(overlay(frame, scaled_mask(sequence, number, height)) if known else frame)
    rows = [strip(above), strip(below)]
    gap = np.full((_GAP, rows[0].shape[1], 3), 255, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([rows[0], gap, rows[1]])).save(path, format="PNG")
