"""Read the paths that users write: in a configuration and on a command line."""

from __future__ import annotations

import os
from pathlib import Path

from vosmodels.errors import UsageError


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
