import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import jf_reference
from vosmodels.evaluation.metrics import (
    boundary_f,
    boundary_map,
    frame_scores,
    jaccard,
    statistics,
    within,
)

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "jf_oracle"


REFERENCE = jf_reference.jaccard, jf_reference.boundary_f


def plain_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    """The toolkit's seg2bmap, pixel by pixel."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            right = mask[y, min(x + 1, width - 1)]
            down = mask[min(y + 1, height - 1), x]
            corner = y + 1 < height and x + 1 < width and mask[y + 1, x + 1] != mask[y, x]
            if right != mask[y, x] or down != mask[y, x] or corner:
                found.append((y, x))
    return found


def plain_f(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The definition: every pair of boundary pixels is measured."""
    radius = np.ceil(0.008 * np.hypot(*truth.shape))
    wanted, given_ = plain_boundary(truth), plain_boundary(prediction)
    if not wanted or not given_:
        return float(wanted == given_)

    def matched(pixels: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [any(np.hypot(y - v, x - u) <= radius for v, u in others) for y, x in pixels]
        return sum(near) / len(near)

    precision, recall = matched(given_, wanted), matched(wanted, given_)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(seed: int, shape: tuple[int, int], count: int = 4) -> np.ndarray:
    """(count, H, W) masks of random boxes, some of which touch the border."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *shape), dtype=bool)
    for mask in masks:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(-3, shape[0]), rng.integers(-3, shape[1])
            h, w = rng.integers(1, 12, 2)
            mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] ^= True
    return masks


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_boundary_f_is_the_definition_measured_pair_by_pair(seed: int) -> None:
    shape = (16, 21)
    truth, prediction = blobs(seed, shape), blobs(seed + 1, shape)
    expected = [plain_f(g, m) for g, m in zip(truth, prediction, strict=True)]
    assert boundary_f(truth, prediction).tolist() == expected


def test_boundary_f_matches_within_a_disk_not_a_box_at_larger_radii() -> None:
    truth = np.zeros((1, 20, 480), dtype=bool)  # diagonal 480.4: radius 4
    truth[0, 10, 100] = True
    for offset, near in (((0, 4), True), ((0, 5), False), ((2, 3), True), ((3, 3), False)):
        prediction = np.roll(truth, offset, axis=(1, 2))
        score = boundary_f(truth, prediction)[0]
        # A lone pixel's boundary is a square of 2 x 2: some of it is always nearer than `offset`.
        assert score == plain_f(truth[0], prediction[0])
        assert (score == 1.0) == near


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two (1, H, W) masks of one size: empty, full, one pixel, a line at the border, dots, boxes,
    and images one pixel wide; radii 1 to 6."""
    sides = st.sampled_from([1, 2, 3, 17, 60, 130, 260, 700])
    shape = draw(sides), draw(st.sampled_from([1, 2, 5, 40, 125, 126]))
    if draw(st.booleans()):
        shape = shape[::-1]
    rng = np.random.default_rng(draw(SEEDS))

    def mask(kind: str) -> np.ndarray:
        made = np.zeros(shape, dtype=bool)
        if kind == "full":
            made[:] = True
        elif kind == "pixel":
            made[rng.integers(shape[0]), rng.integers(shape[1])] = True
        elif kind == "line":
            made[rng.choice([0, -1])] = True
            made[:, rng.choice([0, -1])] ^= rng.random() < 0.5
        elif kind == "dots":
            made[:] = rng.random(shape) < rng.choice([0.002, 0.5, 0.998])
        elif kind == "boxes":
            made = blobs(int(rng.integers(2**32)), shape, 1)[0]
        return made[None]

    kinds = st.sampled_from(["empty", "full", "pixel", "line", "dots", "boxes"])
    truth = mask(draw(kinds))
    near = np.roll(truth, rng.integers(-7, 8, 2), axis=(1, 2))
    return truth, draw(st.sampled_from([near, mask(draw(kinds))]))


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_scores_are_those_of_the_reference_to_the_last_bit(pair) -> None:
    j, f = jaccard(*pair), boundary_f(*pair)
    assert j.tolist() == jf_reference.jaccard(*pair).tolist()
    assert f.tolist() == jf_reference.boundary_f(*pair).tolist()
    assert frame_scores(pair[0][0], pair[1][0]) == (j[0], f[0])


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(0, 40))
def test_within_is_dilation_by_a_disk_of_any_radius(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random(rng.integers(1, 50, 2)) < rng.choice([0.0, 0.003, 0.05, 1.0])
    expected = jf_reference.dilated(pixels, jf_reference.disk(radius))
    np.testing.assert_array_equal(within(pixels, radius), expected)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_boundary_map_is_the_toolkits_rule_pixel_by_pixel(seed: int) -> None:
    for mask in blobs(seed, (13, 17)):
        assert [tuple(p) for p in np.argwhere(boundary_map(mask))] == plain_boundary(mask)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_jaccard_is_shared_pixels_over_all_pixels(seed: int) -> None:
    truth, prediction = blobs(seed, (20, 20)), blobs(seed + 1, (20, 20))
    for g, m, score in zip(truth, prediction, jaccard(truth, prediction), strict=True):
        ours, theirs = set(np.flatnonzero(g)), set(np.flatnonzero(m))
        assert score == (len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0)


@pytest.mark.parametrize("measure", [jaccard, boundary_f])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_scores_are_symmetric_and_one_only_for_the_same(measure, seed: int) -> None:
    truth, prediction = blobs(seed, (40, 40)), blobs(seed + 1, (40, 40))
    np.testing.assert_allclose(measure(truth, prediction), measure(prediction, truth), rtol=1e-14)
    assert measure(truth, truth).tolist() == [1.0] * len(truth)
    assert measure(truth, prediction).dtype == np.float64


@pytest.mark.parametrize("measure", [jaccard, boundary_f])
def test_empty_masks_agree_with_each_other_alone(measure) -> None:
    empty, full = np.zeros((1, 20, 20), dtype=bool), np.zeros((1, 20, 20), dtype=bool)
    full[0, 5:9, 5:9] = True
    assert measure(empty, empty) == [1.0]
    assert measure(empty, full) == [0.0]
    assert measure(full, empty) == [0.0]
    assert measure(full, np.roll(full, 10, axis=2)) == [0.0]  # apart


@pytest.mark.parametrize("measure", [jaccard, boundary_f])
def test_unequal_shapes_are_refused(measure) -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) and prediction \(2, 4, 5\)"):
        measure(np.zeros((2, 4, 4), dtype=bool), np.zeros((2, 4, 5), dtype=bool))
    with pytest.raises(ValueError, match=r"wanted one shape \(T, H, W\)"):
        measure(np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool))


