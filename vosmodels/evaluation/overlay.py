"""Draw a strip of a video's frames with predicted masks above and the truth below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vosmodels.data.frames import scaled_frame, scaled_mask, visited_frames
from vosmodels.data.overlay import GAP, overlay, strip
from vosmodels.types import U8, ScoredVideo


class OverlayStrip:
    """A picture of a few frames, whose masks are collected while a video is scored.

    The frames are spread evenly from the first, whose mask is given, to the last visited. Masks of
    other frames are dropped, so memory does not grow with the video. Height and stride are those
    of `runner.evaluate`, whose `on_mask` is `add`.
    """

    def __init__(
        self, sequence: ScoredVideo, *, height: int | None = None, stride: int = 1, frames: int = 4
    ) -> None:
        visited = visited_frames(sequence, stride)
        self.sequence = sequence
        self.height = height
        self.shown = sorted({visited[round(i)] for i in np.linspace(0, len(visited) - 1, frames)})
        self._ids: dict[int, U8] = {}

    def add(self, name: str, number: int, ids: U8) -> None:
        """Keep the ids (H, W) of a frame of video `name` if the strip shows that frame."""
        if name == self.sequence.name and number in self.shown:
            self._ids[number] = ids

    def save(self, path: Path) -> None:
        """Write the strip as a PNG; a frame without truth is shown bare.

        The folder is created if absent. Raises ValueError if a frame to show was not added.
        """
        missing = [number for number in self.shown if number not in self._ids]
        if missing:
            raise ValueError(f"{path}: {self.sequence.name}: no masks of frames {missing} yet")
        above, below = [], []
        for number in self.shown:
            frame = scaled_frame(self.sequence, number, self.height)
            above.append(overlay(frame, self._ids[number]))
            judged = number == 0 or number in self.sequence.judged
            truth = scaled_mask(self.sequence, number, self.height) if judged else None
            below.append(frame if truth is None else overlay(frame, truth))
        rows = [strip(above), strip(below)]
        gap = np.full((GAP, rows[0].shape[1], 3), 255, dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate([rows[0], gap, rows[1]])).save(path, format="PNG")
