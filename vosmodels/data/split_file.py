"""Read a split that is given as a text file of video names, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vosmodels.errors import InputError
from vosmodels.support.messages import near, together

SUFFIX = ".txt"


def is_file(split: str) -> bool:
    """Tell a split file from the name of a split: a file ends in .txt."""
    return split.endswith(SUFFIX)


def label(split: str) -> str:
    """Name a split in a few words: a file by its name without folder and suffix."""
    return Path(split).stem if is_file(split) else split


def absolute(split: str) -> str:
    """Spell a split in one way: a file by its absolute path, a name as it is."""
    return str(Path(split).expanduser().resolve()) if is_file(split) else split


def read(path: Path, videos: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Read the names in a split file, in order, each once; blank lines are skipped.

    videos: the names that `folder` holds. A relative `path` is below the working directory.
    Raises InputError: no such file, a file without names, every line that names no video.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read as a split ({getattr(error, 'strerror', None) or error}); "
            "give a text file of video names, one a line"
        ) from None
    names = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    if not names:
        raise InputError(f"{path}: names no video; write one name a line")
    present = frozenset(videos)
    problems = [
        f"line {number}: no video {name!r} in {folder}{near(name, videos)}"
        for number, name in names.items()
        if name not in present
    ]
    if problems:
        raise InputError(together(str(path), problems))
    return tuple(dict.fromkeys(names.values()))
