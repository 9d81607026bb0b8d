"""Test what the preset stcn draws, read off the maps that it gives."""

import math

import numpy as np
import pytest
import torch

from vosmodels.data.augment import Stcn, augmenter

HEIGHT, WIDTH, CROP = 480, 854, 384
TARGET = np.zeros((HEIGHT, WIDTH), dtype=bool)


def drawn(count: int, **options: float) -> list[list[np.ndarray]]:
    preset = Stcn(**options)
    return [preset.warps(np.random.default_rng(i), TARGET, CROP, 3) for i in range(count)]


def parts(linear: np.ndarray) -> tuple[float, float, float, float]:
    """Angle in degrees, slope, width and height in frame pixels of turn @ shear @ stretch, where
    the sign of the width is the mirror's."""
    # A column of stretch is a multiple of an axis: the first shows the turn, up to the mirror.
    angle = math.degrees(math.atan2(linear[1, 0], linear[0, 0]))
    mirror = -1 if abs(angle) > 90 else 1
    angle = math.degrees(math.atan2(mirror * linear[1, 0], mirror * linear[0, 0]))
    turn = math.radians(angle)
    back = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    upper = back @ linear  # shear @ stretch = [[sx, slope * sy], [0, sy]]
    return angle, upper[0, 1] / upper[1, 1], CROP / upper[0, 0], CROP / upper[1, 1]


def test_every_frame_of_a_clip_has_the_same_crop_and_a_turn_and_shear_of_its_own() -> None:
    angles, slopes, mirrored, shares, ratios = [], [], [], [], []
    for warps in drawn(400):
        found = np.array([parts(warp[:, :2]) for warp in warps])
        angle, slope, width, height = found.T
        np.testing.assert_allclose(width, width[0])
        np.testing.assert_allclose(height, height[0])
        centres = [np.linalg.solve(w[:, :2], (CROP - 1) / 2 - w[:, 2]) for w in warps]
        np.testing.assert_allclose(centres, centres[:1] * 3)
        half = np.abs([width[0], height[0]]) / 2
        assert (centres[0] + 0.5 >= half - 1e-9).all()
        assert (centres[0] + 0.5 <= np.array([WIDTH, HEIGHT]) - half + 1e-9).all()
        angles += [*angle]
        slopes += [*np.degrees(np.arctan(slope))]
        mirrored.append(width[0] < 0)
        shares.append(abs(width[0]) * height[0] / (HEIGHT * WIDTH))
        ratios.append(abs(width[0]) / height[0])
    assert 14.8 < max(angles) <= 15
    assert -15 <= min(angles) < -14.8
    assert 9.8 < max(slopes) <= 10
    assert -10 <= min(slopes) < -9.8
    assert 160 < sum(mirrored) < 240
    assert 0.36 <= min(shares) < 0.38
    assert 0.7 < max(shares) <= 1
    assert 3 / 4 - 1e-9 < min(ratios) < 0.76
    assert 1.32 < max(ratios) < 4 / 3 + 1e-9


def test_the_smallest_crop_is_an_argument() -> None:
    shares = [
        abs(width) * height / (HEIGHT * WIDTH)
        for (first, *_) in drawn(300, smallest_crop=0.25)
        for _, _, width, height in [parts(first[:, :2])]
    ]
    assert 0.25 <= min(shares) < 0.28


@pytest.mark.parametrize(("shape", "wanted"), [((100, 1000), (400 / 3, 100)), ((90, 30), (30, 40))])
def test_a_frame_too_narrow_for_any_crop_gives_its_middle(
    shape: tuple[int, int], wanted: tuple[float, float]
) -> None:
    first, *_ = Stcn(smallest_crop=0.99).warps(np.random.default_rng(0), np.ones(shape) > 0, 32, 1)
    centre = np.linalg.solve(first[:, :2], 15.5 - first[:, 2])
    np.testing.assert_allclose(centre, [(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    stretch = np.linalg.det(first[:, :2])
    np.testing.assert_allclose(abs(stretch), 32 * 32 / (wanted[0] * wanted[1]))


def test_colours_change_with_the_clip_and_a_little_with_the_frame() -> None:
    frames = np.full((3, 6, 8, 3), (60, 120, 180), dtype=np.uint8)
    frames[:, :3] //= 2
    clips = [Stcn().colours(np.random.default_rng(i), frames) for i in range(200)]
    without = [bool((clip == clip[:, :1]).all()) for clip in clips]
    assert 2 <= sum(without) <= 22  # one in twenty
    coloured = [clip for clip, grey in zip(clips, without, strict=True) if not grey]
    means = torch.stack([clip.mean(dim=(1, 2, 3)) for clip in coloured])  # (clips, frames)
    plain = frames.mean() / 255
    assert 0.05 < (means.mean(dim=1) / plain - 1).abs().max() < 0.12
    within = (means / means.mean(dim=1, keepdim=True) - 1).abs()
    assert 0.005 < within.max() < 0.03


def test_augmenter_names_the_presets() -> None:
    assert augmenter("stcn", 0.25) == Stcn(0.25)
    assert augmenter("light", 0.25).min_share > 0
