"""Compute J and F by definition, frame by frame on whole images.

Nothing is cropped or cached. `vosmodels.evaluation.metrics` must equal this module to the last bit,
and is timed against it.
"""

from __future__ import annotations

import cv2
import numpy as np


def jaccard(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(T, H, W) bool each -> (T,) float64; 1 where both are empty."""
    return np.array([region(g, m) for g, m in zip(truth, prediction, strict=True)])


def boundary_f(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(T, H, W) bool each -> (T,) float64; boundaries matched by dilation with a disk."""
    return np.array([boundary(g, m) for g, m in zip(truth, prediction, strict=True)])


def region(truth: np.ndarray, prediction: np.ndarray) -> float:
    """J of one frame."""
    intersection = np.count_nonzero(truth & prediction)
    union = np.count_nonzero(truth | prediction)
    return intersection / union if union else 1.0


def boundary(truth: np.ndarray, prediction: np.ndarray) -> float:
    """F of one frame."""
    element = disk(int(np.ceil(0.008 * np.linalg.norm(truth.shape))))
    true_edge, edge = boundary_map(truth), boundary_map(prediction)
    n_true, n = np.count_nonzero(true_edge), np.count_nonzero(edge)
    if n_true == 0 or n == 0:
        return 1.0 if n_true == n else 0.0
    precision = np.count_nonzero(edge & dilated(true_edge, element)) / n
    recall = np.count_nonzero(true_edge & dilated(edge, element)) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """The toolkit's seg2bmap: pixels unlike their right, lower or lower-right neighbour."""
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def dilated(edge: np.ndarray, element: np.ndarray) -> np.ndarray:
    """Pixels under the element somewhere on the edge."""
    return np.asarray(cv2.dilate(edge.view(np.uint8), element), dtype=bool)


def disk(radius: int) -> np.ndarray:
    """The toolkit's structuring element: pixels within `radius` of the centre."""
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
