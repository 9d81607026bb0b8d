"""Test how a mask that gives objects is judged."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vosmodels.data.first_mask import judge_first_mask
from vosmodels.data.masks import read_mask
from vosmodels.errors import InputError

MASK = Path("m.png")


def disc(value, radius=14):
    return cv2.circle(np.zeros((48, 64), dtype=np.uint8), (30, 24), radius, value, -1)


def test_objects_are_told_with_their_share():
    ids = np.zeros((40, 50), dtype=np.uint8)
    ids[5:15, 5:25], ids[30, 40] = 3, 7
    report = judge_first_mask(MASK, ids)
    assert report.shares == {3: 0.1, 7: 1 / 2000}
    assert str(report) == "2 objects: id 3 10 %, id 7 0.050 %"
    assert report.warnings == ()


def test_a_mask_without_objects_is_refused():
    with pytest.raises(InputError, match=r"m\.png: every pixel is 0.*draw ids above 0"):
        judge_first_mask(MASK, disc(0))


@pytest.mark.parametrize("sigma", [0.6, 1.5, 5.0, 12.0])
@pytest.mark.parametrize("top", [90, 200, 254])
def test_a_blurred_mask_is_refused_with_its_values(sigma, top):
    blurred = cv2.GaussianBlur(disc(top), (0, 0), sigma)
    with pytest.raises(InputError, match=r"m\.png: \d+ values above 0, of which .*threshold"):
        judge_first_mask(MASK, blurred)


def test_an_antialiased_mask_of_two_objects_is_refused():
    large = cv2.resize(disc(200) + np.roll(disc(90, 5), 18, 1) // 2, (640, 480))
    small = cv2.resize(large, (100, 75), interpolation=cv2.INTER_AREA)
    with pytest.raises(InputError, match="only fringe others"):
        judge_first_mask(MASK, small)


def test_small_thin_and_many_objects_are_ids():
    dots = np.zeros((48, 64), dtype=np.uint8)
    dots[::6, ::6] = np.arange(11, 99).reshape(8, 11)  # far apart, each one pixel
    assert len(judge_first_mask(MASK, dots).shares) == 88
    touching = disc(50)
    touching[24, 44:60], touching[20, 44:60] = 90, 120  # two lines of one pixel at a disc
    assert set(judge_first_mask(MASK, touching).shares) == {50, 90, 120}
    stripes = np.repeat(np.arange(0, 12, dtype=np.uint8), 4)[:, None] * np.ones(64, dtype=np.uint8)
    assert len(judge_first_mask(MASK, stripes).shares) == 11


def test_a_background_with_an_id_is_warned_of_by_name(tmp_path):
    picture = np.full((48, 64, 3), (20, 90, 20), dtype=np.uint8)
    picture[10:30, 20:40] = 250, 10, 10
    Image.fromarray(picture).quantize(2).save(tmp_path / "q.png")
    ids = read_mask(tmp_path / "q.png")
    if ids[0, 0] == 0:  # the order of the palette is Pillow's
        ids = 1 - ids
    (warning,) = judge_first_mask(tmp_path / "q.png", ids).warnings
    assert "q.png: id 1 covers 87 % of the picture and 100 % of its border" in warning


def test_a_mask_without_background_is_warned_of():
    quarters = np.kron([[1, 2], [3, 4]], np.ones((20, 20))).astype(np.uint8)
    quarters[5, 5:9] = 1
    (warning,) = judge_first_mask(MASK, quarters).warnings
    assert "no pixel is 0, and id 1 covers 25 %" in warning
    quarters[0, 0] = 0
    assert judge_first_mask(MASK, quarters).warnings == ()
