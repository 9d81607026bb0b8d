"""Test how films and folders of pictures are read."""

import os
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.tiny_films import cut, patch, picture, read_film, write_film
from vosmodels.errors import InputError
from vosmodels.inference.edit_list import shown_part
from vosmodels.inference.video import open_video

TURNED = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # a quarter clockwise


def test_a_picture_is_named_by_its_stem_and_a_films_frame_by_its_number(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in ("00001.jpg", "00002.png", "00007.jpg"):
        cv2.imwrite(str(frames / name), picture(0))
    video = open_video(frames)
    assert [name for name, _ in video.frames] == ["00001", "00002", "00007"]
    assert (video.rate, video.size, video.shortage(3)) == (24.0, (48, 64), None)
    film = open_video(write_film(tmp_path / "a.mp4", 3, rate=12.5))
    names, read = zip(*film.frames, strict=True)
    assert names == ("00000", "00001", "00002")
    assert (film.rate, film.size, film.notes, film.shortage(3)) == (12.5, (48, 64), (), None)
    by_opencv, _ = read_film(tmp_path / "a.mp4")
    np.testing.assert_array_equal(read, [frame[..., ::-1] for frame in by_opencv])


@pytest.mark.parametrize("name", ["http:x.mp4", "a:b.mp4", "100%d.mp4", "-i é|.mp4"])
def test_a_name_is_no_address_and_no_pattern(tmp_path, monkeypatch, name):
    write_film(tmp_path / "a.mp4", 2).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len([*open_video((tmp_path / name).relative_to(tmp_path)).frames]) == 2


def test_a_cut_film_tells_how_many_frames_are_missing(tmp_path):
    path = write_film(tmp_path / "a.avi", 30, size=(120, 160))
    whole = open_video(path)
    assert whole.shortage(len([*whole.frames])) is None
    cut(path, 0.6)
    part = open_video(path)
    read = len([*part.frames])
    assert 10 < read < 25
    assert f"a.avi: {read} of the 30 frames that its header counts" in (part.shortage(read) or "")


def test_a_trimmed_film_is_whole(tmp_path):
    path = write_film(tmp_path / "a.mp4", 20)
    assert shown_part(path) == 1
    patch(path, b"elst", 8, ">I", 800 * 3 // 4)  # milliseconds that are shown
    assert shown_part(path) == 0.75
    film = open_video(path)
    read = len([*film.frames])
    assert read == 15
    assert film.shortage(read) is None
    assert "8 of the 20 frames" in (film.shortage(8) or "")


@pytest.mark.parametrize("data", [b"", b"\0" * 40, b"\0\0\0\1moov" + b"\xff" * 60, b"RIFF----AVI "])
def test_a_file_without_edit_list_shows_all(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    assert shown_part(path) == 1
    path.write_bytes(b"\0\0\0\1free" + b"\xff" * 8 + data)  # a box of 2^64 - 1 bytes
    assert shown_part(path) == 1


@pytest.mark.parametrize(("clock", "ticks"), [(60000, 1), (1, 20)])
def test_a_rate_that_is_none_is_taken_as_24_and_told(tmp_path, clock, ticks):
    path = write_film(tmp_path / "a.mp4", 3)
    patch(path, b"mdhd", 12, ">I", clock)
    patch(path, b"stts", 12, ">I", ticks)
    patch(path, b"elst", 8, ">I", 10**6)
    film = open_video(path)
    (note,) = film.notes
    assert "a.mp4: a rate of " in note
    assert note.endswith("taken as 24")
    assert film.rate == 24.0


def test_a_film_is_turned_as_its_header_says_and_so_is_its_size(tmp_path):
    path = write_film(tmp_path / "a.mp4", 2)
    patch(path, b"tkhd", 40, ">36s", TURNED)
    film = open_video(path)
    assert film.size == (64, 48)
    assert {frame.shape for _, frame in film.frames} == {(64, 48, 3)}


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "x.mp4").write_text("no film")
    cv2.imwrite(str(tmp_path / "x.jpg"), picture(0))
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("x.mp4", "cannot be opened"),
        ("x.jpg", "one picture; give the folder"),
        ("no.mp4", "no such video"),
        ("empty", "no pictures"),
    ):
        with pytest.raises(InputError, match=rf"{name}: .*{says}"):
            open_video(tmp_path / name)


def test_opencv_prints_nothing_where_a_film_cannot_be_made(tmp_path):
    """In a process of its own, as FFmpeg reads how much to print once."""
    code = (
        "import cv2, sys; from vosmodels.inference.video import quiet_opencv\n"
        "with quiet_opencv():\n"
        "    code = cv2.VideoWriter.fourcc(*'mp4v')\n"
        "    print(cv2.VideoWriter(sys.argv[1], code, 119.997, (64, 48)).isOpened())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "o.mp4")]
    level = "OPENCV_FFMPEG_LOGLEVEL"
    surroundings = {name: value for name, value in os.environ.items() if name != level}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=surroundings)
    assert (told.stdout, told.stderr) == ("False\n", "")
