"""Clips drawn on the fly: textured shapes that move, turn, grow, bend and hide each other.

Everything is a closed form of the time t (in frames), so a scene can be drawn at any t, at any
size, with exact masks. Lengths are in sides (the shorter edge of the picture), angles in radians.
Objects have saturated colours of hues that are far apart within a scene, the ground is nearly
grey: a network finds the appearance cue in minutes, while shapes move too far for a copied mask.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch

from vosmodels.support.seeding import numpy_generator
from vosmodels.types import U8, Clip, WholeMasks

F32 = np.ndarray[Any, np.dtype[np.float32]]
F64 = np.ndarray[Any, np.dtype[np.float64]]
Range = tuple[float, float]
Split = Literal["train", "val", "test"]

MAX_OBJECTS = 3  # shapes in a scene: 1..3
RADIUS = (0.15, 0.24)  # mean radius of a shape
REACH = (0.16, 0.30)  # how far a shape swings from the middle of its path
PERIOD = (18.0, 32.0)  # frames of one swing: about 5 % of a side per frame at the fastest
TEXTURE = 128  # pixels of a texture's edge, stretched over a shape's square of 4 radii
GROUND = 192  # the same for the ground, stretched over 1.5 sides and mirrored beyond
MIN_AREA = 0.02  # of the picture, for every object in frame 0
MIN_VISIBLE = 0.5  # of the object's own area, in frame 0
MAX_SKIP = 3  # frames of the scene between neighbours of a training clip: 1..3
NOISE = 4.0  # sensor noise, grey levels
SUPERSAMPLING = 4  # subpixels per edge of a pixel
CONTOUR = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)


# Textures ---------------------------------------------------------------------------------------


def pattern(rng: np.random.Generator, edge: int = TEXTURE) -> U8:
    """(edge, edge) grey pattern: noise of several scales, half of them with stripes or checks."""
    out = np.zeros((edge, edge), np.float32)
    for cells, weight in ((3, 1.0), (8, 0.7), (24, 0.5), (64, 0.3)):
        grain = rng.normal(0.0, 1.0, (cells, cells)).astype(np.float32)
        out += float(weight * rng.uniform(0.3, 1.2)) * cv2.resize(
            grain, (edge, edge), interpolation=cv2.INTER_LINEAR
        )
    kind = rng.integers(4)
    if kind < 2:
        y, x = np.mgrid[0:edge, 0:edge].astype(np.float32) * np.float32(2.0 * np.pi / edge)
        angle, waves = rng.uniform(0.0, np.pi), rng.uniform(4.0, 12.0)
        along = np.sin(waves * (x * math.cos(angle) + y * math.sin(angle)))
        across = np.sin(waves * (y * math.cos(angle) - x * math.sin(angle)))
        out += 1.2 * np.sign(along if kind == 0 else along * across)
    spread = 1.6 * float(out.std()) + 1e-6
    grey: U8 = np.clip(127.5 + 127.5 * (out - out.mean()) / spread, 0, 255).astype(np.uint8)
    return grey


def painted(grey: U8, dark: F64, light: F64) -> U8:
    """(h, w, 3): the pattern in colours from `dark` (at 0) to `light` (at 255), RGB 0..255."""
    share = np.linspace(0.0, 1.0, 256)[:, None]
    table = np.clip(dark + (light - dark) * share, 0, 255).astype(np.uint8)
    coloured: U8 = table[grey]
    return coloured


def _rgb(hue: float, saturation: float, value: float) -> F64:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value)) * 255.0


def object_texture(rng: np.random.Generator, hue: float) -> U8:
    """A saturated texture around `hue` (in turns, 0..1)."""
    dark = _rgb(hue + rng.uniform(-0.04, 0.04), rng.uniform(0.75, 1.0), rng.uniform(0.35, 0.6))
    light = _rgb(hue + rng.uniform(-0.04, 0.04), rng.uniform(0.6, 0.9), rng.uniform(0.75, 1.0))
    return painted(pattern(rng), dark, light)


def ground_texture(rng: np.random.Generator) -> U8:
    """A nearly grey texture of any brightness."""
    hue, middle, contrast = rng.uniform(), rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.25)
    dark = _rgb(hue, rng.uniform(0.0, 0.25), middle - contrast)
    light = _rgb(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.0, 0.2), middle + contrast)
    return painted(pattern(rng, GROUND), dark, light)


def place(texture: U8, centre: F64, turn: float, edge: float, size: tuple[int, ...]) -> F32:
    """(h, w, 3): a square texture laid on a picture of `size` (h, w), mirrored beyond its edges.

    centre (x, y) in pixels, turn in radians, edge: pixels the texture's edge becomes.
    """
    zoom, half = edge / len(texture), len(texture) / 2
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    matrix[:, 2] = centre - matrix[:, :2].sum(1) * half
    laid: U8 = cv2.warpAffine(
        texture, matrix, (size[1], size[0]), borderMode=cv2.BORDER_REFLECT_101
    )
    return laid.astype(np.float32)


# Shapes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Swing:
    """value(t) = middle + reach sin(2 pi t / period + phase), for two axes at once."""

    middle: F64
    reach: F64
    period: F64
    phase: F64

    @classmethod
    def draw(cls, rng: np.random.Generator, middle: F64, reach: Range, period: Range) -> Swing:
        """Reach and period drawn from their ranges per axis, any phase."""
        return cls(
            middle, rng.uniform(*reach, 2), rng.uniform(*period, 2), rng.uniform(0, 2 * np.pi, 2)
        )

    def at(self, t: float) -> F64:
        """(2,): the values at time t."""
        value: F64 = self.middle + self.reach * np.sin(2 * np.pi * t / self.period + self.phase)
        return value


@dataclass(frozen=True)
class Shape:
    """A blob: radius(angle, t) = radius size(t) (1 + sum of three waves), turned, on a path.

    path: centre (x, y) in sides; pose: (size factor, turn in radians) as swings around (1, turn0).
    """

    texture: U8
    radius: float
    stretch: float
    waves: F64
    wave_phase: F64
    wave_speed: F64
    spin: float
    path: Swing
    pose: Swing

    @classmethod
    def draw(cls, rng: np.random.Generator, hue: float, width: float, height: float) -> Shape:
        """A random shape whose path stays within a picture of width x height sides."""
        extent = np.array([width, height])
        return cls(
            texture=object_texture(rng, hue),
            radius=rng.uniform(*RADIUS),
            stretch=rng.uniform(0.75, 1.35),
            waves=rng.uniform(0.03, 0.2, 3) / np.array([1.0, 1.4, 2.0]),
            wave_phase=rng.uniform(0, 2 * np.pi, 3),
            wave_speed=rng.uniform(-0.35, 0.35, 3),
            spin=rng.uniform(-0.12, 0.12),
            path=Swing.draw(rng, rng.uniform(0.38, 0.62, 2) * extent, REACH, PERIOD),
            pose=Swing.draw(
                rng, np.array([1.0, rng.uniform(0, 2 * np.pi)]), (0.05, 0.2), (12.0, 40.0)
            ),
        )

    def placement(self, t: float) -> tuple[F64, float, float]:
        """Centre (x, y), size factor and turn at time t."""
        size, turn = self.pose.at(t)
        return self.path.at(t), float(size), float(turn) + self.spin * t

    def contour(self, t: float) -> F64:
        """(48, 2) points (x, y) of the outline at time t, in sides."""
        centre, size, turn = self.placement(t)
        order = np.arange(2, 5)[:, None]
        phase = (self.wave_phase + self.wave_speed * t)[:, None]
        radius = 1.0 + (self.waves[:, None] * np.cos(order * CONTOUR + phase)).sum(0)
        radius *= self.radius * size
        x = radius * np.cos(CONTOUR) * self.stretch
        y = radius * np.sin(CONTOUR) / self.stretch
        cos, sin = math.cos(turn), math.sin(turn)
        points: F64 = centre + np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)
        return points


class Layer(NamedTuple):
    """One shape as drawn: where it lies in the picture, and its coverage (h, w) there, 0 to 1."""

    window: tuple[slice, slice]
    coverage: F32


def cover(contour: F64, height: int, width: int) -> Layer:
    """Area coverage of a polygon (x, y in pixels), cut to the picture; may be empty."""
    left, top = np.clip(np.floor(contour.min(0)), 0, (width, height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(contour.max(0)), 0, (width, height)).astype(int).tolist()
    window = slice(top, bottom), slice(left, right)
    if right == left or bottom == top:
        return Layer(window, np.zeros((bottom - top, right - left), np.float32))
    fine = np.zeros(((bottom - top) * SUPERSAMPLING, (right - left) * SUPERSAMPLING), np.uint8)
    # A subpixel's centre is at its index + 1/2; fillPoly wants centres at integers, in 1/16 units.
    points = ((contour - (left, top)) * SUPERSAMPLING - 0.5) * 16
    cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255, lineType=cv2.LINE_8, shift=4)
    small = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return Layer(window, small.astype(np.float32) / 255.0)


# Scenes -----------------------------------------------------------------------------------------


class Scene:
    """One to three shapes over a moving ground, drawn at height x width pixels at any time.

    Every shape is visible in frame 0 with a sensible area. Ids are 1..n from the back to the front.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.side = min(height, width)
        self.noise_seed = int(rng.integers(2**31))
        self.ground = ground_texture(rng)
        middle = np.array([width, height]) / (2 * self.side)
        self.camera = Swing.draw(rng, middle, (0.05, 0.2), (25.0, 60.0))
        self.tilt = Swing.draw(
            rng, np.array([rng.uniform(0, 2 * np.pi), 1.2]), (0.0, 0.15), (25.0, 60.0)
        )
        count = int(rng.integers(1, MAX_OBJECTS + 1))
        # Redrawn until every object shows; a scene of one shape shows almost always.
        while True:
            self.shapes = self._draw_shapes(rng, count)
            if self._all_visible():
                break

    def _draw_shapes(self, rng: np.random.Generator, count: int) -> list[Shape]:
        first = rng.uniform()
        hues = [first + (k + rng.uniform(-0.2, 0.2)) / MAX_OBJECTS for k in range(count)]
        return [Shape.draw(rng, h, self.width / self.side, self.height / self.side) for h in hues]

    def _layers(self, t: float) -> list[Layer]:
        return [cover(s.contour(t) * self.side, self.height, self.width) for s in self.shapes]

    def _ids(self, layers: Sequence[Layer]) -> U8:
        ids = np.zeros((self.height, self.width), np.uint8)
        for number, layer in enumerate(layers, start=1):
            ids[layer.window][layer.coverage > 0.5] = number
        return ids

    def _all_visible(self) -> bool:
        layers = self._layers(0.0)
        seen = np.bincount(self._ids(layers).ravel(), minlength=len(layers) + 1)[1:]
        whole = np.array([(layer.coverage > 0.5).sum() for layer in layers])
        floor = np.maximum(MIN_AREA * self.height * self.width, MIN_VISIBLE * whole)
        return bool((seen >= floor).all())

    def draw(self, t: float) -> tuple[U8, U8]:
        """The frame (H, W, 3) RGB and its ids (H, W) at time t, both uint8."""
        turn, zoom = self.tilt.at(t)
        centre, edge = self.camera.at(t) * self.side, 1.5 * zoom * self.side
        picture = place(self.ground, centre, turn, edge, (self.height, self.width))
        layers = self._layers(t)
        for shape, layer in zip(self.shapes, layers, strict=True):
            if layer.coverage.size == 0:
                continue
            centre, size, turn = shape.placement(t)
            corner = centre * self.side - (layer.window[1].start, layer.window[0].start)
            edge = 4.0 * shape.radius * size * self.side
            texture = place(shape.texture, corner, turn, edge, layer.coverage.shape)
            patch = picture[layer.window]
            patch += layer.coverage[..., None] * (texture - patch)
        rng = np.random.default_rng([self.noise_seed, round(t)])
        picture *= np.float32(rng.uniform(0.95, 1.05))
        picture += NOISE * rng.standard_normal(picture.shape, dtype=np.float32)
        return np.clip(picture, 0, 255).astype(np.uint8), self._ids(layers)


