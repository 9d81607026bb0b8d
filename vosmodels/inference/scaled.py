"""A segmenter that sees fewer rows than the video has and answers at the video's own size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vosmodels.errors import InputError, UsageError
from vosmodels.inference.segmenter import VideoSegmenter, best
from vosmodels.types import FEWEST_ROWS


class ScaledSegmenter:
    """As the VideoSegmenter it wraps, which sees at most `rows` rows of it, aspect kept.

    Frames are scaled down bilinearly with antialiasing, given masks by their nearest pixels; the
    probabilities are scaled back bilinearly before the best object of each pixel is taken. Given
    objects are exactly where their mask says, at full size.
    """

    def __init__(self, segmenter: VideoSegmenter, rows: int) -> None:
        if rows < FEWEST_ROWS:
            raise UsageError(f"{rows} rows for the network to see: {FEWEST_ROWS} or more")
        self._segmenter = segmenter
        self._rows = rows

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """The ids (H, W) int64 of `frame` (3, H, W) float in [0, 1]; mask (H, W): given ids.

        An object that `rows` leave no pixel of is not followed. Raises InputError where the first
        mask has none that can be, otherwise what the segmenter raises.
        """
        full = (frame.shape[1], frame.shape[2])
        size = self._seen(full)
        given = self._given(mask, size)
        if size == full:
            return self._segmenter.step(frame, given)
        small = functional.interpolate(frame[None], size=size, mode="bilinear", antialias=True)[0]
        self._segmenter.step(small, given)
        probabilities = functional.interpolate(
            self._segmenter.probabilities[None], size=full, mode="bilinear"
        )[0]
        ids = torch.tensor([0, *self._segmenter.ids], device=probabilities.device)
        answer = ids[best(probabilities)]
        if mask is None:
            return answer
        mask = mask.to(answer)
        spilled = torch.isin(answer, mask.unique())
        return torch.where(mask > 0, mask, torch.where(spilled, 0, answer))

    def _seen(self, full: tuple[int, int]) -> tuple[int, int]:
        if self._rows >= full[0]:
            return full
        return self._rows, max(FEWEST_ROWS, round(full[1] * self._rows / full[0]))

    def _given(self, mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
        if mask is None:
            return None
        small = functional.interpolate(mask[None, None].double(), size=size, mode="nearest-exact")
        if small.any():
            return small[0, 0].to(mask.dtype)
        if self._segmenter.ids:
            return None
        raise InputError(
            f"the mask holds no object at {size[0]} rows, so nothing to follow; "
            f"{'let it see more rows' if mask.any() else 'draw ids above 0'}"
        )
