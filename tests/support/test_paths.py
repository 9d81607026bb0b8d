"""Test the paths that users write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vosmodels.errors import InputError, UsageError
from vosmodels.support import paths

NOBODY = "~no-such-user"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_at_the_start_is_the_home_folder_and_elsewhere_a_character(home: Path):
    assert paths.expanded("~/a b") == home / "a b"
    assert paths.expanded(Path("~")) == home
    assert paths.expanded("a/~/b~") == Path("a/~/b~")


def test_an_unknown_user_is_named_with_a_way_to_mean_a_folder():
    with pytest.raises(UsageError, match=r"'~no-such-user/x': no home .*'~no-such-user'.*\./~no-"):
        paths.expanded(f"{NOBODY}/x")


def test_a_nul_is_refused_before_the_system_is_asked():
    with pytest.raises(UsageError, match="NUL"):
        paths.expanded("a\0b")


def test_an_absolute_path_starts_at_the_root(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(home)
    assert paths.absolute("x") == home / "x"
    assert paths.absolute("~/x") == home / "x"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch):
    """Take away the right to write, which root always has, below every folder named `locked`."""
    access = os.access

    def checked(path: Path, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).name == "locked")

    monkeypatch.setattr(os, "access", checked)


def test_a_folder_that_can_be_made_is_accepted_and_not_made(tmp_path: Path):
    paths.check_folder(tmp_path)
    paths.check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path: Path, reader: None):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "locked").mkdir()
    for name, problem in (
        ("file", "file is a file; give a folder"),
        ("file/a/b", "file is a file; give a folder"),
        ("link/a", "link is a link to nothing; give a folder"),
        ("locked", r"locked: cannot write \(Permission denied\)"),
        ("locked/a/b", r"cannot write in .*/locked \(Permission denied\)"),
        ("x" * 256, "'x+'... is over 255 bytes"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            paths.check_folder(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_file_system_that_keeps_no_files_is_seen_even_by_root():
    with pytest.raises(InputError, match="/proc/x: cannot write in /proc"):
        paths.check_folder(Path("/proc/x"))
