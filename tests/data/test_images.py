from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosmodels.data.images import Header, header, image_size, read_frame
from vosmodels.errors import InputError


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_read_frame_keeps_red_first_and_every_pixel_of_a_png(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "a.png"), noise())


def test_read_frame_ignores_an_orientation_tag_as_masks_have_none(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=exif)
    assert read_frame(tmp_path / "a.jpg").shape == (20, 30, 3)
    assert image_size(tmp_path / "a.jpg") == (20, 30)


@pytest.mark.parametrize(
    ("keep", "what"), [(0.6, "cut off"), (0.99, "cut off"), (0.0, "cannot be decoded")]
)
def test_read_frame_refuses_a_jpeg_that_ends_too_early(
    tmp_path: Path, keep: float, what: str
) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(noise()).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=rf"cut\.jpg: corrupt picture.*{what}"):
        read_frame(path)


def test_read_frame_refuses_bytes_that_are_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"text\.jpg: corrupt picture, 13 bytes"):
        read_frame(tmp_path / "text.jpg")
    with pytest.raises(InputError, match=r"text\.jpg: not a picture"):
        image_size(tmp_path / "text.jpg")


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    for read in (read_frame, image_size):
        with pytest.raises(InputError, match=r"gone\.jpg: cannot be read \(No such file"):
            read(tmp_path / "gone.jpg")


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "RGB"), ("png", "RGB"), ("png", "P")])
def test_header_tells_size_mode_and_whether_the_end_is_there(
    tmp_path: Path, suffix: str, mode: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise()).convert(mode).save(path)
    assert header(path) == Header((20, 30), mode, True)
    path.write_bytes(path.read_bytes()[:-1])
    assert header(path) == Header((20, 30), mode, False)
