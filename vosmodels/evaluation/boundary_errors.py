"""How far wrong pixels lie from the true boundary: Figure 2 of MobileVOS (arXiv:2303.07815)."""

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
    """Counts of wrong pixels over frames and objects; `add` is `evaluate`'s `on_scored`."""

    def __init__(self) -> None:
        self._wrong: I64 = np.zeros(len(DISTANCES) + 1, dtype=np.int64)
        self._added = self._masks = 0

    def add(self, truth: U8, prediction: U8, ids: Iterable[int]) -> None:
        """One frame, (H, W) ids each, for the objects that are scored on it."""
        for i in ids:
            true, told = truth == i, prediction == i
            self._wrong += wrong_pixels(true, told)
            self._added += int(np.count_nonzero(told & ~true))
            self._masks += 1

    def as_dict(self) -> dict[str, int]:
        """JSON-able: wrong pixels within each distance, `wrong` wherever they lie, `added` those
        that are not the object's (the others were missed), and `masks`, the number of (frame,
        object) they were counted on."""
        near = {str(d): int(n) for d, n in zip(DISTANCES, self._wrong, strict=False)}
        wrong = int(self._wrong[-1])
        return {**near, "wrong": wrong, "added": self._added, "masks": self._masks}


def wrong_pixels(truth: Bool, prediction: Bool) -> I64:
    """truth, prediction (H, W) bool -> (5,) int64: false positives and negatives within 1, 2, 4
    and 8 px of the true boundary, and all of them.

    The boundary runs between pixels, so the distance of a wrong pixel is the Euclidean one to the
    nearest pixel on the other side of it: 1 for those that touch it. Where the truth is empty, or
    all of the frame, there is no boundary and nothing is near it. The paper shows such errors in
    a picture and gives no numbers; distances and counting are ours.
    Raises ValueError where the shapes differ or are not two-dimensional.
    """
    if truth.ndim != 2 or truth.shape != prediction.shape:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: wanted one shape (H, W)"
        )
    found = np.zeros(len(DISTANCES) + 1, dtype=np.int64)
    wrong = truth != prediction
    if not wrong.any():
        return found
    found[-1] = np.count_nonzero(wrong)
    box = _around(wrong, axis=1), _around(wrong, axis=0)
    near, wrong = truth[box], wrong[box]
    for side in (near, ~near):  # false negatives, then false positives
        if not side.all():
            distances = _distance(side)[side & wrong]
            found[:-1] += [np.count_nonzero(distances <= d) for d in DISTANCES]
    return found


def _around(mask: Bool, axis: int) -> slice:
    """Where the mask, seen along `axis`, is set, and as far around as distances are told apart."""
    places = np.flatnonzero(mask.any(axis=axis))
    return slice(max(places[0] - DISTANCES[-1], 0), places[-1] + DISTANCES[-1] + 1)


def _distance(side: Bool) -> NDArray[np.float32]:
    """(H, W): of every pixel that is set the distance to the nearest one that is not."""
    exact = cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(exact, dtype=np.float32)
