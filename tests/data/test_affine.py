"""Test maps against closed forms, and colours against torchvision."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from vosmodels.data.affine import (
    about,
    grey,
    jitter_colour,
    rotation,
    shear,
    tint,
    to_float,
    warp_frame,
    warp_mask,
)


def test_about_takes_the_named_point_to_the_middle_of_the_crop() -> None:
    warp = about(2 * rotation(30) @ shear(0.2), (5.0, 9.0), crop=7)
    np.testing.assert_allclose(warp @ [5, 9, 1], [3, 3])
    np.testing.assert_allclose(np.linalg.det(warp[:, :2]), 4)


def test_a_quarter_turn_is_exact_for_frames_and_masks() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    warp = about(rotation(90), (4.0, 4.0), crop=9)
    turned = np.rot90(frame, -1)  # y points down: a positive angle turns clockwise
    np.testing.assert_array_equal(warp_frame(frame, warp, 9), turned)
    np.testing.assert_array_equal(warp_mask(frame[..., 0].copy(), warp, 9), turned[..., 0])


def test_a_shear_moves_each_row_by_its_distance_from_the_centre() -> None:
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[:, 4] = 3
    moved = warp_mask(mask, about(shear(1.0), (4.0, 4.0), crop=9), 9)
    np.testing.assert_array_equal(moved, 3 * np.eye(9))


def test_beyond_the_frame_lies_background_in_imagenets_mean_colour() -> None:
    warp = about(np.eye(2), (-20.0, -20.0), crop=5)
    frame = np.zeros((9, 9, 3), dtype=np.uint8)
    mean = np.round(255 * np.array([0.485, 0.456, 0.406]))
    assert (warp_frame(frame, warp, 5) == mean).all()
    assert (warp_mask(frame[..., 0] + np.uint8(1), warp, 5) == 0).all()


def test_shrinking_averages_where_sampling_would_alias() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::2] = 200
    small = warp_frame(stripes, about(np.eye(2) / 4, (31.5, 31.5), crop=16), 16)
    assert (small == 100).all()


def clip() -> torch.Tensor:
    return torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(0))


class Draws:
    """A generator that keeps what it gave."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.given: list[Any] = []

    def uniform(self, *arguments: Any) -> Any:
        self.given.append(self.rng.uniform(*arguments))
        return self.given[-1]

    def permutation(self, count: int) -> Any:
        self.given.append(self.rng.permutation(count))
        return self.given[-1]


@pytest.mark.parametrize("seed", range(6))
def test_jitter_colour_is_torchvisions_with_the_same_draws(seed: int) -> None:
    ranges = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1}
    rng: Any = Draws(seed)
    found = jitter_colour(rng, clip(), **ranges)
    blends, turn, order = rng.given
    jitter = v2.ColorJitter(**ranges)
    params = {
        "fn_idx": torch.from_numpy(order),
        "brightness_factor": 1 + 0.4 * blends[0],
        "contrast_factor": 1 + 0.3 * blends[1],
        "saturation_factor": 1 + 0.2 * blends[2],
        "hue_factor": float(turn),
    }
    torch.testing.assert_close(found, jitter.transform(clip(), params))
    assert not torch.allclose(found, clip(), atol=0.02)


def test_jitter_colour_draws_a_new_order_and_stays_in_range() -> None:
    rng = np.random.default_rng(0)
    ranges = {"brightness": 0.9, "contrast": 0.9, "saturation": 0.9}
    found = torch.stack([jitter_colour(rng, clip(), **ranges) for _ in range(20)])
    assert 0 <= found.min() < found.max() <= 1
    assert len({round(float(one.mean()), 4) for one in found}) == 20


def test_grey_takes_the_colour_of_the_whole_clip_or_of_none_of_it() -> None:
    rng = np.random.default_rng(0)
    found = [grey(rng, clip(), 0.3) for _ in range(300)]
    without = [bool((one == one[:, :1]).all()) for one in found]
    assert 60 < sum(without) < 120
    luma = (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * clip()).sum(dim=1)
    torch.testing.assert_close(found[without.index(True)][:, 2], luma, rtol=0, atol=2e-4)
    assert found[without.index(False)].equal(clip())


def test_tint_and_to_float_give_planar_frames_between_zero_and_one() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    plain = to_float(frames)
    np.testing.assert_allclose(plain.permute(0, 2, 3, 1), frames / 255, rtol=1e-6)
    tinted = tint(np.random.default_rng(0), frames)
    assert (tinted.shape, tinted.dtype) == (plain.shape, torch.float32)
    assert 0 <= tinted.min() <= tinted.max() <= 1
