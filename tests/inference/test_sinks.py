"""Test that films and masks are written whole, or not at all."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.full_disk import room
from tests.tiny_films import picture, read_film
from vosmodels.data.masks import read_mask
from vosmodels.data.overlay import overlay
from vosmodels.errors import InputError
from vosmodels.inference.sinks import container_rate, open_sink

SIZE = (48, 64)


def ids_of(index, size=SIZE):
    ids = np.zeros(size, dtype=np.uint8)
    ids[8:24, 4 + index : 20 + index] = 3
    return ids


def fill(sink, frames, size=SIZE, names="{:05d}"):
    for index in range(frames):
        sink.write(names.format(index), picture(index, size), ids_of(index, size))


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.avi", "O.MP4", "a:b.mp4", "new/o.mp4"])
def test_a_film_holds_every_frame_at_its_rate(tmp_path, name):
    with open_sink(tmp_path / name, 12.5, SIZE) as sink:
        fill(sink, 5)
    frames, rate = read_film(tmp_path / name)
    assert (len(frames), rate) == (5, 12.5)
    for index, frame in enumerate(frames):
        wanted = overlay(picture(index), ids_of(index))[..., ::-1]
        assert np.abs(frame.astype(int) - wanted).mean() < 12
    assert [p.name for p in (tmp_path / name).parent.iterdir()] == [name.split("/")[-1]]


def test_a_film_that_browsers_do_not_play_says_how_to_convert_it(tmp_path):
    with open_sink(tmp_path / "my film.avi", 25.0, SIZE) as sink:
        fill(sink, 1)
    (note,) = sink.notes
    assert f"ffmpeg -i '{tmp_path}/my film.avi' -c:v libx264 -pix_fmt yuv420p '" in note


def test_a_film_of_odd_sides_loses_no_row_and_says_so(tmp_path):
    with open_sink(tmp_path / "o.avi", 25.0, (47, 63)) as sink:
        fill(sink, 2, (47, 63))
    frames, _ = read_film(tmp_path / "o.avi")
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert "64x48 pixels" in sink.notes[0]
    assert "63x47" in sink.notes[0]


@pytest.mark.parametrize("suffix", ["mp4", "avi"])
def test_a_rate_that_no_film_takes_is_rounded_and_told(tmp_path, suffix):
    with open_sink(tmp_path / f"o.{suffix}", 119.997, SIZE) as sink:
        fill(sink, 3)
    assert "120 frames a second, as no film takes 119.997" in sink.notes[0]
    assert read_film(tmp_path / f"o.{suffix}")[1] == 120.0


def test_a_rate_is_the_nearest_that_fits_the_clock():
    for rate in (0.1, 0.5, 23.976, 24.0, 30000 / 1001, 59.94, 65.535, 119.88, 240.0, 959.6):
        assert container_rate(rate) == pytest.approx(rate, abs=5e-4)
    for rate in np.random.default_rng(0).uniform(0.1, 1000, 500):
        clock = Fraction(str(container_rate(rate)))
        assert clock.numerator <= 65535
        finest = next(d for d in (3, 2, 1) if rate * 10**d <= 65535)
        assert abs(float(clock) - rate) <= 0.5001 * 10**-finest


def test_a_film_that_cannot_be_written_is_refused_before_the_first_frame(tmp_path):
    size = (20000, 20000)  # more than MPEG-4's header can say
    with (
        pytest.raises(InputError, match=r"o\.mp4: no film of 20000x20000"),
        open_sink(tmp_path / "o.mp4", 25.0, size),
    ):
        pytest.fail("a frame was asked for")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["o.mp4", "o.avi"])
def test_a_full_disk_leaves_no_film_and_not_the_old_one_either_changed(tmp_path, name):
    (tmp_path / name).write_text("old")
    with (
        pytest.raises(InputError, match=rf"{name}: \d+ of 40 frames could be written"),
        room(3000),
        open_sink(tmp_path / name, 25.0, SIZE) as sink,
    ):
        fill(sink, 40)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), open_sink(tmp_path / "o.mp4", 25.0, SIZE) as sink:
        fill(sink, 2)
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_mask_has_the_name_of_its_frame_and_those_of_another_run_are_told(tmp_path):
    out = tmp_path / "new" / "masks"
    with open_sink(out, 24.0, SIZE) as sink:
        fill(sink, 2, names="f.{}")
    assert sink.notes == ()
    assert sorted(p.name for p in out.iterdir()) == ["f.0.png", "f.1.png"]
    np.testing.assert_array_equal(read_mask(out / "f.1.png"), ids_of(1))
    with open_sink(out, 24.0, SIZE) as sink:
        fill(sink, 1, names="f.{}")
    (note,) = sink.notes
    assert "1 PNG of another run beside those of this one (f.1.png)" in note


def test_a_full_disk_keeps_whole_masks_alone(tmp_path):
    noise = np.random.default_rng(0).integers(0, 200, (200, 200)).astype(np.uint8)
    frame = np.zeros((200, 200, 3), dtype=np.uint8)
    with (
        pytest.raises(InputError, match=r"b\.png: cannot be written.*the 1 masks before"),
        open_sink(tmp_path / "o", 24.0, (200, 200)) as sink,
    ):
        sink.write("a", frame, noise // 255)
        with room(5000):
            sink.write("b", frame, noise)
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["a.png"]
    assert cv2.imread(str(tmp_path / "o" / "a.png")) is not None
