"""Region similarity J and boundary accuracy F of the DAVIS protocol, and their statistics.

J: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016, section 4. F: Martin et al., PAMI 2004, as the DAVIS toolkits compute it. Frame for frame
equal to the official toolkit (davis2017-evaluation), whose conventions are part of the definition.
Which frames count (the protocol leaves the first and the last out) is the caller's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
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
    intersection = np.count_nonzero(truth & prediction, axis=(1, 2))
    union = np.count_nonzero(truth | prediction, axis=(1, 2))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def boundary_f(truth: NDArray[Any], prediction: NDArray[Any]) -> F64:
    """F_t = 2 P R / (P + R) of the two boundaries, matched within r pixels (Perazzi 2016, 4.1).

    r = ceil(0.008 * diagonal). P: share of predicted boundary pixels that lie within r (Euclidean)
    of a true boundary pixel; R: the other way round. Both boundaries empty: 1; one of them: 0.
    truth, prediction (T, H, W) bool -> (T,) float64 in [0, 1]. Errors as `jaccard`.
    """
    truth, prediction = _pair(truth, prediction)
    radius = int(np.ceil(BOUNDARY_TOLERANCE * np.linalg.norm(truth.shape[1:])))
    element = _disk(radius)
    return np.array(
        [_frame_f(g, m, element) for g, m in zip(truth, prediction, strict=True)], dtype=np.float64
    )


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


def _frame_f(truth: Bool, prediction: Bool, element: NDArray[np.uint8]) -> float:
    true_edge, edge = boundary_map(truth), boundary_map(prediction)
    n_true, n = int(np.count_nonzero(true_edge)), int(np.count_nonzero(edge))
    if n_true == 0 or n == 0:
        return 1.0 if n_true == n else 0.0
    # Only boundary pixels are sources and targets of the matching, so nothing outside their
    # common bounding box can change a count.
    box = _bounding_box(true_edge | edge)
    true_edge, edge = np.ascontiguousarray(true_edge[box]), np.ascontiguousarray(edge[box])
    precision = np.count_nonzero(edge & _dilate(true_edge, element)) / n
    recall = np.count_nonzero(true_edge & _dilate(edge, element)) / n_true
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def _disk(radius: int) -> NDArray[np.uint8]:
    """Pixels within `radius` (Euclidean) of the centre: the toolkit's structuring element."""
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)


def _dilate(edge: Bool, element: NDArray[np.uint8]) -> Bool:
    grown = cv2.dilate(edge.view(np.uint8), element)
    return np.asarray(grown, dtype=bool)


def _bounding_box(mask: Bool) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _pair(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[Bool, Bool]:
    if truth.ndim != 3 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (T, H, W)"
        )
    return truth.astype(bool, copy=False), prediction.astype(bool, copy=False)
