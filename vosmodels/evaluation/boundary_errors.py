"""Count wrong pixels by their distance from the true boundary.

Figure 2 of MobileVOS (arXiv:2303.07815) shows such errors in a picture.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from vosmodels.types import U8

DISTANCES = (1, 2, 4, 8)  # px

I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


class BoundaryErrors:
    """Counts of wrong pixels over frames and objects; `add` is an `OnScored`."""

    def __init__(self) -> None:
        self._wrong: I64 = np.zeros(len(DISTANCES) + 1, dtype=np.int64)
        self._added = self._masks = 0

    def add(self, truth: U8, prediction: U8, ids: Iterable[int]) -> None:
        """Count the wrong pixels of one frame for the objects `ids` scored on that frame.

        truth, prediction: (H, W) ids.
        """
        for i in ids:
            true, predicted = truth == i, prediction == i
            self._wrong += wrong_pixels(true, predicted)
            self._added += int(np.count_nonzero(predicted & ~true))
            self._masks += 1

    def as_dict(self) -> dict[str, int]:
        """Return the counts as a JSON-able mapping.

        "1", "2", "4", "8": wrong pixels within so many px of the true boundary; "wrong": all wrong
        pixels; "added": the false positives among them, the rest are misses; "masks": the number of
        (frame, object) pairs counted.
        """
        near = {str(d): int(n) for d, n in zip(DISTANCES, self._wrong, strict=False)}
        wrong = int(self._wrong[-1])
        return {**near, "wrong": wrong, "added": self._added, "masks": self._masks}


def wrong_pixels(truth: Bool, prediction: Bool) -> I64:
    """Count wrong pixels within DISTANCES of the true boundary, and all wrong pixels.

    truth, prediction (H, W) bool -> (5,) int64: false positives and negatives within 1, 2, 4 and 8
    px, then all of them. The boundary runs between pixels, so the distance of a wrong pixel is the
    Euclidean distance to the nearest pixel across the boundary: 1 for a pixel that touches the
    boundary. If the truth is empty or fills the frame there is no boundary, so no wrong pixel is
    near. The paper shows errors in a picture and gives no numbers; distances and counting are ours.
    Raises ValueError if the shapes differ or are not two-dimensional.
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (H, W)"
        )
    counts = np.zeros(len(DISTANCES) + 1, dtype=np.int64)
    wrong = truth != prediction
    if not wrong.any():
        return counts
    counts[-1] = np.count_nonzero(wrong)
    box = _around(wrong, axis=1), _around(wrong, axis=0)
    near, wrong = truth[box], wrong[box]
    for side in (near, ~near):  # false negatives, then false positives
        if not side.all():
            distances = _distance(side)[side & wrong]
            counts[:-1] += [np.count_nonzero(distances <= d) for d in DISTANCES]
    return counts


def _around(mask: Bool, axis: int) -> slice:
    """Return the span of the mask's set pixels, projected along `axis`, and a margin.

    The margin is the largest of DISTANCES, so that no smaller distance is cut off.
    """
    places = np.flatnonzero(mask.any(axis=axis))
    return slice(max(places[0] - DISTANCES[-1], 0), places[-1] + DISTANCES[-1] + 1)


def _distance(side: Bool) -> NDArray[np.float32]:
    """Return (H, W) the distance in px of each set pixel to the nearest unset pixel."""
    exact = cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(exact, dtype=np.float32)
