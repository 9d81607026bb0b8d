"""Training clips cut from videos, and batches of clips from any source.

The augmentations follow STCN's main training stage (arXiv:2106.05210, section 4.1: random affine,
crop, flip, reversed time); their ranges are narrower, as seen to learn in minutes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vosmodels.seeding import numpy_generator
from vosmodels.types import U8, Clip, ClipSource, InputError, VideoSequence

F64 = NDArray[np.float64]

MAX_SKIP = 5  # widest gap between two frames of a clip
_MIN_SHARE = 0.004  # of the crop that the target should cover in the first frame
_ZOOM = (1.0, 1.9)  # the crop covers 1/zoom of the shorter side
_OFF_CENTRE = 0.5  # target point to crop centre, in half crops
_ROTATION_DEG, _SHEAR, _SCALE = 4.0, 0.04, 0.04  # per frame: two standard deviations, one bound
_TINT, _CONTRAST, _BRIGHTNESS = 0.15, 0.2, 12 / 255  # per clip
_HALVE_BELOW = 0.7  # scale under which sampling two by two pixels would alias
_BORDER = (124, 116, 104)  # ImageNet's mean: zero once a model has normalised it


class SequenceClips:
    """Clips of `clip_length` frames, `crop` pixels square, from a list of videos.

    Every len(sequences) samples in a row visit each video once, in a new order each time; a video
    listed twice is visited twice. The first frame holds the target, an object drawn at random,
    around which the crop lies and which has slot 1; up to max_objects - 1 others visible there,
    drawn at random, have the next. Whatever has no slot is background. Frame gaps are 1..max_skip,
    or as wide as the video allows from there; half of the clips run backwards.

    Raises InputError where videos are shorter than a clip, ValueError on sizes below one.
    """

    def __init__(
        self,
        sequences: Sequence[VideoSequence],
        *,
        clip_length: int,
        crop: int,
        seed: int,
        max_objects: int,
        max_skip: int = MAX_SKIP,
    ) -> None:
        if not sequences or min(clip_length, crop, max_objects, max_skip) < 1:
            raise ValueError(
                f"{len(sequences)} sequences, clip_length {clip_length}, crop {crop}, "
                f"max_objects {max_objects}, max_skip {max_skip}: all must be at least 1"
            )
        short = [f"{s.name} ({len(s)})" for s in sequences if len(s) < clip_length]
        if short:
            raise InputError(
                f"videos shorter than clip_length {clip_length}: {', '.join(short)} frames; "
                "shorten the clips, or take these videos out of the split"
            )
        self._sequences = sequences
        self._clip_length = clip_length
        self._crop = crop
        self._seed = seed
        self._max_objects = max_objects
        self._max_skip = max_skip

    def sample(self, index: int) -> Clip:
        """Clip `index`, B = 1: a function of the seed and the index alone.

        Raises InputError where a file is corrupt, or no video holds an object.
        """
        rng = numpy_generator(self._seed, "clip", index)
        count = len(self._sequences)
        epoch, place = divmod(index, count)
        order = numpy_generator(self._seed, "order", epoch).permutation(count)
        for turn in range(count):
            sequence = self._sequences[order[(place + turn) % count]]
            # Small objects get a clip too: what is asked of the area halves at each attempt, and
            # every frame gets its chance to be the first.
            for attempt, start in enumerate(np.tile(rng.permutation(len(sequence)), 2)):
                pixels = max(1, round(_MIN_SHARE * self._crop**2 / 2**attempt))
                clip = self._try(rng, sequence, int(start), index, pixels)
                if clip is not None:
                    return clip
        names = ", ".join(sequence.name for sequence in self._sequences)
        raise InputError(f"no clip can start anywhere, as no mask holds an object: {names}")

    def _try(
        self, rng: np.random.Generator, sequence: VideoSequence, start: int, index: int, pixels: int
    ) -> Clip | None:
        numbers = self._frame_numbers(rng, start, len(sequence))
        if not numbers:
            return None
        given = sequence.mask(start)
        objects = _ids(given, 1)
        if not objects:
            return None
        target = int(rng.choice(objects))
        view = _View.around(rng, given == target, self._crop)
        warps = [view.jittered(rng) for _ in numbers]
        first = _warp_mask(given, warps[0], self._crop)
        visible = _ids(first, pixels)
        if target not in visible:
            return None
        others = [i for i in visible if i != target]
        chosen = [target, *rng.permutation(others)[: self._max_objects - 1]]
        slots = np.zeros(256, dtype=np.int64)
        slots[chosen] = np.arange(1, len(chosen) + 1)
        masks = [first] + [
            _warp_mask(sequence.mask(n), warp, self._crop)
            for n, warp in zip(numbers[1:], warps[1:], strict=True)
        ]
        frames = [
            _warp_frame(sequence.frame(n), warp, self._crop)
            for n, warp in zip(numbers, warps, strict=True)
        ]
        return Clip(
            frames=torch.from_numpy(_recolour(rng, np.stack(frames)))[None],
            masks=torch.from_numpy(slots[np.stack(masks)])[None],
            present=(torch.arange(self._max_objects) < len(chosen))[None],
            samples=(index,),
        )

    def _frame_numbers(self, rng: np.random.Generator, start: int, length: int) -> list[int]:
        """Frames of a clip that starts at `start`; none where the video has no room for it."""
        steps = self._clip_length - 1
        ways = [
            (way, room) for way, room in ((1, length - 1 - start), (-1, start)) if room >= steps
        ]
        if not ways or not steps:
            return [start] if ways else []
        way, room = ways[rng.integers(len(ways))]
        gaps = rng.integers(1, min(self._max_skip, room // steps) + 1, steps)
        return [start, *(start + way * np.cumsum(gaps)).tolist()]


@dataclass(frozen=True)
class _View:
    """Where a clip's crop lies: centre (x, y) in the frame, crop pixels per frame pixel, mirror."""

    centre: tuple[float, float]
    scale: float
    mirror: bool
    crop: int

    @classmethod
    def around(cls, rng: np.random.Generator, target: NDArray[np.bool_], crop: int) -> _View:
        height, width = target.shape
        half = min(height, width) / rng.uniform(*_ZOOM) / 2  # half the view, frame pixels
        y, x = divmod(int(rng.choice(np.flatnonzero(target))), width)
        offset = rng.uniform(-_OFF_CENTRE, _OFF_CENTRE, 2) * half
        centre = (
            float(np.clip(x + offset[0], half, width - half)),
            float(np.clip(y + offset[1], half, height - half)),
        )
        return cls(centre, crop / (2 * half), bool(rng.random() < 0.5), crop)

    def jittered(self, rng: np.random.Generator) -> F64:
        """(2, 3) affine map of one frame's pixels to the crop's: a little turned and sheared."""
        angle = math.radians(rng.normal(0, _ROTATION_DEG))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        shear = np.array([[1.0, rng.normal(0, _SHEAR)], [0.0, 1.0]])
        mirror = np.diag([-1.0 if self.mirror else 1.0, 1.0])
        linear = turn @ shear @ mirror * (self.scale * rng.uniform(1 - _SCALE, 1 + _SCALE))
        to = (self.crop - 1) / 2  # pixel centres are whole numbers
        return np.column_stack([linear, np.full(2, to) - linear @ np.array(self.centre)])


