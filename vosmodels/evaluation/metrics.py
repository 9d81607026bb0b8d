"""Region similarity J and boundary accuracy F of the DAVIS protocol, and their statistics.

J: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016, section 4. F: Martin et al., PAMI 2004, as the DAVIS toolkits compute it. Frame for frame
equal to the official toolkit (davis2017-evaluation), whose conventions are part of the definition.
Which frames count (the protocol leaves the first and the last out) is the caller's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
F64 = NDArray[np.float64]

BOUNDARY_TOLERANCE = 0.008  # of the frame's diagonal
DECAY_BINS = 4


@dataclass(frozen=True)
class Statistics:
    """What the DAVIS tables report of one object's frames.

    mean: over frames; recall: share of frames above 0.5; decay: mean of the first quarter minus
    mean of the last quarter.
    """

    mean: float
    recall: float
    decay: float


def jaccard(truth: NDArray[Any], prediction: NDArray[Any]) -> F64:
    """J_t = |G_t and M_t| / |G_t or M_t|; 1 where both are empty (Perazzi 2016, section 4.1).

    truth, prediction (T, H, W) bool -> (T,) float64 in [0, 1].
    Raises ValueError where the shapes differ or are not three-dimensional.
    """
    truth, prediction = _pair(truth, prediction)
    return np.array(
        [_region(g, m) for g, m in zip(truth, prediction, strict=True)], dtype=np.float64
    )


def boundary_f(truth: NDArray[Any], prediction: NDArray[Any]) -> F64:
    """F_t = 2 P R / (P + R) of the two boundaries, matched within r pixels (Perazzi 2016, 4.1).

    r = ceil(0.008 * diagonal). P: share of predicted boundary pixels that lie within r (Euclidean)
    of a true boundary pixel; R: the other way round. Both boundaries empty: 1; one of them: 0.
    truth, prediction (T, H, W) bool -> (T,) float64 in [0, 1]. Errors as `jaccard`.
    """
    truth, prediction = _pair(truth, prediction)
    radius = _tolerance(truth.shape[1:])
    pairs = (_cropped(g, m) for g, m in zip(truth, prediction, strict=True))
    return np.array([_boundary(g, m, radius) for g, m in pairs], dtype=np.float64)


def frame_scores(truth: Bool, prediction: Bool) -> tuple[float, float]:
    """J and F of one frame, (H, W) bool each: `jaccard` and `boundary_f`, cropped only once.

    Raises ValueError where the shapes differ or are not two-dimensional.
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (H, W)"
        )
    pair = _cropped(truth, prediction)
    return _region(*pair), _boundary(*pair, _tolerance(truth.shape))


def statistics(frames: NDArray[Any]) -> Statistics:
    """Mean, recall and decay of (T,) frame values, T >= 1.

    Decay bins as the toolkit cuts them: five edges spread evenly over 1..T, rounded, neighbouring
    bins sharing their edge frame. The toolkit keeps the edges as 8-bit numbers, which wrap from
    257 frames on; ours do not.
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
    """Pixels of (H, W) that differ from their right, lower or lower-right neighbour.

    The last row looks right only, the last column down only, the last pixel is never boundary: one
    pixel wide, as the toolkit's seg2bmap.
    """
    edge = np.zeros_like(mask)
    right = mask[:, :-1] ^ mask[:, 1:]
    down = mask[:-1] ^ mask[1:]
    edge[:, :-1] = right
    edge[:-1] |= down
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def within(pixels: Bool, radius: int) -> Bool:
    """Pixels of (H, W) that lie within `radius` (Euclidean) of one that is set.

    A disk is a row of half-width floor(sqrt(r^2 - d^2)) at each distance d above and below its
    centre. From the poles to the middle these rows only get wider, so each is made of the one
    before, and all of them together cost about 3 r passes instead of the disk's pi r^2.
    """
    height, width = pixels.shape
    stride = width + radius  # the margin of one row's left is that of the row above's right
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
    """The radius r of F, for frames of (H, W)."""
    return int(np.ceil(BOUNDARY_TOLERANCE * np.linalg.norm(shape)))


def _cropped(truth: Bool, prediction: Bool) -> tuple[Bool, Bool]:
    """Both masks on the box that holds them and one pixel around it, clipped to the frame.

    All their pixels and all their boundary pixels lie there, and only those are counted or matched.
    """
    union = truth | prediction
    rows = _span(union, axis=1)
    box = rows, _span(union[rows], axis=0)
    return truth[box], prediction[box]


def _span(mask: Bool, axis: int) -> slice:
    """Where the mask, seen along `axis`, is set, and one place on each side; empty if nowhere."""
    places = np.flatnonzero(mask.any(axis=axis))
    return slice(max(places[0] - 1, 0), places[-1] + 2) if len(places) else slice(0)


def _pair(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[Bool, Bool]:
    if truth.ndim != 3 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (T, H, W)"
        )
    return truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
