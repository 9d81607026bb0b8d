"""Make a first mask from boxes around the objects, for those who have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vosmodels.errors import InputError
from vosmodels.support.boxes import Box
from vosmodels.types import U8

MARGIN = 0.5  # of a box's sides, on every side: what is seen there is taken for the background
EDGE = 400  # px, the longest edge at which the cut is made; larger ones only take longer
ROUNDS = 5  # of GrabCut
SPECK = 0.05  # of the largest piece; smaller pieces are dropped
LEAST = 0.02  # of the box; an object that fills less was not found


def mask_of_boxes(frame: U8, boxes: Sequence[Box]) -> U8:
    """Cut out the object in each box; return ids (H, W), 1 for the first box.

    frame: (H, W, 3) RGB. By GrabCut of OpenCV (Rother et al., SIGGRAPH 2004), which tells the
    colours in the box from those around it. Of overlapping objects the later box is in front.
    Raises InputError that names every box outside of the frame, without background around it, or
    in which nothing stands out.
    """
    ids = np.zeros(frame.shape[:2], np.uint8)
    problems = []
    for number, box in enumerate(boxes, 1):
        problem = _misplaced(box, frame.shape[0], frame.shape[1])
        if problem:
            problems.append(problem)
            continue
        found = _cut(frame, box)
        if found.sum() < LEAST * (box.x1 - box.x0) * (box.y1 - box.y0):
            problems.append(
                f"--box {box}: nothing in it stands out from what is around it; try a box with a "
                "little more room, or draw a mask (--mask)"
            )
        ids[found] = number
    hidden = [str(box) for number, box in enumerate(boxes, 1) if not (ids == number).any()]
    if not problems and hidden:
        problems.append(f"--box {', '.join(hidden)}: wholly behind later boxes")
    if problems:
        raise InputError("; ".join(problems))
    return ids


def _misplaced(box: Box, height: int, width: int) -> str:
    if box.x1 > width or box.y1 > height:
        return f"--box {box}: the first frame is {width}x{height}"
    if box.x1 - box.x0 == width and box.y1 - box.y0 == height:
        return f"--box {box}: is the whole frame; leave some background around the object"
    return ""


def _cut(frame: U8, box: Box) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Cut out the object in a box that has background around it -> (H, W) bool."""
    height, width = frame.shape[:2]
    out_x, out_y = round(MARGIN * (box.x1 - box.x0)), round(MARGIN * (box.y1 - box.y0))
    x0, y0 = max(0, box.x0 - out_x), max(0, box.y0 - out_y)
    x1, y1 = min(width, box.x1 + out_x), min(height, box.y1 + out_y)
    patch = cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_RGB2BGR)
    marks = np.full(patch.shape[:2], cv2.GC_BGD, np.uint8)
    marks[box.y0 - y0 : box.y1 - y0, box.x0 - x0 : box.x1 - x0] = cv2.GC_PR_FGD
    scale = min(1.0, EDGE / max(patch.shape[:2]))
    size = tuple(max(1, round(scale * side)) for side in patch.shape[1::-1])
    patch = cv2.resize(patch, size, interpolation=cv2.INTER_AREA)
    marks = cv2.resize(marks, size, interpolation=cv2.INTER_NEAREST)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # the first clusters of colours are drawn
    marks, *_ = cv2.grabCut(patch, marks, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = _pieces(np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    whole = np.zeros((height, width), bool)
    sides = (x1 - x0, y1 - y0)
    whole[y0:y1, x0:x1] = cv2.resize(found, sides, interpolation=cv2.INTER_NEAREST) > 0
    return whole


def _pieces(found: U8) -> U8:
    """Drop specks, and fill nothing: a ring stays a ring."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = np.flatnonzero(areas >= SPECK * areas.max()) if areas.max() else np.array([], int)
    return np.isin(labels, kept[kept > 0]).astype(np.uint8)
