"""Judge a mask that gives objects: what it shows, and whether its numbers are ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vosmodels.data.masks import object_ids
from vosmodels.errors import InputError
from vosmodels.types import U8

FEWEST_FRINGES = 3  # two objects a pixel wide may be meant; three levels around others are a blur
MOST_IDS = 64  # more in one picture are levels of grey, even where none is left out


@dataclass(frozen=True)
class MaskReport:
    """The objects of a mask with their share of the pixels, and what is odd about them."""

    shares: Mapping[int, float]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        number = len(self.shares)
        each = [f"id {i} {_percent(share)}" for i, share in [*self.shares.items()][:8]]
        more = f", and {number - 8} more" if number > 8 else ""
        return f"{number} object{'s' if number > 1 else ''}: {', '.join(each)}{more}"


def judge_first_mask(path: Path, ids: U8) -> MaskReport:
    """Judge the ids (H, W) read from the mask file `path`.

    Warns of an id that looks like the background: one that covers more than half of the picture's
    border, or any where no pixel is 0. Raises InputError on a mask without objects, and on levels
    of an anti-aliased or blurred mask, which are no ids.
    """
    numbers = object_ids(ids)
    if not numbers:
        raise InputError(
            f"{path}: every pixel is 0, so there is nothing to follow; draw ids above 0"
        )
    fringes = _fringes(ids, numbers)
    gaps = numbers[-1] > len(numbers) or len(numbers) > MOST_IDS
    if gaps and len(fringes) >= FEWEST_FRINGES and 2 * len(fringes) >= len(numbers):
        shown = ", ".join(map(str, fringes[:5])) + (", ..." if len(fringes) > 5 else "")
        raise InputError(
            f"{path}: {len(numbers)} values above 0, of which {len(fringes)} ({shown}) only fringe "
            "others, as the edges of a smoothed mask do; threshold it, and give each object one id"
        )
    counts = np.bincount(ids.ravel(), minlength=256)
    shares = {i: int(counts[i]) / ids.size for i in numbers}
    return MaskReport(shares, _warnings(path, ids, shares))


def _fringes(ids: U8, numbers: tuple[int, ...]) -> list[int]:
    """Return the ids that are nowhere three pixels wide and that touch another id."""
    square = np.ones((3, 3), dtype=np.uint8)
    low, high = cv2.erode(ids, square), cv2.dilate(ids, square)
    wide = set(object_ids(ids[(low == ids) & (high == ids)]))
    lowest = cv2.erode(np.where(ids == 0, np.uint8(255), ids), square)  # id above 0 around a pixel
    beside = ids[(ids != 0) & ((high != ids) | (lowest != ids))]
    touching = set(object_ids(beside))
    return [i for i in numbers if i not in wide and i in touching]


def _warnings(path: Path, ids: U8, shares: Mapping[int, float]) -> tuple[str, ...]:
    border = np.concatenate([ids[0], ids[-1], ids[1:-1, 0], ids[1:-1, -1]])
    told = [
        f"{path}: id {i} covers {_percent(share)} of the picture and {_percent(along)} of its "
        "border: is it the background? The background has to be 0"
        for i, share in shares.items()
        if (along := float(np.mean(border == i))) > 0.5
    ]
    if not told and ids.all():
        largest = max(shares, key=lambda i: shares[i])
        told.append(
            f"{path}: no pixel is 0, and id {largest} covers {_percent(shares[largest])} of the "
            "picture: is it the background? The background has to be 0"
        )
    return tuple(told)


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1 if share >= 0.001 else 3}f} %"
