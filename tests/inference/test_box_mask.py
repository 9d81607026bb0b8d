"""Test first masks that are cut out of boxes, on drawn frames whose masks are known."""

import cv2
import numpy as np
import pytest

from vosmodels.data.generated import sequences
from vosmodels.errors import InputError
from vosmodels.evaluation.metrics import jaccard
from vosmodels.inference.box_mask import mask_of_boxes
from vosmodels.support.boxes import Box


def drawn(height=240, width=320):
    """A frame with a red disk and a blue bar on a noisy grey ground, and its ids."""
    ground = np.random.default_rng(0).normal(128, 12, (height, width, 1)) * np.ones(3)
    frame, ids = ground.clip(0, 255).astype(np.uint8), np.zeros((height, width), np.uint8)
    cv2.circle(ids, (width // 4, height // 2), height // 5, 1, -1)
    cv2.rectangle(ids, (width * 5 // 8, height // 4), (width * 7 // 8, height // 2), 2, -1)
    frame[ids == 1] = (200, 40, 30)
    frame[ids == 2] = (30, 60, 210)
    return frame, ids


def box_around(mask, room=4):
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    high, wide = mask.shape
    return Box(
        max(0, columns[0] - room),
        max(0, rows[0] - room),
        min(wide, columns[-1] + 1 + room),
        min(high, rows[-1] + 1 + room),
    )


def overlap(truth, found):
    return float(jaccard(truth[None], found[None])[0])


@pytest.mark.parametrize("scale", [1, 4])  # at 960 rows the cut is made at fewer
def test_each_object_is_cut_out_of_its_box_and_numbered_in_the_order_of_the_boxes(scale):
    frame, truth = drawn(240 * scale, 320 * scale)
    boxes = [box_around(truth == 2), box_around(truth == 1)]
    ids = mask_of_boxes(frame, boxes)
    assert overlap(truth == 2, ids == 1) > 0.95
    assert overlap(truth == 1, ids == 2) > 0.95
    assert set(np.unique(ids)) == {0, 1, 2}


def test_the_same_box_gives_the_same_mask():
    frame, truth = drawn()
    box = box_around(truth == 1)
    first = mask_of_boxes(frame, [box])
    cv2.setRNGSeed(7)
    assert (mask_of_boxes(frame, [box]) == first).all()


def test_of_generated_clips_the_mask_is_nearer_to_the_truth_than_the_box_is():
    cut, filled = [], []
    for video in sequences("val", size=(160, 240), length=1):
        frame, truth = video.frame(0), video.mask(0)
        box = box_around(truth == 1)
        inside = np.zeros_like(truth, bool)
        inside[box.y0 : box.y1, box.x0 : box.x1] = True
        cut.append(overlap(truth == 1, mask_of_boxes(frame, [box]) == 1))
        filled.append(overlap(truth == 1, inside))
    assert np.mean(cut) > np.mean(filled) + 0.1


def test_every_box_that_cannot_be_used_is_named():
    frame, _ = drawn()
    grey = np.full_like(frame, 128)
    with pytest.raises(InputError, match=r"0,0,400,9: the first frame is 320x240; .*whole frame"):
        mask_of_boxes(frame, [Box(0, 0, 400, 9), Box(0, 0, 320, 240)])
    with pytest.raises(InputError, match="nothing in it stands out"):
        mask_of_boxes(grey, [Box(100, 100, 150, 150)])
    frame, truth = drawn()
    with pytest.raises(InputError, match="wholly behind later boxes"):
        mask_of_boxes(frame, [box_around(truth == 1)] * 2)


@pytest.mark.parametrize("text", ["", "1,2,3", "9,9,1,1", "1,1,3,9", "a,b,c,d", "-1,0,9,9"])
def test_what_is_no_box_is_refused(text):
    with pytest.raises(ValueError, match="left,top,right,bottom"):
        Box.of(text)


def test_a_box_is_read_as_it_is_written():
    assert Box.of(" 4, 8,15,16") == Box(4, 8, 15, 16)
    assert str(Box(4, 8, 15, 16)) == "4,8,15,16"
