"""Test the paths that users write."""

from __future__ import annotations

from pathlib import Path

import pytest

from vosmodels.errors import UsageError
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
