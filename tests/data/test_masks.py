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


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGB", "RGBA"])
def test_read_mask_reads_grey_in_every_mode_that_holds_it(tmp_path: Path, mode: str) -> None:
    values = [[0, 1, 7], [0, 0, 254]]
    path = tmp_path / "m.png"
    if mode == "P":
        write_palette(path, np.array(values))
    else:
        save(path, values, mode)
    with Image.open(path) as image:
        assert image.mode == mode
    assert read_mask(path).tolist() == values


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_read_mask_keeps_the_shape_of_a_mask_of_one_row(tmp_path: Path, mode: str) -> None:
    assert read_mask(save(tmp_path / "m.png", [[0, 255, 255]], mode)).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("values", "ids"), [([[0, 65535]], [[0, 1]]), ([[0, 3, 200]], [[0, 3, 200]])]
)
def test_read_mask_reads_16_bits_that_are_plain(
    tmp_path: Path, values: list[list[int]], ids: list[list[int]]
) -> None:
    Image.fromarray(np.array(values, dtype=np.uint16)).save(tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "I;16"
    assert read_mask(tmp_path / "m.png").tolist() == ids


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.array([[0, 300]], np.uint16), r"mode 'I;16' with value 300; .* in 8 bits"),
        (np.array([[0, 5, 65535]], np.uint16), r"mode 'I;16' with value 65535"),
        (
            np.array([[[0, 0, 0], [128, 0, 0]]], np.uint8),
            r"mode 'RGB' with colour \(128, 0, 0\).* indexed",
        ),
        (
            np.array([[[0, 255], [1, 9]]], np.uint8),
            r"mode 'LA' with alpha down to 9; .* without alpha",
        ),
        (np.array([[[1, 1, 1, 0]]], np.uint8), r"mode 'RGBA' with alpha down to 0"),
    ],
)
def test_read_mask_refuses_pixels_that_are_no_ids(
    tmp_path: Path, pixels: np.ndarray, says: str
) -> None:
    Image.fromarray(pixels).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=rf"m\.png: {says}"):
        read_mask(tmp_path / "m.png")


def test_read_mask_turns_a_mask_as_its_orientation_tag_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).save(tmp_path / "m.png", exif=exif)
    assert read_mask(tmp_path / "m.png").tolist() == [[4, 1], [5, 2], [6, 3]]


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