# Clips and sequences ----------------------------------------------------------------------------


@dataclass(frozen=True)
class GeneratedClips:
    """A `ClipSource`: the clip of a sample index is the same on every machine, for every caller.

    clip_length frames of crop x crop pixels, 1..3 scene frames apart; at most max_objects of the
    scene's objects, drawn at random, are labelled 1..n, the others are distractors.
    """

    seed: int
    clip_length: int
    crop: int
    max_objects: int

    def sample(self, index: int) -> Clip:
        """One clip, B = 1."""
        rng = numpy_generator(self.seed, "generated-train-clip", index)
        scene = Scene(rng, self.crop, self.crop)
        skip = int(rng.integers(1, MAX_SKIP + 1))
        chosen = rng.permutation(len(scene.shapes))[: self.max_objects]
        slots = np.zeros(len(scene.shapes) + 1, np.int64)
        slots[chosen + 1] = np.arange(1, len(chosen) + 1)
        frames, ids = zip(*(scene.draw(t * skip) for t in range(self.clip_length)), strict=True)
        return Clip(
            frames=torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255.0,
            masks=torch.from_numpy(slots[np.stack(ids)])[None],
            present=(torch.arange(self.max_objects) < len(chosen))[None],
            samples=(index,),
        )


@dataclass(frozen=True)
class GeneratedSequence(WholeMasks):
    """A `VideoSequence` of a scene, drawn when first asked for."""

    name: str
    scene_seed: tuple[int | str, ...]
    height: int
    width: int
    length: int
    last_counts = False  # as in DAVIS, whose layout the answers have

    @cached_property
    def _video(self) -> list[tuple[U8, U8]]:
        scene = Scene(numpy_generator(*self.scene_seed), self.height, self.width)
        return [scene.draw(t) for t in range(self.length)]

    @property
    def ids(self) -> Sequence[int]:
        """Object ids of the first frame, ascending."""
        return [int(i) for i in np.unique(self.mask(0)) if i]

    def __len__(self) -> int:
        return self.length

    def answer(self, index: int) -> Path:
        """Where the layout has the frame's predicted mask, below the answers' folder."""
        return Path(self.name) / f"{index:05d}.png"

    def frame(self, index: int) -> U8:
        """(H, W, 3) uint8 RGB."""
        return self._video[index][0]

    def mask(self, index: int) -> U8:
        """(H, W) uint8 ids, 0 = background."""
        return self._video[index][1]


def sequences(
    split: Split,
    *,
    seed: int = 0,
    count: int | None = None,
    size: tuple[int, int] = (128, 160),
    length: int = 16,
) -> list[GeneratedSequence]:
    """Whole videos of `size` (height, width). val (12) and test (24) are the same for every seed.

    Scenes and textures of the three splits, and of the training clips, are all different.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"split {split!r}; generated data has train, val, test")
    number = count if count is not None else (24 if split == "test" else 12)
    base = seed if split == "train" else 0
    return [
        GeneratedSequence(
            f"generated-{split}-{k:02d}", (base, f"generated-{split}", k), *size, length
        )
        for k in range(number)
    ]
