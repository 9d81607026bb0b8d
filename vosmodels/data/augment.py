"""How a clip's crop is laid, moved from frame to frame and recoloured, by preset.

`light`: ranges seen to learn in minutes, the crop around the target.
`stcn`: those of STCN's training on video (arXiv:2106.05210, section 4.1, and its code), anywhere in
the frame. Where ours differs: crop, turn and shear are one map, drawn once and bilinear (STCN draws
the crop, then turns it, both bicubic); beside a crop that turns lies the rest of the frame, not the
mean colour; colours change after the crop is turned, so contrast is that of what is seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vosmodels.data.affine import F64, about, grey, jitter_colour, rotation, shear, tint, to_float
from vosmodels.types import U8, Augmentation


class Augmenter(Protocol):
    """One preset; every draw is of the generator it is handed."""

    min_share: float  # of the crop that the target should cover in the first frame

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        """(2, 3) maps of `count` frames to a crop; target (H, W): the object in the first."""
        ...

    def colours(self, rng: np.random.Generator, frames: U8) -> Tensor:
        """(T, H, W, 3) uint8 -> (T, 3, H, W) float32 in [0, 1]."""
        ...


def augmenter(preset: Augmentation, smallest_crop: float) -> Augmenter:
    """The preset; smallest_crop is `Stcn`'s."""
    return Light() if preset == "light" else Stcn(smallest_crop)


class Light:
    """One view a clip, centred near a point of the target; small turns, shears and zooms a frame;
    one tint a clip."""

    min_share = 0.004
    zoom = (1.0, 1.9)  # the crop covers 1/zoom of the shorter side
    off_centre = 0.5  # target point to crop centre, in half crops
    rotation_deg, shear, scale = 4.0, 0.04, 0.04  # per frame: two standard deviations, one bound

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        height, width = target.shape
        half = min(height, width) / rng.uniform(*self.zoom) / 2  # half the view, frame pixels
        y, x = divmod(int(rng.choice(np.flatnonzero(target))), width)
        offset = rng.uniform(-self.off_centre, self.off_centre, 2) * half
        centre = (
            float(np.clip(x + offset[0], half, width - half)),
            float(np.clip(y + offset[1], half, height - half)),
        )
        scale = crop / (2 * half)
        mirror = np.diag([-1.0 if rng.random() < 0.5 else 1.0, 1.0])

        def linear() -> F64:
            turned = rotation(rng.normal(0, self.rotation_deg)) @ shear(rng.normal(0, self.shear))
            zoomed = scale * rng.uniform(1 - self.scale, 1 + self.scale)
            return np.asarray(turned @ mirror * zoomed)

        return [about(linear(), centre, crop) for _ in range(count)]

    def colours(self, rng: np.random.Generator, frames: U8) -> Tensor:
        return tint(rng, frames)


@dataclass(frozen=True)
class Stcn:
    """smallest_crop: the least share of the frame's area that a crop covers, before it is turned.

    STCN takes any visible object as target, in BL30K none below 100 pixels; here it is one of the
    first frame's objects, drawn before the crop, and any pixel of it will do.
    """

    smallest_crop: float = 0.36
    min_share = 0.0
    widest = 4 / 3  # of width to height, and of height to width: torchvision's default
    rotation_deg, shear_deg = 15.0, 10.0  # per frame, bounds
    grey = 0.05  # of the clips

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        left, top, width, height = self._crop(rng, *target.shape)
        stretch = np.diag([mirror * crop / width, crop / height])
        centre = (left + (width - 1) / 2, top + (height - 1) / 2)

        def linear() -> F64:
            turned = rotation(rng.uniform(-self.rotation_deg, self.rotation_deg))
            slope = math.tan(math.radians(rng.uniform(-self.shear_deg, self.shear_deg)))
            return np.asarray(turned @ shear(slope) @ stretch)

        return [about(linear(), centre, crop) for _ in range(count)]

    def _crop(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[float, float, float, float]:
        """left, top, width, height as torchvision's RandomResizedCrop draws them, not rounded."""
        for _ in range(10):
            area = height * width * rng.uniform(self.smallest_crop, 1)
            ratio = self.widest ** rng.uniform(-1, 1)
            w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if w <= width and h <= height:
                return rng.uniform(0, width - w), rng.uniform(0, height - h), w, h
        w, h = min(width, height * self.widest), min(height, width * self.widest)
        return (width - w) / 2, (height - h) / 2, w, h

    def colours(self, rng: np.random.Generator, frames: U8) -> Tensor:
        clip = jitter_colour(rng, to_float(frames), brightness=0.1, contrast=0.03, saturation=0.03)
        clip = grey(rng, clip, self.grey)
        return torch.cat(
            [
                jitter_colour(rng, frame, brightness=0.01, contrast=0.01, saturation=0.01)
                for frame in clip.split(1)
            ]
        )
