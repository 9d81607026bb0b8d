from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosmodels.data.masks import object_ids, palette, read_mask, resize_ids, write_palette
from vosmodels.errors import InputError


def save(path: Path, values: list[list[int]], mode: str = "L") -> Path:
    Image.fromarray(np.array(values, dtype=np.uint8)).convert(mode).save(path)
    return path


def test_write_palette_and_read_mask_are_inverse_for_every_id(tmp_path: Path) -> None:
    ids = np.arange(255, dtype=np.int64).reshape(15, 17)
    write_palette(tmp_path / "m.png", ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), ids)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"


def test_palette_is_the_one_davis_uses() -> None:
    colours = palette()
    published = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert colours[:6].tolist() == published
    assert colours[[8, 9, 64, 255]].tolist() == [
        [64, 0, 0],
        [192, 0, 0],
        [32, 0, 0],
        [224, 224, 192],
    ]
    assert len({tuple(c) for c in colours.tolist()}) == 256


def test_read_mask_makes_ids_of_black_and_white(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", [[0, 255], [255, 0]])
    assert read_mask(path).tolist() == [[0, 1], [1, 0]]
    assert read_mask(save(tmp_path / "bit.png", [[0, 255]], "1")).tolist() == [[0, 1]]


def test_read_mask_keeps_small_grey_levels_as_ids(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "m.png", [[0, 1], [7, 2]])).tolist() == [[0, 1], [7, 2]]


def test_read_mask_merges_all_ids_into_one_object(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", [[0, 1], [7, 2]])
    assert read_mask(path, merge=True).tolist() == [[0, 1], [1, 1]]


def test_read_mask_refuses_a_smoothed_mask(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m\.png: value 120 beside 255.*threshold"):
        read_mask(save(tmp_path / "m.png", [[0, 120], [255, 0]]))


def test_read_mask_refuses_colours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m\.png: mode 'RGB'; masks are palette"):
        read_mask(save(tmp_path / "m.png", [[0, 1]], "RGB"))


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_read_mask_names_a_corrupt_file(tmp_path: Path, keep: int) -> None:
    write_palette(tmp_path / "m.png", np.random.default_rng(0).integers(0, 255, (40, 40)))
    path = tmp_path / "m.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"m\.png: corrupt or missing mask"):
        read_mask(path)


def test_read_mask_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: corrupt or missing mask \(No such file"):
        read_mask(tmp_path / "gone.png")


@pytest.mark.parametrize("ids", [np.array([[0, 256]]), np.array([[-1]]), np.zeros((2, 2, 3))])
def test_write_palette_refuses_what_eight_bits_cannot_hold(tmp_path: Path, ids) -> None:
    with pytest.raises(ValueError, match=r"wanted \(H, W\) with values in 0..255"):
        write_palette(tmp_path / "m.png", ids)
    assert not (tmp_path / "m.png").exists()


def test_resize_ids_samples_pixel_centres_and_makes_no_new_ids() -> None:
    ids = np.random.default_rng(0).integers(0, 9, (30, 50), dtype=np.uint8)
    expected = Image.fromarray(ids).resize((21, 13), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_ids(ids, 13, 21), np.array(expected))
    np.testing.assert_array_equal(resize_ids(ids, 60, 100), ids.repeat(2, 0).repeat(2, 1))


def test_object_ids_are_ascending_and_without_background() -> None:
    assert object_ids(np.array([[7, 0], [3, 7]])) == (3, 7)
    assert object_ids(np.zeros((2, 2))) == ()
    assert object_ids(np.full((2, 2), 4)) == (4,)
