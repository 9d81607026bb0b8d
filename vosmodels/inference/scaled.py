"""Segment a video at a reduced height and return masks at the video's own size."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vosmodels.data.shrink import keep_objects, lost_ids
from vosmodels.errors import InputError, UsageError
from vosmodels.support.channels import best
from vosmodels.types import FEWEST_ROWS, Segmenter


class WithProbabilities(Segmenter, Protocol):
    """A Segmenter that says what it follows and how sure it is, as a VideoSegmenter."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of the objects, in the order of `probabilities`' channels."""
        ...

    @property
    def probabilities(self) -> Tensor:
        """Return the latest frame's probabilities (1 + len(ids), H, W)."""
        ...


class ScaledSegmenter:
    """A Segmenter that runs another, such as a VideoSegmenter, at a height of at most `rows` rows.

    The aspect ratio is kept. Frames are scaled down bilinearly with antialiasing, masks by
    nearest neighbour, so that no object vanishes; probabilities are scaled up bilinearly before the
    best object of each pixel is taken. The objects of a given mask get exactly the mask's pixels at
    full size. Raises UsageError if rows < FEWEST_ROWS.
    """

    def __init__(self, segmenter: WithProbabilities, rows: int) -> None:
        if rows < FEWEST_ROWS:
            raise UsageError(f"{rows} rows for the network to see: {FEWEST_ROWS} or more")
        self._segmenter = segmenter
        self._rows = rows
        self._probabilities: Tensor | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of the objects, in the order of `probabilities`' channels."""
        return self._segmenter.ids

    @property
    def probabilities(self) -> Tensor:
        """Return the latest frame's probabilities (1 + len(ids), H, W) at the frame's own size.

        They are scaled up bilinearly, those of given objects too. Raises ValueError before the
        first step.
        """
        if self._probabilities is None:
            return self._segmenter.probabilities
        return self._probabilities

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Segment a frame (3, H, W) float in [0, 1] and return its ids (H, W) int64.

        mask: (H, W) integer ids, as `VideoSegmenter.step` takes them. Every object keeps a pixel at
        `rows` rows. Raises InputError if the first mask holds no object, or if objects lie so
        closely that not each finds a pixel; else as the segmenter.
        """
        full = (frame.shape[1], frame.shape[2])
        size = self._seen(full)
        small_mask = self._given(mask, size)
        if size == full:
            self._probabilities = None
            return self._segmenter.step(frame, small_mask)
        small = functional.interpolate(frame[None], size=size, mode="bilinear", antialias=True)[0]
        self._segmenter.step(small, small_mask)
        probabilities = functional.interpolate(
            self._segmenter.probabilities[None], size=full, mode="bilinear"
        )[0]
        self._probabilities = probabilities
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
        nearest = functional.interpolate(mask[None, None].double(), size=size, mode="nearest-exact")
        ids, small = mask.cpu().numpy(), nearest[0, 0].to(mask.dtype).cpu().numpy()
        small = keep_objects(ids, small)
        lost = lost_ids(ids, small)
        if lost:
            raise InputError(
                f"{_objects(lost)} of the mask: no pixel left at {size[0]} rows, as other objects "
                "lie there too; give the network more rows"
            )
        if small.any():
            return torch.from_numpy(small).to(mask)
        if self._segmenter.ids:
            return None
        raise InputError(
            "the mask holds no object, so there is nothing to follow; draw ids above 0"
        )


def _objects(ids: tuple[int, ...]) -> str:
    more = f" and {len(ids) - 8} more" if len(ids) > 8 else ""
    return f"object{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids[:8]))}{more}"
