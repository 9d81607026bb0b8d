"""Read a split that is given as a text file of video names, one a line."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from vosmodels.data.listing import IMAGE_SUFFIXES
from vosmodels.errors import InputError
from vosmodels.support.messages import near, together
from vosmodels.support.paths import expanded

SUFFIX = ".txt"
COMMENT = "#"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PATH = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))(?:\s|$)", re.IGNORECASE)


def is_file(split: str) -> bool:
    """Tell a split file from the name of a split: a file ends in .txt."""
    return split.endswith(SUFFIX)


def label(split: str) -> str:
    """Name a split in a few words: a file by its name without folder and suffix."""
    return Path(split).stem if is_file(split) else split


def absolute(split: str) -> str:
    """Spell a split in one way: a file by its absolute path, a name as it is."""
    return str(expanded(split).resolve()) if is_file(split) else split


def read(path: Path, videos: Sequence[str], folder: Path) -> tuple[str, ...]:
    """Read the names in a split file, in order, each once, as `read_names` does.

    videos: the names that `folder` holds. A relative `path` is below the working directory.
    Raises InputError: no such file, a file without names, every line that names no video.
    """
    present = frozenset(videos)
    names = read_names(path, present)
    if not names:
        raise InputError(f"{path}: names no video; write one name a line")
    problems = [
        f"line {number}: no video {name!r} in {folder}{near(name, videos)}"
        for number, name in names.items()
        if name not in present
    ]
    if problems:
        raise InputError(together(str(path), problems))
    return tuple(dict.fromkeys(names.values()))


def read_names(path: Path, videos: Collection[str]) -> dict[int, str]:
    """Read the video named on each line of a list, by line number, whether it exists or not.

    A line is a name, which may have spaces, or a pair of paths as DAVIS-2016 has it,
    "/JPEGImages/480p/NAME/00000.jpg /Annotations/480p/NAME/00000.png". Blank lines, lines that
    begin with # and what follows a name after # are skipped, unless `videos` has such a name.
    The text is UTF-8, or UTF-16 with its byte order mark. Raises InputError on other bytes.
    """
    names = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        name = _name_on(line.strip(), videos)
        if name:
            names[number] = name
    return names


def _name_on(line: str, videos: Collection[str]) -> str:
    if line in videos:
        return line
    line = re.split(rf"(?:^|\s){COMMENT}", line, maxsplit=1)[0].strip()
    if line in videos:
        return line
    if "/" in line:
        match = _PATH.match(line)
        return Path(match[1] if match else line.split()[0]).parent.name
    first = line.split(maxsplit=1)[:1]
    return first[0] if first and first[0] in videos else line  # a name, then other columns


def _text(path: Path) -> str:
    """Read a list as text. Raises InputError that names the line of bytes that are no text."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise InputError(
            f"{path}: cannot be read as a split ({getattr(error, 'strerror', None) or error}); "
            "give a text file of video names, one a line"
        ) from None
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: cannot be read as a split, as the bytes "
            f"{data[error.start : error.end]!r} are not {encoding.removesuffix('-sig').upper()}; "
            "save the list as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(
            f"{path}: line {line}: cannot be read as a split, as it has NUL bytes; "
            "save the list as UTF-8"
        )
    return text
