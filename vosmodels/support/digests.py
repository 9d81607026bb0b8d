"""Check that files can be read and have the sha256 that was recorded of them."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

from vosmodels.errors import Absent, InputError

SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 12  # hex digits of a sha256 that a message shows


def sha256_of(source: Path | bytes) -> str:
    """Return the sha256 of a file, or of bytes. Raises InputError on an unreadable file."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error


def check_file(path: Path, remedy: str) -> None:
    """Raise Absent where nothing lies at `path`, InputError where no readable file does.

    remedy: what to do then.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError):
        raise Absent(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise InputError(f"{path}: is {kind}; {remedy}")
    if empty:
        raise InputError(f"{path}: empty, 0 bytes; {remedy}")


def check_sha256(
    path: Path,
    expected: str,
    remedy: str = "delete it and fetch or train it again",
    *,
    named_in: str = "the one it was recorded with",
) -> None:
    """Raise InputError where a file's sha256 does not start with `expected`.

    expected: the whole sha256, or its first digits where no more is known; remedy: what to do with
    such a file; named_in: where `expected` comes from, for the message.
    """
    actual = sha256_of(path)
    if not expected or not actual.startswith(expected):
        raise InputError(
            f"{path}: corrupt: its sha256 is {actual[:_SHOWN]}..., not {expected[:_SHOWN]}..., "
            f"{named_in}; {remedy}"
        )


def check_name(path: Path) -> None:
    """Raise InputError where a file is named by a sha256 that is not its own."""
    if SHA256.fullmatch(path.stem):
        check_sha256(path, path.stem, named_in="the one it is named by")
