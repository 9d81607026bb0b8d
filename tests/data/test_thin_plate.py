import numpy as np
import pytest

from vosmodels.data.thin_plate import ThinPlateSpline


def points(count: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 2))


def moved(by: float = 0.1) -> np.ndarray:
    return points() + np.random.default_rng(1).normal(0, by, (12, 2))


def test_a_spline_takes_each_point_to_its_target() -> None:
    spline = ThinPlateSpline(points(), moved())
    np.testing.assert_allclose(spline(points()), moved(), atol=1e-9)


def test_a_spline_is_the_textbooks_sum_between_its_points() -> None:
    """The linear system written out by rows, solved another way, summed a position at a time."""
    source, target, at = points(), moved(), points(7, seed=2)

    def bend(squared: float) -> float:
        return squared * np.log(squared) if squared else 0.0

    rows = [[bend(((p - q) ** 2).sum()) for q in source] + [1, *p] for p in source]
    rows += [[1.0] * 12 + [0] * 3]
    rows += [[*source[:, k], 0, 0, 0] for k in range(2)]
    solved = np.linalg.lstsq(np.array(rows), np.vstack([target, np.zeros((3, 2))]), rcond=None)[0]
    expected = [
        np.array([bend(((x - q) ** 2).sum()) for q in source] + [1, *x]) @ solved for x in at
    ]
    np.testing.assert_allclose(ThinPlateSpline(source, target)(at), expected, atol=1e-8)


def test_a_spline_through_its_own_points_is_the_identity() -> None:
    at = np.random.default_rng(2).uniform(-1, 2, (5, 6, 2))
    np.testing.assert_allclose(ThinPlateSpline(points(), points())(at), at, atol=1e-9)


def test_an_affine_motion_is_reproduced_everywhere() -> None:
    linear, offset = np.array([[0.9, -0.4], [0.3, 1.2]]), np.array([0.2, -0.7])
    at = np.random.default_rng(2).uniform(-3, 3, (50, 2))
    spline = ThinPlateSpline(points(), points() @ linear.T + offset)
    np.testing.assert_allclose(spline(at), at @ linear.T + offset, atol=1e-8)


def test_one_moved_point_leaves_the_others_and_bends_what_lies_near() -> None:
    still = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5]])
    targets = still.copy()
    targets[4, 0] += 0.1
    at = np.array([[0.5, 0.5], [0.5, 0.6], [0.5, 0.9]])
    way = ThinPlateSpline(still, targets)(at) - at
    assert way[0, 0] == pytest.approx(0.1)
    assert 0.1 > way[1, 0] > way[2, 0] > 0
    np.testing.assert_allclose(way[:, 1], 0, atol=1e-9)


@pytest.mark.parametrize(
    "given",
    [np.array([[0.0, 0], [1, 1], [2, 2], [5, 5]]), np.array([[0.0, 0], [1, 0], [0, 1], [0, 1]])],
)
def test_points_on_a_line_or_twice_the_same_are_refused(given: np.ndarray) -> None:
    with pytest.raises(ValueError, match="on one line, or two of them coincide"):
        ThinPlateSpline(given, given)


@pytest.mark.parametrize(
    ("rows", "targets"), [((2, 2), (2, 2)), ((4, 2), (5, 2)), ((4, 3), (4, 3))]
)
def test_points_that_are_no_pairs_of_numbers_are_refused(rows, targets) -> None:
    with pytest.raises(ValueError, match=r"wanted \(K, 2\), K at least 3"):
        ThinPlateSpline(np.zeros(rows), np.zeros(targets))
