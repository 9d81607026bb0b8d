"""Read the paths that users write, and tell early where nothing can be written."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from vosmodels.errors import InputError, UsageError

LONGEST_NAME = 255  # bytes; the limit of the usual file systems


def expanded(path: Path | str) -> Path:
    """Replace a leading `~`, or `~NAME` of a user, by the home folder.

    Raises UsageError on a user without a home folder and on a NUL, which no path holds.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise UsageError(f"{text!r}: holds a NUL character, which no path can")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{text!r}: no home folder of {text.split('/')[0]!r} is known; write the whole path, "
            f"or ./{text} for a folder of that name"
        ) from None


def absolute(path: Path | str) -> Path:
    """Return the path from the root, `~` expanded. Raises UsageError as `expanded`."""
    return expanded(path).absolute()


def check_folder(folder: Path) -> None:
    """Check that files can be written into a folder, which need not exist; create nothing.

    Raises InputError that names the part of the path which is in the way.
    """
    place = folder.absolute()
    for name in place.parts:
        if len(os.fsencode(name)) > LONGEST_NAME:
            raise InputError(
                f"{folder}: {name[:40]!r}... is over {LONGEST_NAME} bytes; give a shorter name"
            )
    while not os.path.lexists(place):
        place = place.parent
    at = "" if place == folder.absolute() else f" in {place}"
    if not place.is_dir():
        what = "a file" if place.exists() else "a link to nothing"
        raise InputError(f"{folder}: {place} is {what}; give a folder, made or not")
    problem = None if os.access(place, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    if problem is None and os.statvfs(place).f_blocks == 0:  # /proc lets root in, and has no room
        try:
            Path(tempfile.mkdtemp(dir=place)).rmdir()
        except OSError as error:
            problem = str(error.strerror)
    if problem is not None:
        raise InputError(f"{folder}: cannot write{at} ({problem}); give another folder")
