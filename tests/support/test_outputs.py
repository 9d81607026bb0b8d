"""Test that no output replaces an input or an earlier answer."""

import os

import pytest

from vosmodels.errors import InputError, UsageError
from vosmodels.support.outputs import check_output, is_film


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("film")
    return path


@pytest.fixture
def frames(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.jpg").write_text("picture")
    return tmp_path / "frames"


def check(out, *, folder=False, overwrite=True, **inputs):
    given = {f"--{name}": path for name, path in inputs.items()}
    check_output(out, given, folder=folder, overwrite=overwrite)


def test_an_input_is_no_output_however_it_is_spelled(film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "soft.mp4").symlink_to(film)
    os.link(film, tmp_path / "hard.mp4")
    (tmp_path / "door").symlink_to(tmp_path)
    for out in ("a.mp4", "soft.mp4", "hard.mp4", "x/../a.mp4", "door/a.mp4", "./a.mp4"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=r"^--out .*: the same as --video .*a\.mp4"):
            check(tmp_path / out, video=film)
    with pytest.raises(UsageError, match="the same as --mask"):
        check(film, video=tmp_path / "other", mask=film)


def test_an_output_is_neither_in_an_input_folder_nor_around_an_input(frames, tmp_path):
    (tmp_path / "door").symlink_to(frames)
    for out in (frames, tmp_path / "door"):
        with pytest.raises(UsageError, match="the same as --video"):
            check(out, folder=True, video=frames)
    for out in (frames / "o", tmp_path / "door" / "new" / "o"):
        with pytest.raises(UsageError, match="inside --video"):
            check(out, folder=True, video=frames)
    with pytest.raises(UsageError, match="the folder that holds --mask"):
        check(frames, folder=True, mask=frames / "0.jpg")
    with pytest.raises(UsageError, match="the folder that holds --video"):
        check(tmp_path, folder=True, video=frames)
    check(tmp_path / "beside", folder=True, video=frames)
    check(tmp_path / "beside.mp4", video=frames)


def test_what_exists_is_replaced_only_when_asked_for(film, frames, tmp_path):
    for out, folder, says in ((film, False, "exists already"), (frames, True, r"1 file .*0\.jpg")):
        with pytest.raises(InputError, match=rf"{says}.*--overwrite"):
            check(out, folder=folder, overwrite=False)
        check(out, folder=folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    check(tmp_path / "empty", folder=True, overwrite=False)


def test_a_place_of_the_wrong_kind_is_refused_even_with_overwrite(film, frames, tmp_path):
    with pytest.raises(InputError, match="a file is there, and a folder is to be written"):
        check(film, folder=True)
    with pytest.raises(InputError, match="a folder is there, and a file is to be written"):
        check(frames)
    with pytest.raises(InputError, match=r"a\.mp4"):
        check(film / "below" / "o.mp4")
    with pytest.raises(InputError, match="cannot be written"):
        check(tmp_path / ("x" * 300))


def test_a_folder_without_the_right_to_write_is_named(frames, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(frames))
    with pytest.raises(InputError, match=f"no right to write in {frames}"):
        check(frames / "new" / "o.mp4")


def test_a_suffix_says_what_is_written(tmp_path):
    for name in ("o.mp4", "o.MOV", "o.avi"):
        assert is_film(tmp_path / name)
    for name in ("masks", "masks.v2", "2024-11.30", ".hidden"):
        assert not is_film(tmp_path / name)
    for name in ("o.mkv", "o.webm", "o.gif", "o.png", "o.zip", "o.JPG", "o.safetensors", "o.txt"):
        with pytest.raises(UsageError, match=rf"{name}: no \.\w+ is written.*\.mp4, \.mov, \.avi"):
            is_film(tmp_path / name)
    (tmp_path / "set.gif").mkdir()
    assert not is_film(tmp_path / "set.gif")
