"""List the pictures and masks of a dataset folder, in the order of their numbers."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vosmodels.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_SUFFIXES = (".png",)
OTHER_PICTURES = (".tif", ".tiff", ".bmp", ".webp", ".heic", ".heif", ".avif", ".jp2", ".ppm")
# Folders and files that an operating system adds and does not hide by a dot.
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"})
_NUMBER = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[object, ...]:
    """Return the sort key that puts 7 before 10: numbers in a name compare as numbers.

    Names of equal width sort as text does. `name` itself ends the key, so that 1 and 01 differ.
    """
    parts = _NUMBER.split(name)  # text, number, text, ..., text
    return (*((int(p), "") if n % 2 else (-1, p) for n, p in enumerate(parts)), (-1, name))


def is_hidden(name: str) -> bool:
    """Return True for a file or folder that an operating system or an editor leaves behind."""
    return name.startswith(".") or name.lower() in _SYSTEM


def visible(folder: Path) -> list[Path]:
    """Return the files and folders in `folder` in natural order of stems, without hidden ones.

    Where there is no folder, there is nothing. Raises InputError on a folder that cannot be read.
    """
    try:
        paths = [path for path in folder.iterdir() if not is_hidden(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted(paths, key=lambda path: (natural_key(path.stem), path.name))


def pictures(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Return the folder's pictures by file stem, in natural order.

    Raises InputError if two pictures have one stem, as a frame and a mask in the same folder.
    """
    found: dict[str, Path] = {}
    twice = []
    for path in visible(folder):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in found:
            twice.append(f"{found[path.stem].name} and {path.name}")
        else:
            found[path.stem] = path
    if twice:
        more = f" and {len(twice) - 1} more such pairs" if len(twice) > 1 else ""
        raise InputError(
            f"{folder}: {twice[0]}{more}: two pictures of one name; keep one of them there "
            "(a mask lies in a folder of its own)"
        )
    return found


def is_mask(path: Path) -> bool:
    """Return True for a file with a mask's suffix, in any case."""
    return path.suffix.lower() in MASK_SUFFIXES


def masks_in(folder: Path) -> dict[str, Path]:
    """Return the folder's masks by file stem. Raises InputError as `pictures`."""
    return pictures(folder, MASK_SUFFIXES)


def order_notes(folder: Path, stems: Sequence[str]) -> Iterator[str]:
    """Yield a line for names of several kinds, mixed widths and gaps in `stems`, in natural order.

    A set that keeps every fifth frame has no gap: a gap is wider than the commonest step.
    """
    parts = [_NUMBER.split(stem) for stem in stems]
    digits = [part[-2] if len(part) > 1 else "" for part in parts]
    if len(stems) < 2:
        return
    kinds = list(dict.fromkeys(("".join(part[:-2]), part[-1]) for part in parts if len(part) > 1))
    if len(kinds) > 1 or (any(digits) and not all(digits)):
        yield (
            f"{folder}: names of several kinds, read in the order {', '.join(stems[:4])}"
            f"{', ...' if len(stems) > 4 else ''}; {stems[0]} is taken for the first frame"
        )
    if len(kinds) > 1 or not all(digits):
        return
    widths = sorted({len(number) for number in digits})
    if len(widths) > 1 and any(number.startswith("0") and len(number) > 1 for number in digits):
        yield (
            f"{folder}: numbers of {' and '.join(map(str, widths))} digits, of which some are "
            f"padded ({stems[0]} ... {stems[-1]}); read in the order of the numbers"
        )
    elif len(widths) > 1:
        yield (
            f"{folder}: numbers without zeros in front ({stems[0]} ... {stems[-1]}); read in the "
            "order of the numbers, where a list by name has another order"
        )
    numbers = [int(number) for number in digits]
    steps = [later - earlier for earlier, later in itertools.pairwise(numbers)]
    usual = max(set(steps), key=lambda step: (steps.count(step), -step))
    gaps = [n for n, step in enumerate(steps) if step > usual]
    if gaps:
        more = f", and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        yield (
            f"{folder}: no frame between {stems[gaps[0]]} and {stems[gaps[0] + 1]}{more}; "
            "frames are followed from one file to the next"
        )


def unread_pictures(folder: Path) -> list[str]:
    """Return the names of the folder's pictures in formats that are not read, in natural order."""
    return [path.name for path in visible(folder) if path.suffix.lower() in OTHER_PICTURES]


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, ascending; none if it is absent.

    Hidden folders are left out.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # no stat call for each of BL30K's 30,000 videos
        return sorted(e.name for e in entries if not is_hidden(e.name) and e.is_dir())


def listing(folder: Path) -> str:
    """Return the first eight names in a folder, for an error message."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
