"""Make training clips from still images: each frame warps the same image anew.

STCN's first training stage (arXiv:2106.05210, section 4.1, and its code). "light" is `augment`'s
preset for videos plus a random shift per frame; "stcn" has STCN's ranges. Differences from STCN:
two affine maps and a resize are one map and one bilinear interpolation, so no pixels are cut off
between them; masks are ids, the bicubically warped mask thresholded at one half (STCN gives the
soft mask to the value encoder); colours change after the crop, so contrast is relative to the mean
of the crop; pixels outside a bent image have ImageNet's mean colour (black in STCN); the first
frame always shows the object.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vosmodels.data import augment
from vosmodels.data.affine import (
    BORDER,
    F64,
    about,
    grey,
    jitter_colour,
    rotation,
    shear,
    to_float,
    warp_frame,
)
from vosmodels.data.clips import in_turn
from vosmodels.data.static_images import StaticImages
from vosmodels.data.thin_plate import ThinPlateSpline
from vosmodels.errors import InputError
from vosmodels.support.seeding import numpy_generator
from vosmodels.types import U8, Augmentation, Clip

logger = logging.getLogger(__name__)

_ATTEMPTS = 20  # draws of a first frame that shows the object, before the next image is used
_MIN_SHARE = 0.004  # least share of the crop that the object covers in the first frame
_BENT = 0.33  # share of the frames that are bent; the others are only moved
_BENDING_POINTS = 12


class StaticClips:
    """A `ClipSource` of still images.

    A clip has clip_length pseudo-frames of crop x crop pixels. sources: (images, repeat) pairs;
    STCN repeats FSS-1000, DUTS and ECSSD once, BIG and HRSOD five times. An epoch has sum(images x
    repeat) samples and visits each image `repeat` times, in a new order each time. The object has
    slot 1 of max_objects, so that these clips collate with clips of videos; the object shows in the
    first frame and may leave later frames. If no draw shows an image's object, the next image in
    the order is used and the log names the skipped image.

    Raises InputError if a folder has problems, ValueError on sizes or repeats below one.
    """

    def __init__(
        self,
        sources: Sequence[tuple[StaticImages, int]],
        *,
        clip_length: int,
        crop: int,
        seed: int,
        max_objects: int = 1,
        augmentation: Augmentation = "light",
    ) -> None:
        repeats = [repeat for _, repeat in sources]
        if not sources or min(clip_length, crop, max_objects, *repeats) < 1:
            raise ValueError(
                f"{len(sources)} sources, repeats {repeats}, clip_length {clip_length}, "
                f"crop {crop}, max_objects {max_objects}: all must be at least 1"
            )
        self._images = [image for folder, repeat in sources for image in folder.images() * repeat]
        self._roots = [str(folder.root) for folder, _ in sources]
        self._clip_length = clip_length
        self._crop = crop
        self._seed = seed
        self._max_objects = max_objects
        self._augmenter = _Light() if augmentation == "light" else _Stcn()

    def sample(self, index: int) -> Clip:
        """Make clip `index`, B = 1, from the seed and the index alone.

        Raises InputError if a file is corrupt or no image shows an object.
        """
        rng = numpy_generator(self._seed, "static clip", index)
        for image in in_turn(self._images, index, self._seed, "static order"):
            target = image.object_mask()
            moves = self._moves(rng, target) if target.any() else None
            if moves:
                frame = image.frame()
                frames = np.stack([move.frame(frame) for move in moves])
                masks = np.stack([move.mask(target) for move in moves])
                return Clip(
                    frames=self._augmenter.colours(rng, frames)[None],
                    masks=torch.from_numpy(masks.astype(np.int64))[None],
                    present=(torch.arange(self._max_objects) < 1)[None],
                    samples=(index,),
                )
            logger.warning("%s: shows no object; the next image is used instead", image.mask)
        raise InputError(
            f"no clip can start: {_ATTEMPTS} views of every image showed no object; "
            f"look at the masks in {', '.join(self._roots)}"
        )

    def _moves(self, rng: np.random.Generator, target: NDArray[np.bool_]) -> list[_Move] | None:
        """Draw one move per frame; None if no attempt shows the object in the first."""
        for attempt in range(_ATTEMPTS):
            warps = self._augmenter.warps(rng, target, self._crop, self._clip_length)
            moves = [
                _Move(warp, _bend(rng, self._augmenter.bend, self._crop), self._crop)
                for warp in warps
            ]
            pixels = max(1, round(_MIN_SHARE * self._crop**2 / 2**attempt))
            if np.count_nonzero(moves[0].mask(target)) >= pixels:
                return moves
        return None


class _Light(augment.Light):
    """The `light` preset of videos, with a random shift and bending of each frame."""

    bend = 0.01  # standard deviation of a control point's displacement, in crops
    shift = 0.08  # bound per frame, in crops

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        return [
            _shifted(warp, rng.uniform(-self.shift, self.shift, 2) * crop)
            for warp in super().warps(rng, target, crop, count)
        ]


class _Stcn:
    """STCN's preset for still images.

    The image's shorter side fills the crop; the shift along the longer side is drawn per frame.
    """

    zoom = (0.8, 1.5)  # per clip
    rotation_deg, shear_deg, scale = 20.0, 10.0, 0.1  # bounds, per frame
    bend = 0.02  # standard deviation of a control point's displacement, in crops
    grey = 0.05  # share of the clips

    def warps(
        self, rng: np.random.Generator, target: NDArray[np.bool_], crop: int, count: int
    ) -> list[F64]:
        size = np.array(target.shape[::-1])  # width, height
        fit = crop / size.min()
        zoomed = np.diag([-1.0 if rng.random() < 0.5 else 1.0, 1.0]) * fit * rng.uniform(*self.zoom)
        width, height = size
        centre = ((width - 1) / 2, (height - 1) / 2)
        room = fit * size - crop  # (width, height) of the image outside the crop, in crop pixels

        def warp() -> F64:
            slope = math.tan(math.radians(rng.uniform(-self.shear_deg, self.shear_deg)))
            turned = rotation(rng.uniform(-self.rotation_deg, self.rotation_deg)) @ shear(slope)
            linear = turned @ zoomed * rng.uniform(1 - self.scale, 1 + self.scale)
            return _shifted(about(linear, centre, crop), room * rng.uniform(-0.5, 0.5))

        return [warp() for _ in range(count)]

    def colours(self, rng: np.random.Generator, frames: U8) -> Tensor:
        clip = jitter_colour(
            rng, to_float(frames), brightness=0.1, contrast=0.05, saturation=0.05, hue=0.05
        )
        clip = grey(rng, clip, self.grey)
        return torch.cat(
            [
                jitter_colour(rng, frame, brightness=0.1, contrast=0.05, saturation=0.05)
                for frame in clip.split(1)
            ]
        )


@dataclass(frozen=True)
class _Move:
    """The map of one pseudo-frame: an affine warp of the image, then a bend.

    warp: (2, 3), image to crop; bend: (crop, crop, 2), the position (x, y) in the warped crop that
    each pixel of the frame is read from, or None for no bend.
    """

    warp: F64
    bend: NDArray[np.float32] | None
    crop: int

    def frame(self, frame: U8) -> U8:
        """Warp and bend a frame (H, W, 3) -> (crop, crop, 3), bilinearly."""
        return self._bent(warp_frame(frame, self.warp, self.crop), BORDER)

    def mask(self, target: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Warp and bend a mask (H, W) -> (crop, crop), thresholded at one half.

        The mask is interpolated bicubically first, so that contours of an enlarged image stay
        smooth.
        """
        smooth = cv2.warpAffine(
            target.astype(np.uint8) * 255, self.warp, (self.crop,) * 2, flags=cv2.INTER_CUBIC
        )
        return np.asarray(self._bent(np.asarray(smooth), (0,)) > 127)

    def _bent(self, picture: U8, border: tuple[int, ...]) -> U8:
        if self.bend is None:
            return picture
        bent = cv2.remap(picture, self.bend, None, cv2.INTER_LINEAR, borderValue=border)
        return np.asarray(bent, dtype=np.uint8)


def _shifted(warp: F64, by: F64) -> F64:
    return warp + np.column_stack([np.zeros((2, 2)), by])


def _bend(rng: np.random.Generator, spread: float, crop: int) -> NDArray[np.float32] | None:
    """Draw the positions (crop, crop, 2) that a bent frame is read from, or None.

    A thin-plate spline moves random control points by a normal displacement of standard deviation
    `spread`, in crops.
    """
    if rng.random() >= _BENT:
        return None
    sources = rng.uniform(0, 1, (_BENDING_POINTS, 2))  # in crops
    spline = ThinPlateSpline(sources + rng.normal(0, spread, sources.shape), sources)
    pixels = np.stack(np.meshgrid(np.arange(crop), np.arange(crop)), axis=-1)
    return (spline(pixels / crop) * crop).astype(np.float32)
