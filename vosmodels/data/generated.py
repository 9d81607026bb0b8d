"""Draw synthetic clips: textured shapes that move, turn, grow, bend and occlude.

A scene is a closed form of the time t (in frames), so frames and exact masks can be drawn at any t
and at any size. Lengths are in sides (the shorter edge of the picture), angles in radians. The
objects of a scene have saturated colours of distant hues on a nearly grey ground: a network learns
this appearance cue in minutes, while shapes move too far for a copy of the first mask to score.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch

from vosmodels.support.seeding import numpy_generator
from vosmodels.types import IGNORED, U8, Clip

F32 = np.ndarray[Any, np.dtype[np.float32]]
F64 = np.ndarray[Any, np.dtype[np.float64]]
Range = tuple[float, float]
Split = Literal["train", "val", "test"]

MAX_OBJECTS = 3  # shapes in a scene: 1..3, where nothing else is asked for
RADIUS = (0.15, 0.24)  # mean radius of a shape
REACH = (0.16, 0.30)  # amplitude of a shape's motion about the middle of its path
PERIOD = (18.0, 32.0)  # frames per oscillation: at most about 5 % of a side per frame
TEXTURE = 128  # edge of an object texture in pixels, stretched over a square of 4 radii
GROUND = 192  # edge of the ground texture in pixels, stretched over 1.5 sides, mirrored outside
MIN_AREA = 0.02  # least visible share of the picture, for every object in frame 0
MIN_VISIBLE = 0.5  # least visible share of the object's own area in frame 0
MAX_SKIP = 3  # scene frames between neighbours of a training clip: 1..3
NOISE = 4.0  # standard deviation of the sensor noise, in grey levels
SCALE_TIME = 15.0  # frames in which a shape goes from one end of a scale change to the other
SUPERSAMPLING = 4  # subpixels per edge of a pixel
CONTOUR = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)


# Textures ---------------------------------------------------------------------------------------


def pattern(rng: np.random.Generator, edge: int = TEXTURE) -> U8:
    """Draw a grey pattern (edge, edge): noise of four scales, with or without stripes.

    One pattern in four has stripes, one in four has checks, the others are noise alone.
    """
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
    """Colour a grey pattern (h, w) -> (h, w, 3), from `dark` at 0 to `light` at 255.

    dark, light: (3,) RGB in 0..255.
    """
    share = np.linspace(0.0, 1.0, 256)[:, None]
    table = np.clip(dark + (light - dark) * share, 0, 255).astype(np.uint8)
    coloured: U8 = table[grey]
    return coloured


def _rgb(hue: float, saturation: float, value: float) -> F64:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value)) * 255.0


def object_texture(rng: np.random.Generator, hue: float) -> U8:
    """Draw a saturated texture (TEXTURE, TEXTURE, 3) around `hue` (in turns, 0..1)."""
    dark = _rgb(hue + rng.uniform(-0.04, 0.04), rng.uniform(0.75, 1.0), rng.uniform(0.35, 0.6))
    light = _rgb(hue + rng.uniform(-0.04, 0.04), rng.uniform(0.6, 0.9), rng.uniform(0.75, 1.0))
    return painted(pattern(rng), dark, light)


def ground_texture(rng: np.random.Generator) -> U8:
    """Draw a nearly grey texture (GROUND, GROUND, 3) of random brightness."""
    hue, middle, contrast = rng.uniform(), rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.25)
    dark = _rgb(hue, rng.uniform(0.0, 0.25), middle - contrast)
    light = _rgb(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.0, 0.2), middle + contrast)
    return painted(pattern(rng, GROUND), dark, light)


def place(texture: U8, centre: F64, turn: float, edge: float, size: tuple[int, ...]) -> F32:
    """Warp a square texture onto a picture (h, w, 3), mirrored beyond its edges.

    centre: (x, y) of the texture in picture pixels; turn: radians; edge: length of the texture's
    edge in picture pixels; size: (h, w, ...) of the picture.
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
    """An oscillation per axis: value(t) = middle + reach sin(2 pi t / period + phase).

    Each field is (2,), for two axes; t and period are in frames.
    """

    middle: F64
    reach: F64
    period: F64
    phase: F64

    @classmethod
    def draw(cls, rng: np.random.Generator, middle: F64, reach: Range, period: Range) -> Swing:
        """Draw reach and period per axis from their ranges, and a uniform phase."""
        return cls(
            middle, rng.uniform(*reach, 2), rng.uniform(*period, 2), rng.uniform(0, 2 * np.pi, 2)
        )

    def at(self, t: float) -> F64:
        """Return the values (2,) at time t."""
        value: F64 = self.middle + self.reach * np.sin(2 * np.pi * t / self.period + self.phase)
        return value


