"""Pictures and masks moved by one affine map, and recoloured: what clips of any source share.

A map is (2, 3), from pixels (x, y) of the picture to pixels of the crop; pixel centres are whole
numbers. Maps are composed before anything is drawn, so every picture is interpolated once.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torchvision.transforms.v2.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from vosmodels.types import U8

F64 = NDArray[np.float64]

_HALVE_BELOW = 0.7  # scale under which sampling two by two pixels would alias
BORDER = (124, 116, 104)  # ImageNet's mean: zero once a model has normalised it
_TINT, _CONTRAST, _BRIGHTNESS = 0.15, 0.2, 12 / 255


def rotation(degrees: float) -> F64:
    """(2, 2) turn."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def shear(slope: float) -> F64:
    """(2, 2): x grows by `slope` a row."""
    return np.array([[1.0, slope], [0.0, 1.0]])


def about(linear: F64, centre: tuple[float, float], crop: int) -> F64:
    """The map with this linear part that takes `centre` (x, y) to the centre of the crop."""
    return np.column_stack([linear, np.full(2, (crop - 1) / 2) - linear @ np.array(centre)])


def warp_mask(mask: U8, warp: F64, crop: int) -> U8:
    """(H, W) ids -> (crop, crop), nearest; 0 where the map comes from beyond the mask."""
    warped = cv2.warpAffine(mask, warp, (crop, crop), flags=cv2.INTER_NEAREST)
    return np.asarray(warped, dtype=np.uint8)


def warp_frame(frame: U8, warp: F64, crop: int) -> U8:
    """(H, W, 3) -> (crop, crop, 3), bilinear; ImageNet's mean colour beyond the frame.

    Halved by area first where the map shrinks too much to sample without aliases.
    """
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
        borderValue=BORDER,
    )
    return np.asarray(warped, dtype=np.uint8)


def to_float(frames: U8) -> Tensor:
    """(T, H, W, 3) uint8 -> (T, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255).contiguous()


def tint(rng: np.random.Generator, frames: U8) -> Tensor:
    """As `to_float`, with one gain and offset a channel for the whole clip."""
    gain = rng.uniform(1 - _TINT, 1 + _TINT, 3) * rng.uniform(1 - _CONTRAST, 1 + _CONTRAST)
    bias = rng.uniform(-_BRIGHTNESS, _BRIGHTNESS, 3)
    planar = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32)
    planar *= (gain / 255).astype(np.float32)[:, None, None]
    planar += bias.astype(np.float32)[:, None, None]
    return torch.from_numpy(np.clip(planar, 0, 1, out=planar))


def jitter_colour(
    rng: np.random.Generator,
    frames: Tensor,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float = 0.0,
) -> Tensor:
    """torchvision's ColorJitter, drawn once for all of (T, 3, H, W) in [0, 1].

    Each of the first three is blended by a factor uniform in 1 +- its range, the hue shifted by
    up to `hue` turns; in random order.
    """
    factors = 1 + rng.uniform(-1, 1, 3) * (brightness, contrast, saturation)
    turn = rng.uniform(-hue, hue)
    for step in rng.permutation(4):
        if step == 0:
            frames = functional.adjust_brightness(frames, factors[0])
        elif step == 1:
            frames = functional.adjust_contrast(frames, factors[1])
        elif step == 2:
            frames = functional.adjust_saturation(frames, factors[2])
        elif hue:
            frames = functional.adjust_hue(frames, turn)
    return frames


def grey(rng: np.random.Generator, frames: Tensor, probability: float) -> Tensor:
    """All of (T, 3, H, W) without colour, or none."""
    without = rng.random() < probability
    found: Tensor = functional.rgb_to_grayscale(frames, 3) if without else frames
    return found
