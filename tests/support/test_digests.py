"""Test that a file is compared with the sha256 recorded of it."""

import hashlib
import os
from pathlib import Path

import pytest

from vosmodels.errors import InputError
from vosmodels.support.digests import check_file, check_name, check_sha256, sha256_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(b"weights" * 100_000)
    return path


def test_a_files_sha256_is_that_of_its_bytes(file: Path):
    expected = hashlib.sha256(b"weights" * 100_000).hexdigest()
    assert sha256_of(file) == sha256_of(file.read_bytes()) == expected
    check_sha256(file, expected)
    check_sha256(file, expected[:8])


def test_a_file_that_differs_in_one_bit_is_corrupt(file: Path):
    expected = sha256_of(file)
    data = bytearray(file.read_bytes())
    data[1234] ^= 16
    file.write_bytes(data)
    for digits in (expected, expected[:8]):
        with pytest.raises(
            InputError, match=rf"{file}: corrupt: .* {digits[:12]}\.\.\., the .*; mend"
        ):
            check_sha256(file, digits, "mend it", named_in="the label")
    with pytest.raises(InputError, match="corrupt"):
        check_sha256(file, "")  # a record without digits is no record


def test_a_file_named_by_a_sha256_must_be_of_that_name(file: Path):
    check_name(file)  # no sha256
    named = file.rename(file.with_name(f"{sha256_of(file)}.bin"))
    check_name(named)
    other = named.rename(file.with_name(f"{'0' * 64}.bin"))
    with pytest.raises(InputError, match="not 000000000000"):
        check_name(other)


def test_what_is_no_readable_file_is_told_by_its_kind(file: Path, tmp_path: Path):
    check_file(file, "give another")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (
        ("nowhere", "no such file"),
        ("dangling", "no such file"),
        ("a.bin/below", "no such file"),
        (".", "is a folder"),
        ("pipe", "is no regular file"),
        ("empty", "empty, 0 bytes"),
        ("n" * 300, r"cannot be read \(File name too long\)"),
    ):
        with pytest.raises(InputError, match=rf"{tmp_path / name}: {says}; give another"):
            check_file(tmp_path / name, "give another")


def test_a_file_that_may_not_be_read_is_told_so(file: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    for read in (lambda: check_file(file, "give another"), lambda: sha256_of(file)):
        with pytest.raises(InputError, match=rf"{file}: cannot be read \(Permission denied\)"):
            read()