@dataclass(frozen=True)
class Shape:
    """A blob that moves: radius(angle, t) = radius size(t) (1 + sum of three waves).

    path: centre (x, y) in sides; pose: (size factor, turn in radians), oscillating around
    (1, turn0), to which `spin` adds radians per frame. growth: natural logarithm of the size at
    t = SCALE_TIME over the size at t = 0, about the geometric mean of both; 0 for none.
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
    growth: float = 0.0

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        hue: float,
        width: float,
        height: float,
        *,
        shrunk: float = 1.0,
        scale: float = 1.0,
    ) -> Shape:
        """Draw a random shape whose path stays in a picture of width x height sides.

        shrunk: factor of the radius; scale: by which the shape grows or shrinks.
        """
        extent = np.array([width, height])
        return cls(
            texture=object_texture(rng, hue),
            radius=rng.uniform(*RADIUS) * shrunk,
            stretch=rng.uniform(0.75, 1.35),
            waves=rng.uniform(0.03, 0.2, 3) / np.array([1.0, 1.4, 2.0]),
            wave_phase=rng.uniform(0, 2 * np.pi, 3),
            wave_speed=rng.uniform(-0.35, 0.35, 3),
            spin=rng.uniform(-0.12, 0.12),
            path=Swing.draw(rng, rng.uniform(0.38, 0.62, 2) * extent, REACH, PERIOD),
            pose=Swing.draw(
                rng, np.array([1.0, rng.uniform(0, 2 * np.pi)]), (0.05, 0.2), (12.0, 40.0)
            ),
            growth=math.log(scale) * (1 if rng.random() < 0.5 else -1) if scale > 1 else 0.0,
        )

    def placement(self, t: float) -> tuple[F64, float, float]:
        """Return centre (x, y) in sides, size factor and turn in radians at time t."""
        size, turn = self.pose.at(t)
        size *= math.exp(-self.growth / 2 * math.cos(np.pi * t / SCALE_TIME))
        return self.path.at(t), float(size), float(turn) + self.spin * t

    def contour(self, t: float) -> F64:
        """Return 48 points (48, 2) of the outline, (x, y) in sides, at time t."""
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
    """A rasterised shape: a window of the picture and the coverage in the window.

    window: slices of the rows and columns; coverage: (h, w) float32, the share of each pixel that
    the shape covers, 0 to 1.
    """

    window: tuple[slice, slice]
    coverage: F32


def cover(contour: F64, height: int, width: int) -> Layer:
    """Rasterise a polygon to the share of each pixel that the polygon covers.

    contour: (n, 2) points (x, y) in pixels. The layer is clipped to the height x width picture,
    and empty if the polygon lies outside.
    """
    x0, y0 = np.clip(np.floor(contour.min(0)), 0, (width, height)).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(contour.max(0)), 0, (width, height)).astype(int).tolist()
    window = slice(y0, y1), slice(x0, x1)
    if x1 == x0 or y1 == y0:
        return Layer(window, np.zeros((y1 - y0, x1 - x0), np.float32))
    fine = np.zeros(((y1 - y0) * SUPERSAMPLING, (x1 - x0) * SUPERSAMPLING), np.uint8)
    # A subpixel's centre is at its index + 1/2; fillPoly wants centres at integers, in 1/16 units.
    points = ((contour - (x0, y0)) * SUPERSAMPLING - 0.5) * 16
    cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255, lineType=cv2.LINE_8, shift=4)
    small = cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return Layer(window, small.astype(np.float32) / 255.0)


# Scenes -----------------------------------------------------------------------------------------


class Scene:
    """A scene of 1 to `objects` shapes over a moving ground, of height x width pixels.

    In frame 0 every shape shows at least MIN_AREA of the picture and MIN_VISIBLE of its own area.
    Ids are 1..n from back to front. More than MAX_OBJECTS shapes are smaller, so that all of them
    together cover as much. scale: ratio of a shape's sizes at the two ends of SCALE_TIME frames, in
    which it grows or shrinks, beside its smaller swings; 1 for no such change.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        *,
        objects: int = MAX_OBJECTS,
        scale: float = 1.0,
    ) -> None:
        self.scale = scale
        self.height, self.width = height, width
        self.side = min(height, width)
        self.noise_seed = int(rng.integers(2**31))
        self.ground = ground_texture(rng)
        middle = np.array([width, height]) / (2 * self.side)
        self.camera = Swing.draw(rng, middle, (0.05, 0.2), (25.0, 60.0))
        self.tilt = Swing.draw(
            rng, np.array([rng.uniform(0, 2 * np.pi), 1.2]), (0.0, 0.15), (25.0, 60.0)
        )
        count = int(rng.integers(1, objects + 1))
        # Redraw until every object shows; a single shape shows at nearly every draw.
        while True:
            self.shapes = self._draw_shapes(rng, count)
            if self._all_visible():
                break

    def _draw_shapes(self, rng: np.random.Generator, count: int) -> list[Shape]:
        first, apart = rng.uniform(), max(count, MAX_OBJECTS)
        hues = [first + (k + rng.uniform(-0.2, 0.2)) / apart for k in range(count)]
        width, height = self.width / self.side, self.height / self.side
        shrunk = math.sqrt(MAX_OBJECTS / apart)
        return [Shape.draw(rng, h, width, height, shrunk=shrunk, scale=self.scale) for h in hues]

    def _layers(self, t: float) -> list[Layer]:
        return [cover(s.contour(t) * self.side, self.height, self.width) for s in self.shapes]

    def _ids(self, layers: Sequence[Layer]) -> U8:
        ids = np.zeros((self.height, self.width), np.uint8)
        for number, layer in enumerate(layers, start=1):
            ids[layer.window][layer.coverage > 0.5] = number
        return ids

    def _all_visible(self) -> bool:
        layers = self._layers(0.0)
        visible = np.bincount(self._ids(layers).ravel(), minlength=len(layers) + 1)[1:]
        whole = np.array([(layer.coverage > 0.5).sum() for layer in layers])
        floor = np.maximum(MIN_AREA * self.height * self.width, MIN_VISIBLE * whole)
        return bool((visible >= floor).all())

    def ids(self, t: float) -> U8:
        """Draw the ids (H, W) uint8 at time t, those of `draw`."""
        return self._ids(self._layers(t))

    def draw(self, t: float) -> tuple[U8, U8]:
        """Draw the frame (H, W, 3) RGB and its ids (H, W) at time t, both uint8."""
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
    """A `ClipSource` of synthetic clips: seed and sample index alone decide a clip.

    A clip has clip_length frames of crop x crop pixels, 1..MAX_SKIP scene frames apart. At most
    max_objects of the scene's objects, drawn at random, are labelled 1..n; the others are
    distractors. scene_objects and scene_scale: `objects` and `scale` of the scenes.

    labelled: how many clips carry labels, the first ones, which then come again and again; None:
    every clip. unlabelled: every second sample is a further clip, of which the first mask alone
    is given.
    """

    seed: int
    clip_length: int
    crop: int
    max_objects: int
    scene_objects: int = MAX_OBJECTS
    scene_scale: float = 1.0
    labelled: int | None = None
    unlabelled: bool = False

    def sample(self, index: int) -> Clip:
        """Draw the clip of sample `index`, B = 1."""
        if self.labelled is None:
            return self._draw(index, index)
        if not self.unlabelled:
            return self._draw(index % self.labelled, index)
        half, other = divmod(index, 2)
        if not other:
            return self._draw(half % self.labelled, index)
        clip = self._draw(self.labelled + half, index)
        masks = clip.masks.clone()
        masks[:, 1:] = IGNORED
        return replace(clip, masks=masks, labelled=False)

    def _draw(self, number: int, sample: int) -> Clip:
        """Draw clip `number` for a sample."""
        rng = numpy_generator(self.seed, "generated-train-clip", number)
        scene = Scene(rng, self.crop, self.crop, objects=self.scene_objects, scale=self.scene_scale)
        skip = int(rng.integers(1, MAX_SKIP + 1))
        chosen = rng.permutation(len(scene.shapes))[: self.max_objects]
        slots = np.zeros(len(scene.shapes) + 1, np.int64)
        slots[chosen + 1] = np.arange(1, len(chosen) + 1)
        frames, ids = zip(*(scene.draw(t * skip) for t in range(self.clip_length)), strict=True)
        return Clip(
            frames=torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None].float() / 255.0,
            masks=torch.from_numpy(slots[np.stack(ids)])[None],
            present=(torch.arange(self.max_objects) < len(chosen))[None],
            samples=(sample,),
        )


