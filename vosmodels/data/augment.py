"""Choose a training clip's crop, motion between frames and colours, by preset.

`light`: small ranges with which a network learns in minutes; the crop is near the target.
`stcn`: the ranges of STCN's training on video (arXiv:2106.05210, section 4.1, and its code); the
crop is anywhere in the frame. Differences from STCN: crop, rotation and shear are one map and one
bilinear interpolation (STCN crops, then rotates, both bicubic); the corners of a rotated crop show
the rest of the frame, not the mean colour; colours change after the rotation, so contrast is
relative to the mean of the crop.
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
    """An augmentation preset; all random numbers come from the `rng` argument."""

    min_share: float  # least share of the crop that the target covers in the first frame

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        """Draw one (2, 3) map per frame, from the frame to the crop.

        target (H, W): the object's mask in the first of the `count` frames; crop: the edge of the
        square crop in pixels.
        """
        ...

    def colours(self, rng: np.random.Generator, frames: U8) -> Tensor:
        """Change the colours: (T, H, W, 3) uint8 -> (T, 3, H, W) float32 in [0, 1]."""
        ...


def augmenter(preset: Augmentation, smallest_crop: float) -> Augmenter:
    """Return the preset of this name; `smallest_crop` applies to `Stcn` alone."""
    return Light() if preset == "light" else Stcn(smallest_crop)


class Light:
    """A preset with one view per clip, centred near a random pixel of the target.

    Each frame adds a small rotation, shear and zoom; the whole clip gets one tint.
    """

    min_share = 0.004
    zoom = (1.0, 1.9)  # per clip; the crop covers 1/zoom of the shorter side
    off_centre = 0.5  # largest offset of the crop centre from the target pixel, in half crops
    rotation_deg, shear, scale = 4.0, 0.04, 0.04  # per frame: standard deviations, scale a bound

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
    """STCN's preset for videos.

    smallest_crop: the least share of the frame's area that a crop covers, before its rotation.
    STCN draws the target among the objects visible in the crop (in BL30K, those of at least 100
    pixels). Here the target is drawn among the first frame's objects before the crop, and one
    visible pixel of the target is enough.
    """

    smallest_crop: float = 0.36
    min_share = 0.0
    widest = 4 / 3  # largest ratio of the crop's longer to its shorter side: torchvision's default
    rotation_deg, shear_deg = 15.0, 10.0  # bounds, per frame
    grey = 0.05  # share of the clips

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        x0, y0, width, height = self._crop(rng, *target.shape)
        stretch = np.diag([mirror * crop / width, crop / height])
        centre = (x0 + (width - 1) / 2, y0 + (height - 1) / 2)

        def linear() -> F64:
            turned = rotation(rng.uniform(-self.rotation_deg, self.rotation_deg))
            slope = math.tan(math.radians(rng.uniform(-self.shear_deg, self.shear_deg)))
            return np.asarray(turned @ shear(slope) @ stretch)

        return [about(linear(), centre, crop) for _ in range(count)]

    def _crop(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[float, float, float, float]:
        """Draw (left, top, width, height) as torchvision's RandomResizedCrop, unrounded."""
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
