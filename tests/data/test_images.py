import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from vosmodels.data.images import Header, header, image_size, read_frame
from vosmodels.errors import InputError


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_read_frame_keeps_red_first_and_every_pixel_of_a_png(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "a.png"), noise())


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_frame_turns_a_picture_as_its_orientation_tag_says(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise()).save(path, exif=exif)
    with Image.open(path) as image:
        seen = np.asarray(ImageOps.exif_transpose(image))
    frame = read_frame(path)
    assert header(path).size == image_size(path) == frame.shape[:2] == seen.shape[:2]
    assert np.abs(frame.astype(int) - seen).max() <= (0 if suffix == "png" else 30)
    assert header(path).orientation == orientation


@pytest.mark.parametrize("tag", [0, 9])
def test_an_orientation_that_exif_does_not_define_turns_nothing(tmp_path: Path, tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_frame(tmp_path / "a.png"), noise())
    assert header(tmp_path / "a.png").orientation == 1


@pytest.mark.parametrize(
    "tail", [b"\n", b"\0" * 5, b"SEFT vendor", b"\xff\xd8\xff\xe0 half a picture"]
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_read_frame_ignores_bytes_after_the_end_of_a_picture(
    tmp_path: Path, suffix: str, tail: bytes
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise()).save(path)
    before = read_frame(path)
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(read_frame(path), before)
    assert not header(path).ends


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {}])
def test_a_jpeg_is_whole_only_with_its_last_marker(tmp_path: Path, options: dict[str, Any]) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(noise()).save(thumbnail, "JPEG")  # its end marker ends nothing
    exif = b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail.getvalue()
    path = tmp_path / "a.jpg"
    big = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(big).save(path, exif=exif, **options)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\n")
    assert read_frame(path).shape == big.shape
    for kept in (len(whole) - 2, len(whole) // 2, len(thumbnail.getvalue()) + 60):
        path.write_bytes(whole[:kept] + b"\n")
        with pytest.raises(InputError, match=r"bytes that are cut off"):
            read_frame(path)


def test_read_frame_refuses_a_png_without_its_last_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"a\.png: corrupt picture.* are cut off"):
        read_frame(path)


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
