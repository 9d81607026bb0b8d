"""Fit a thin-plate spline: the map that takes points to targets and bends least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class ThinPlateSpline:
    """f(x) = a + A x + sum_k w_k U(|x - p_k|),  U(r) = r^2 log r^2

    Source: Bookstein, PAMI 11(6), 1989.
    Of all maps with f(p_k) = q_k, f has the least bending energy. a, A and w solve

        [ K   P ] [w]   [q]     K[j, k] = U(|p_j - p_k|)
        [ P'  0 ] [c] = [0]     P[k] = (1, p_k),  c = (a, A)'

    The lower rows make f nearly affine far away from the points; if the q_k are an affine map of
    the p_k, f is that map.

    points p, targets q: (K, 2), K >= 3. Raises ValueError on other shapes, and if all points lie on
    one line or two points coincide.
    """

    def __init__(self, points: F64, targets: F64) -> None:
        count = len(points)
        if points.shape != (count, 2) or targets.shape != points.shape or count < 3:
            raise ValueError(
                f"points {points.shape} and targets {targets.shape}: wanted (K, 2), K at least 3"
            )
        system = np.zeros((count + 3, count + 3))
        system[:count, :count] = _bending(((points[:, None] - points) ** 2).sum(axis=-1))
        system[:count, count] = system[count, :count] = 1
        system[:count, count + 1 :] = points
        system[count + 1 :, :count] = points.T
        if np.linalg.matrix_rank(system) < count + 3:
            raise ValueError("points are all on one line, or two of them coincide; no spline fits")
        solved = np.linalg.solve(system, np.concatenate([targets, np.zeros((3, 2))]))
        self._points = points
        self._weights = solved[:count]  # (K, 2)
        self._constant, self._linear = solved[count], solved[count + 1 :]

    def __call__(self, at: F64) -> F64:
        """Map positions (..., 2) -> (..., 2)."""
        x, y = at[..., 0], at[..., 1]
        column = (2,) + (1,) * x.ndim  # broadcasts (2,) against the positions (2, ...)
        (of_x, of_y), constant = self._linear, self._constant.reshape(column)
        moved = constant + of_x.reshape(column) * x + of_y.reshape(column) * y  # (2, ...)
        for (px, py), weight in zip(self._points, self._weights, strict=True):
            moved += weight.reshape(column) * _bending((x - px) ** 2 + (y - py) ** 2)
        return np.moveaxis(moved, 0, -1)


def _bending(squared: F64) -> F64:
    """Return U(r) = r^2 log r^2 of a squared distance r^2, with U(0) = 0."""
    return np.asarray(squared * np.log(np.maximum(squared, np.finfo(np.float64).tiny)))