def collate(clips: Sequence[Clip]) -> Clip:
    """One batch of clips of equal shape, in their order. Raises ValueError on no clips."""
    if not clips:
        raise ValueError("clips is empty; a batch has at least one")
    return Clip(
        frames=torch.cat([clip.frames for clip in clips]),
        masks=torch.cat([clip.masks for clip in clips]),
        present=torch.cat([clip.present for clip in clips]),
        samples=tuple(sample for clip in clips for sample in clip.samples),
    )


def batch(source: ClipSource, step: int, batch_size: int, rank: int = 0, world: int = 1) -> Clip:
    """Rank's share of optimisation step `step`: samples step * batch_size + i of the global batch.

    The shares of ranks 0..world-1, one after the other, are the batch of one rank.
    Raises ValueError where `world` does not divide `batch_size` or `rank` is not below it.
    """
    if batch_size < 1 or world < 1 or batch_size % world or not 0 <= rank < world:
        raise ValueError(
            f"batch_size {batch_size} for rank {rank} of {world} workers: "
            "the workers share a batch equally; make batch_size a multiple of their number"
        )
    share = batch_size // world
    first = step * batch_size + rank * share
    return collate([source.sample(index) for index in range(first, first + share)])


def _ids(mask: NDArray[Any], pixels: int) -> list[int]:
    """Ids that cover at least so many pixels, ascending."""
    # A comparison per id: ids are few, and np.bincount takes 9 ms for one 480p mask.
    return [i for i in range(1, int(mask.max()) + 1) if np.count_nonzero(mask == i) >= pixels]


def _warp_mask(mask: U8, warp: F64, crop: int) -> U8:
    warped = cv2.warpAffine(mask, warp, (crop, crop), flags=cv2.INTER_NEAREST)
    return np.asarray(warped, dtype=np.uint8)


def _warp_frame(frame: U8, warp: F64, crop: int) -> U8:
    """Bilinear; halved by area first where the map shrinks too much to sample without aliases."""
    while math.sqrt(abs(np.linalg.det(warp[:, :2]))) < _HALVE_BELOW and min(frame.shape[:2]) > 1:
        height, width = frame.shape[0] // 2, frame.shape[1] // 2
        ratio = np.array([frame.shape[1] / width, frame.shape[0] / height])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        # x = ratio * (x' + 1/2) - 1/2 takes a small pixel's centre to the large picture.
        shift = warp[:, :2] @ ((ratio - 1) / 2)
        warp = np.column_stack([warp[:, :2] * ratio, warp[:, 2] + shift])
    warped = cv2.warpAffine(
        frame,
        warp,
        (crop, crop),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_BORDER,
    )
    return np.asarray(warped, dtype=np.uint8)


def _recolour(rng: np.random.Generator, frames: U8) -> NDArray[np.float32]:
    """(T, H, W, 3) uint8 -> (T, 3, H, W) float32 in [0, 1], one tint for the whole clip."""
    gain = rng.uniform(1 - _TINT, 1 + _TINT, 3) * rng.uniform(1 - _CONTRAST, 1 + _CONTRAST)
    bias = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS, 3)
    planar = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32)
    planar *= (gain / 255).astype(np.float32)[:, None, None]
    planar += bias.astype(np.float32)[:, None, None]
    return np.clip(planar, 0, 1, out=planar)