@dataclass(frozen=True)
class GeneratedSequence:
    """A `ScoredVideo` of a scene, whose frames and masks are drawn when they are asked for."""

    name: str
    scene_seed: tuple[int | str, ...]
    height: int
    width: int
    length: int
    objects: int = MAX_OBJECTS
    scale: float = 1.0
    last_counts = False  # DAVIS's rule, as the predicted masks have DAVIS's layout
    unseen = None

    @cached_property
    def _scene(self) -> Scene:
        rng = numpy_generator(*self.scene_seed)
        return Scene(rng, self.height, self.width, objects=self.objects, scale=self.scale)

    @cached_property
    def _frames(self) -> dict[int, U8]:
        return {}

    @cached_property
    def _masks(self) -> dict[int, U8]:
        return {}

    @property
    def ids(self) -> Sequence[int]:
        """Return the object ids of the first frame, ascending."""
        return [int(i) for i in np.unique(self.mask(0)) if i]

    @cached_property
    def begins(self) -> dict[int, int]:
        """Map every object id to frame 0, which shows all of them."""
        return dict.fromkeys(self.ids, 0)

    @property
    def judged(self) -> range:
        """Return all frames, as every frame has a whole mask."""
        return range(self.length)

    def __len__(self) -> int:
        return self.length

    def answer(self, index: int) -> Path:
        """Return the path of the frame's predicted mask below the output folder."""
        return Path(self.name) / f"{index:05d}.png"

    def frame(self, index: int) -> U8:
        """Return frame `index`, (H, W, 3) uint8 RGB."""
        number = range(self.length)[index]
        if number not in self._frames:
            self._frames[number], self._masks[number] = self._scene.draw(number)
        return self._frames[number]

    def mask(self, index: int) -> U8:
        """Return the ids of frame `index`, (H, W) uint8, 0 = background."""
        number = range(self.length)[index]
        if number not in self._masks:
            self._masks[number] = self._scene.ids(number)
        return self._masks[number]


def sequences(
    split: Split,
    *,
    seed: int = 0,
    count: int | None = None,
    size: tuple[int, int] = (128, 160),
    length: int = 16,
    objects: int = MAX_OBJECTS,
    scale: float = 1.0,
) -> list[GeneratedSequence]:
    """Return the videos of a split, `length` frames of `size` (height, width) pixels.

    objects, scale: as `Scene` takes them.

    train and val have 12 videos, test has 24, unless `count` is given. val and test are the same
    for every seed. No scene or texture occurs in two splits, or in a split and the training clips.
    Raises ValueError on an unknown split.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"split {split!r}; generated data has train, val, test")
    number = count if count is not None else (24 if split == "test" else 12)
    base = seed if split == "train" else 0
    return [
        GeneratedSequence(
            f"generated-{split}-{k:02d}",
            (base, f"generated-{split}", k),
            *size,
            length,
            objects,
            scale,
        )
        for k in range(number)
    ]
