"""Test that scaling a mask down keeps every object."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from vosmodels.data.masks import object_ids, resize_ids
from vosmodels.data.shrink import keep_objects, lost_ids, shrink_ids


def blank(height=64, width=96):
    return np.zeros((height, width), dtype=np.uint8)


def by_torch(ids, size):
    tensor = torch.from_numpy(ids)[None, None].double()
    return functional.interpolate(tensor, size=size, mode="nearest-exact")[0, 0].byte().numpy()


@pytest.mark.parametrize("seed", range(20))
def test_where_nothing_vanishes_it_is_nearest_and_else_it_adds_only_what_vanished(seed):
    rng = np.random.default_rng(seed)
    ids = np.kron(rng.integers(0, 4, (6, 9)), np.ones((9, 7))).astype(np.uint8)
    size = int(rng.integers(16, 54)), int(rng.integers(16, 63))
    for nearest in (resize_ids(ids, *size), by_torch(ids, size)):
        np.testing.assert_array_equal(keep_objects(ids, nearest), nearest)
    dots = ids.copy()
    for number in (200, 201, 202):
        dots[rng.integers(0, 54), rng.integers(0, 63)] = number
    for nearest in (resize_ids(dots, *size), by_torch(dots, size)):
        kept = keep_objects(dots, nearest)
        added = set(object_ids(dots)) - set(object_ids(nearest))
        assert np.isin(kept[kept != nearest], list(added)).all()
        assert object_ids(kept) == object_ids(dots)
        np.testing.assert_array_equal(kept, keep_objects(dots, nearest))


def test_every_single_pixel_keeps_the_pixel_it_falls_into():
    for row in range(0, 48, 5):
        for column in range(64):
            ids = blank(48, 64)
            ids[row, column] = 7
            small = shrink_ids(ids, 16, 16)
            ((y, x),) = np.argwhere(small).tolist()
            assert y <= row / 3 < y + 1
            assert x <= column / 4 < x + 1
            assert small[y, x] == 7


def test_a_line_of_one_pixel_keeps_its_length():
    ids = blank()
    ids[10:50, 40] = 3  # between the columns that nearest takes
    assert not resize_ids(ids, 16, 24).any()
    np.testing.assert_array_equal(np.argwhere(shrink_ids(ids, 16, 24))[:, 0], np.arange(2, 13))


def test_an_object_takes_no_other_objects_last_pixel():
    ids = blank()
    ids[2, 2], ids[0, 0], ids[3, 3] = 1, 2, 3  # all in one pixel of the small mask
    small = shrink_ids(ids, 16, 24)
    assert object_ids(small) == (1, 2, 3)
    assert (small > 0).sum() == 3
    assert small[0, 0] == 1  # what nearest keeps stays
    full = np.full((64, 96), 9, dtype=np.uint8)
    full[0, 0] = 4  # no background left, but the large object can spare a pixel
    assert (shrink_ids(full, 16, 24) == 4).sum() == 1


def test_objects_for_which_there_is_no_pixel_are_named():
    ids = np.arange(1, 101, dtype=np.uint8).reshape(10, 10)
    small = shrink_ids(ids, 4, 4)
    assert len(object_ids(small)) == 16
    lost = lost_ids(ids, small)
    assert len(lost) == 84
    assert set(lost) | set(object_ids(small)) == set(range(1, 101))


def test_the_small_mask_that_is_given_stays_as_it_is():
    ids = blank()
    ids[0, 0] = 5
    small = resize_ids(ids, 16, 24)
    assert keep_objects(ids, small).any()
    assert not small.any()
