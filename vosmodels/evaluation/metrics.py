"""Compute region similarity J and boundary accuracy F of the DAVIS protocol.

J: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016, section 4. F: Martin et al., PAMI 2004, as the DAVIS toolkits compute F. Values per frame
equal those of the official toolkit (davis2017-evaluation), whose conventions are part of the
definition. The caller decides which frames are scored (the protocol leaves out the first and last).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]

BOUNDARY_TOLERANCE = 0.008  # share of the frame's diagonal
DECAY_BINS = 4


@dataclass(frozen=True)
class Statistics:
    """The statistics that DAVIS's tables report of an object's values per frame.

    mean: over frames; recall: share of frames above 0.5; decay: mean of the first quarter minus
    mean of the last quarter.
    """

    mean: float
    recall: float
    decay: float


def jaccard(truth: NDArray[Any], prediction: NDArray[Any]) -> F64:
    """J_t = |G_t and M_t| / |G_t or M_t|, 1 if both are empty (Perazzi 2016, 4.1)

    truth G, prediction M (T, H, W) bool -> (T,) float64 in [0, 1].
    Raises ValueError if the shapes differ or are not three-dimensional.
    """
    truth, prediction = _pair(truth, prediction)
    return np.array(
        [_region(g, m) for g, m in zip(truth, prediction, strict=True)], dtype=np.float64
    )


def boundary_f(truth: NDArray[Any], prediction: NDArray[Any]) -> F64:
    """F_t = 2 P R / (P + R), boundaries matched within r pixels (Perazzi 2016, 4.1)

    r = ceil(0.008 * diagonal). P: share of predicted boundary pixels that lie within r (Euclidean)
    of a true boundary pixel; R: share of true boundary pixels within r of a predicted boundary
    pixel. F_t is 1 if both boundaries are empty and 0 if exactly one is empty.
    truth, prediction (T, H, W) bool -> (T,) float64 in [0, 1]. Errors as `jaccard`.
    """
    truth, prediction = _pair(truth, prediction)
    radius = _tolerance(truth.shape[1:])
    pairs = (_cropped(g, m) for g, m in zip(truth, prediction, strict=True))
    return np.array([_boundary(g, m, radius) for g, m in pairs], dtype=np.float64)


def frame_scores(truth: Bool, prediction: Bool) -> tuple[float, float]:
    """Compute J and F of one frame, truth and prediction (H, W) bool.

    Equals `jaccard` and `boundary_f`; the masks are cropped once for both.
    Raises ValueError if the shapes differ or are not two-dimensional.
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (H, W)"
        )
    pair = _cropped(truth, prediction)
    return _region(*pair), _boundary(*pair, _tolerance(truth.shape))


def statistics(frames: NDArray[Any]) -> Statistics:
    """Compute mean, recall and decay of values per frame (T,), T >= 1.

    The decay bins are the toolkit's: five edges spread evenly over 1..T, rounded, where
    neighbouring bins share an edge frame. The toolkit stores edges as 8-bit numbers, which wrap
    from 257 frames on; ours do not. Raises ValueError on another shape.
    """
    values = np.asarray(frames, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"frames has shape {values.shape}; wanted (T,) with T >= 1")
    edges = np.round(np.linspace(1, len(values), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first = values[edges[0] : edges[1] + 1]
    last = values[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > 0.5).mean()),
        decay=float(first.mean() - last.mean()),
    )


def boundary_map(mask: Bool) -> Bool:
    """Mark the pixels of (H, W) that differ from the right, lower or diagonal pixel.

    The last row is compared with the pixel to the right only, the last column with the pixel below
    only, and the last pixel is never boundary, as in the toolkit's seg2bmap. Boundaries are one
    pixel wide.
    """
    edge = np.zeros_like(mask)
    right = mask[:, :-1] ^ mask[:, 1:]
    down = mask[:-1] ^ mask[1:]
    edge[:, :-1] = right
    edge[:-1] |= down
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def within(pixels: Bool, radius: int) -> Bool:
    """Mark the pixels of (H, W) within `radius` (Euclidean) of a set pixel.

    This dilates by a disk. At each distance d above and below the disk's centre lies a row of
    half-width floor(sqrt(r^2 - d^2)). From the poles to the centre the rows only get wider, so each
    row's dilation extends that of the row before: about 3 r passes in all instead of pi r^2.
    """
    height, width = pixels.shape
    stride = width + radius  # a row's left margin is the right margin of the row above
    padded = np.zeros((height + 2 * radius, stride), dtype=bool)
    padded[radius : radius + height, radius:] = pixels
    near = np.zeros(height * stride, dtype=bool)
    reach, length = padded.ravel(), 1  # reach[i]: is any of padded[i], ..., [i + length - 1] set?
    for distance in range(radius, -1, -1):
        half = isqrt(radius**2 - distance**2)
        while length < 2 * half + 1:
            step = min(length, 2 * half + 1 - length)
            reach = reach[:-step] | reach[step:]
            length += step
        for row in {-distance, distance}:
            start = (radius + row) * stride - half
            near |= reach[start : start + near.size]
    return near.reshape(height, stride)[:, radius:]


def _region(truth: Bool, prediction: Bool) -> float:
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction) / union if union else 1.0


def _boundary(truth: Bool, prediction: Bool, radius: int) -> float:
    true_edge, edge = boundary_map(truth), boundary_map(prediction)
    n_true, n = np.count_nonzero(true_edge), np.count_nonzero(edge)
    if n_true == 0 or n == 0:
        return 1.0 if n_true == n else 0.0
    precision = np.count_nonzero(edge & within(true_edge, radius)) / n
    recall = np.count_nonzero(true_edge & within(edge, radius)) / n_true
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _tolerance(shape: tuple[int, ...]) -> int:
    """Return the matching radius r of F in pixels, for frames of `shape` (H, W)."""
    return int(np.ceil(BOUNDARY_TOLERANCE * np.linalg.norm(shape)))


def _cropped(truth: Bool, prediction: Bool) -> tuple[Bool, Bool]:
    """Crop both masks to their joint bounding box and a margin of one pixel.

    J and F count and match set pixels and boundary pixels alone, and all of them lie in that crop.
    """
    union = truth | prediction
    rows = _span(union, axis=1)
    box = rows, _span(union[rows], axis=0)
    return truth[box], prediction[box]


def _span(mask: Bool, axis: int) -> slice:
    """Return the span of set pixels along the other axis, and a margin of 1.

    axis: the axis that is reduced. The slice is empty if no pixel is set.
    """
    places = np.flatnonzero(mask.any(axis=axis))
    return slice(max(places[0] - 1, 0), places[-1] + 2) if len(places) else slice(0)


def _pair(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[Bool, Bool]:
    if truth.ndim != 3 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (T, H, W)"
        )
    return truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