def test_frames_of_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5\) and prediction \(1, 5\)"):
        frame_scores(np.zeros((4, 5), dtype=bool), np.zeros((1, 5), dtype=bool))


def test_statistics_of_a_falling_line_are_known() -> None:
    frames = np.linspace(1.0, 0.0, 9)  # edges at frames 0, 2, 4, 6, 8: the bins share them
    found = statistics(frames)
    assert found.mean == pytest.approx(0.5)
    assert found.recall == pytest.approx(4 / 9)  # 0.5 itself is not above 0.5
    assert found.decay == pytest.approx(frames[:3].mean() - frames[6:].mean()) == 0.75


def test_statistics_do_not_wrap_on_long_videos() -> None:
    frames = np.zeros(1000)
    frames[:251] = 1.0  # edges 1, 250.75 -> 251: the first bin is the first 251 frames
    assert statistics(frames).decay == 1.0


def test_statistics_of_one_frame_and_of_none() -> None:
    assert statistics(np.array([0.7])).decay == 0.0
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        statistics(np.zeros(0))


@pytest.mark.parametrize("measures", [(jaccard, boundary_f), REFERENCE], ids=["ours", "reference"])
def test_scores_equal_the_official_toolkit(measures) -> None:
    if not ORACLE.is_dir():
        pytest.skip("the toolkit's scores (shared/data/jf_oracle) are not beside this checkout")

    def masks(kind: str, name: str) -> np.ndarray:
        paths = sorted(p for p in (ORACLE / kind).rglob("*.png") if p.parent.name == name)
        return np.stack([np.asarray(Image.open(p)) > 0 for p in paths])[1:-1]

    expected = json.loads((ORACLE / "expected.json").read_text())
    assert len(expected) == 3
    for name, scores in expected.items():
        truth, prediction = masks("Annotations", name), masks("osvos", name)
        for letter, measure in zip("JF", measures, strict=True):
            frames = measure(truth, prediction)
            np.testing.assert_allclose(frames, scores[f"{letter}_frames"], rtol=0, atol=1e-9)
            found = statistics(frames)
            np.testing.assert_allclose(
                [found.mean, found.recall, found.decay], scores[letter], rtol=0, atol=1e-9
            )
