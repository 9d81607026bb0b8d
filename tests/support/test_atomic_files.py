"""Test that files are written whole or not at all."""

import json
import os

import pytest

from tests.full_disk import room
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json, write_json, write_whole


def test_write_whole_makes_the_file_with_the_permissions_of_any_new_file(tmp_path):
    write_whole(tmp_path / "new", b"text")
    (tmp_path / "plain").write_bytes(b"text")
    assert (tmp_path / "new").read_bytes() == b"text"
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_write_whole_puts_the_content_on_disk_before_the_name(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def look(handle):
        synced.append((os.fstat(handle).st_size, (tmp_path / "new").exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", look)
    write_whole(tmp_path / "new", b"text")
    assert synced[0] == (4, False)
    assert [there for _, there in synced] == [False, True]  # the file, then the folder


def test_write_whole_leaves_the_old_file_and_nothing_else_when_the_disk_is_full(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with room(1000), pytest.raises(OSError, match="File too large"):
        write_whole(path, b"x" * 1001)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_comes_back_and_an_absent_file_is_none(tmp_path):
    path = tmp_path / "new" / "x.json"
    assert read_json(path) is None
    write_json(path, {"b": [1, None], "a": 0.1})
    assert read_json(path) == {"a": 0.1, "b": [1, None]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_what_was_there_stays_where_the_new_value_cannot_be_written(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {1, 2})
    assert json.loads(path.read_text()) == 1


@pytest.mark.parametrize("data", [b"", b'{"a": 1', bytes(40), b"\xff\xfe{", b"[" * 100_000])
def test_a_file_that_is_not_json_is_named_with_its_size(tmp_path, data):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"x\.json: {len(data)} bytes that are not JSON"):
        read_json(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"x\.json: cannot be read \(Is a directory\)"):
        read_json(path)
