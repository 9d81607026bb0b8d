"""Test wrong pixels by their distance from the true boundary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.test_metrics import blobs
from vosmodels.data.davis import DavisDataset
from vosmodels.evaluation.boundary_errors import DISTANCES, BoundaryErrors, wrong_pixels
from vosmodels.evaluation.runner import FirstFrameCopy, evaluate


def plain(truth, prediction):
    """The definition: every wrong pixel is measured to every pixel of the other side."""
    distances = []
    for y, x in zip(*np.nonzero(truth != prediction), strict=True):
        others = np.argwhere(truth != truth[y, x])
        gaps = np.hypot(*(others - (y, x)).T)
        distances.append(gaps.min() if len(gaps) else np.inf)
    return [sum(d <= limit for d in distances) for limit in (*DISTANCES, np.inf)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_wrong_pixels_is_the_definition_measured_pair_by_pair(seed):
    pairs = zip(blobs(seed, (23, 31)), blobs(seed + 1, (23, 31)), strict=True)
    for masks in pairs:
        truth, prediction = np.pad(masks, ((0, 0), (0, 25), (25, 0)))
        truth[:3, :4] = prediction[:3, :4] = True  # far away, and right
        assert wrong_pixels(truth, prediction).tolist() == plain(truth, prediction)


def test_a_contour_that_is_off_by_two_pixels_is_wrong_within_two():
    truth, wide = np.zeros((2, 40, 40), dtype=bool)
    truth[10:20, 10:20] = True
    wide[8:22, 8:22] = True
    ring = 14**2 - 10**2
    assert wrong_pixels(truth, wide).tolist() == [40, ring - 4 * 3, ring, ring, ring]
    assert wrong_pixels(wide, truth).tolist()[1:] == [ring] * 4  # from inside corners are nearer


@pytest.mark.parametrize(("y", "x"), [(12, 20), (28, 20), (20, 12), (20, 28)])
def test_the_boundary_counts_on_whichever_side_of_the_wrong_pixel_it_lies(y, x):
    truth = np.zeros((41, 41), dtype=bool)
    truth[y, x] = True
    wrong = truth.copy()
    wrong[20, 20] = True  # 8 px from the only true one
    assert wrong_pixels(truth, wrong).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("truth", [np.zeros((9, 9), dtype=bool), np.ones((9, 9), dtype=bool)])
def test_without_a_true_boundary_nothing_is_near_it(truth):
    assert wrong_pixels(truth, ~truth).tolist() == [0, 0, 0, 0, 81]
    assert wrong_pixels(truth, truth).tolist() == [0] * 5


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(4, 3\)"):
        wrong_pixels(np.zeros((3, 4), dtype=bool), np.zeros((4, 3), dtype=bool))


def test_counts_are_those_of_all_scored_frames_and_objects(davis17_root):
    """By hand over the answers that `on_mask` sees: all frames but the first and the last."""
    videos = DavisDataset(davis17_root).sequences("train")
    errors, answers = BoundaryErrors(), {}
    scores = evaluate(
        FirstFrameCopy,
        videos,
        on_mask=lambda name, number, ids: answers.update({(name, number): ids}),
        on_scored=errors.add,
    )
    expected, added = np.zeros(5, dtype=np.int64), 0
    for video in videos:
        for number in range(1, len(video) - 1):
            for i in video.ids:
                truth, copy = video.mask(number) == i, answers[video.name, number] == i
                expected += plain(truth, copy)
                added += copy.sum() - (truth & copy).sum()
    told = errors.as_dict()
    assert list(told) == ["1", "2", "4", "8", "wrong", "added", "masks"]
    assert list(told.values())[:-1] == [*expected.tolist(), added]
    assert 0 < added < told["wrong"]
    frames = sum(len(o.j_frames) for video in scores.sequences for o in video.objects.values())
    assert told["masks"] == frames
    assert 0 < told["1"] < told["wrong"]
