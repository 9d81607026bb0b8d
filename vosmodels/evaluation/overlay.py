"""Save a picture of a video's frames with the predicted and the true masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vosmodels.data.frames import (
    frame_tensor,
    given_mask,
    scaled_frame,
    scaled_mask,
    visited_frames,
)
from vosmodels.data.overlay import GAP, overlay, strip
from vosmodels.inference.segmenter import HasPropagator, VideoSegmenter
from vosmodels.types import ScoredVideo


def save_strip(
    path: Path,
    model: HasPropagator,
    sequence: ScoredVideo,
    *,
    height: int | None = None,
    stride: int = 1,
    frames: int = 4,
) -> None:
    """Run `model` over a video and save some frames: predictions above, truth below.

    The picture shows `frames` frames, spread evenly from the first, whose mask is given, to the
    last visited. A frame without a true mask is shown bare. height, stride: as in
    `runner.evaluate`. Writes a PNG.
    """
    visited = visited_frames(sequence, stride)
    shown = {visited[round(i)] for i in np.linspace(0, len(visited) - 1, frames)}
    segmenter = VideoSegmenter(model)
    above, below = [], []
    for number in visited:
        frame = scaled_frame(sequence, number, height)
        answer = segmenter.step(frame_tensor(frame), given_mask(sequence, number, height))
        if number in shown:
            has_truth = number == 0 or number in sequence.judged
            above.append(overlay(frame, answer.cpu().numpy()))
            truth = scaled_mask(sequence, number, height) if has_truth else None
            below.append(frame if truth is None else overlay(frame, truth))
    rows = [strip(above), strip(below)]
    gap = np.full((GAP, rows[0].shape[1], 3), 255, dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([rows[0], gap, rows[1]])).save(path, format="PNG")
