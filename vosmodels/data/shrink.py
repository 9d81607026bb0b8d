"""Scale masks of object ids down so that no object vanishes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vosmodels.data.masks import object_ids, resize_ids
from vosmodels.types import U8

Cell = tuple[int, int]  # row and column of a pixel of the small mask


def shrink_ids(ids: U8, height: int, width: int) -> U8:
    """Scale ids (H, W) down to (height, width) and keep every object.

    Equals `resize_ids` where no object vanishes. Objects for which there is no pixel are
    `lost_ids(ids, small)`.
    """
    return keep_objects(ids, resize_ids(ids, height, width))


def lost_ids(ids: NDArray[Any], small: NDArray[Any]) -> tuple[int, ...]:
    """Return the objects of `ids` that have no pixel in its scaled copy `small`, ascending."""
    return tuple(sorted({*object_ids(ids)} - {*object_ids(small)}))


def keep_objects(ids: NDArray[Any], small: NDArray[Any]) -> NDArray[Any]:
    """Return `small`, which is `ids` (H, W) scaled down, with the objects that vanished.

    An object that vanished gets one pixel: of those that it touches, and their neighbours, the one
    nearest to its centre that is background or that another object can spare. No object loses its
    last pixel. Then it also gets every pixel it touches that is background. An object that finds no
    pixel is left out. The result depends on the ids alone; `small` is not changed.
    """
    missing = lost_ids(ids, small)
    if not missing:
        return small
    kept = small.copy()
    counts = dict(zip(*(a.tolist() for a in np.unique(small, return_counts=True)), strict=True))
    touched = {i: _touched(ids, i, small.shape) for i in missing}
    for number in sorted(missing, key=lambda i: (len(touched[i]), i)):  # the least choice first
        for cell in _choices(ids, number, touched[number], small.shape):
            owner = int(kept[cell])
            if owner == 0 or counts[owner] > 1:
                counts[owner] -= 1
                counts[number] = 1
                kept[cell] = number
                break
    for number in missing:
        if number in counts:
            for cell in touched[number]:
                if kept[cell] == 0:
                    kept[cell] = number
    return kept


def _touched(ids: NDArray[Any], number: int, size: Cell) -> list[Cell]:
    """Return the pixels of a small mask of `size` that an object's pixels fall into."""
    rows, columns = np.nonzero(ids == number)
    cells = {
        (int(row) * size[0] // ids.shape[0], int(column) * size[1] // ids.shape[1])
        for row, column in zip(rows, columns, strict=True)
    }
    return sorted(cells)


def _choices(ids: NDArray[Any], number: int, touched: list[Cell], size: Cell) -> list[Cell]:
    """Return the pixels an object may have: touched ones, nearest first, then neighbours."""
    rows, columns = np.nonzero(ids == number)
    centre = (
        (rows.mean() + 0.5) * size[0] / ids.shape[0],
        (columns.mean() + 0.5) * size[1] / ids.shape[1],
    )
    around = {
        (row + down, column + right)
        for row, column in touched
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if 0 <= row + down < size[0] and 0 <= column + right < size[1]
    }

    def order(cell: Cell) -> tuple[bool, float, Cell]:
        away = (cell[0] + 0.5 - centre[0]) ** 2 + (cell[1] + 0.5 - centre[1]) ** 2
        return cell not in own, float(away), cell

    own = set(touched)
    return sorted(around, key=order)
