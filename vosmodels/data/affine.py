"""Warp frames and masks by one affine map, and change the colours of a clip.

Clips of every source use these functions. A map is (2, 3), from pixels (x, y) of the frame to
pixels of the crop, with pixel centres at integers. Maps are composed before a frame is warped, so
each frame is interpolated once.
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

_HALVE_BELOW = 0.7  # scale below which bilinear sampling (2x2 pixels) would alias
BORDER = (124, 116, 104)  # ImageNet's mean, RGB: becomes zero when a model normalises the frame
_TINT, _CONTRAST, _BRIGHTNESS = 0.15, 0.2, 12 / 255


def rotation(degrees: float) -> F64:
    """Return the (2, 2) rotation by `degrees`."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def shear(slope: float) -> F64:
    """Return the (2, 2) shear that moves x by `slope` pixels per row."""
    return np.array([[1.0, slope], [0.0, 1.0]])


def about(linear: F64, centre: tuple[float, float], crop: int) -> F64:
    """Return the (2, 3) map that moves a point of the frame to the crop's centre.

    linear: the map's (2, 2) part; centre: the point (x, y) in frame pixels; crop: edge of the
    square crop in pixels.
    """
    return np.column_stack([linear, np.full(2, (crop - 1) / 2) - linear @ np.array(centre)])


def warp_mask(mask: U8, warp: F64, crop: int) -> U8:
    """Warp ids (H, W) -> (crop, crop) by nearest neighbour, with 0 outside the mask."""
    warped = cv2.warpAffine(mask, warp, (crop, crop), flags=cv2.INTER_NEAREST)
    return np.asarray(warped, dtype=np.uint8)


def warp_frame(frame: U8, warp: F64, crop: int) -> U8:
    """Warp a frame (H, W, 3) -> (crop, crop, 3) bilinearly, ImageNet's mean outside.

    A map that shrinks below `_HALVE_BELOW` would alias, so the frame is first halved by area
    averaging until the rest of the map shrinks less.
    """
    return _warp_smoothly(frame, warp, crop, BORDER)


def warp_probability(plane: U8, warp: F64, crop: int) -> U8:
    """Warp a probability times 255, (H, W) -> (crop, crop), as `warp_frame`; 0 outside."""
    return _warp_smoothly(plane, warp, crop, (0,))


def _warp_smoothly(frame: U8, warp: F64, crop: int, border: tuple[int, ...]) -> U8:
    while math.sqrt(abs(np.linalg.det(warp[:, :2]))) < _HALVE_BELOW and min(frame.shape[:2]) > 1:
        height, width = frame.shape[0] // 2, frame.shape[1] // 2
        ratio = np.array([frame.shape[1] / width, frame.shape[0] / height])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        # x = ratio * (x' + 1/2) - 1/2 maps a pixel centre of the halved frame to the larger frame.
        shift = warp[:, :2] @ ((ratio - 1) / 2)
        warp = np.column_stack([warp[:, :2] * ratio, warp[:, 2] + shift])
    warped = cv2.warpAffine(
        frame,
        warp,
        (crop, crop),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return np.asarray(warped, dtype=np.uint8)


def to_float(frames: U8) -> Tensor:
    """Convert (T, H, W, 3) uint8 -> (T, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255).contiguous()


def tint(rng: np.random.Generator, frames: U8) -> Tensor:
    """Convert as `to_float` does, with one gain and offset per channel for the clip.

    frames (T, H, W, 3) uint8 -> (T, 3, H, W) float32, clipped to [0, 1].
    """
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
    """Apply torchvision's ColorJitter to (T, 3, H, W) in [0, 1], drawn once per clip.

    Brightness, contrast and saturation are each scaled by a factor uniform in 1 +- their argument;
    hue is shifted by at most `hue` turns. The four changes are applied in random order.
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
    """Turn a whole clip (T, 3, H, W) grey with this probability, else return the clip."""
    if rng.random() >= probability:
        return frames
    clip: Tensor = functional.rgb_to_grayscale(frames, 3)
    return clip
