"""What readers of dataset folders share: pictures by file stem, and how problems are told."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from vosmodels.data.images import IMAGE_SUFFIXES, image_size
from vosmodels.errors import InputError

PairProblem = Callable[[Path, Path], str | None]  # of an image and its mask

_PROBLEMS_SHOWN = 10  # in one message


def pictures(folder: Path) -> dict[str, Path]:
    """The folder's pictures by file stem, ascending."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    return {path.stem: path for path in sorted(found)}


def pair_problem(image: Path, mask: Path) -> str | None:
    """What is wrong with the sizes that the headers of an image and its mask declare."""
    try:
        return size_problem(image, image_size(image), mask, image_size(mask))
    except InputError as error:
        return str(error)


def size_problem(
    image: Path, of_image: tuple[int, int], mask: Path, of_mask: tuple[int, int]
) -> str | None:
    """That a mask of one size (H, W) has an image of another; None where they agree."""
    if of_image == of_mask:
        return None
    return (
        f"{mask}: mask of {of_mask[1]}x{of_mask[0]} pixels for an image of "
        f"{of_image[1]}x{of_image[0]} ({image.name})"
    )


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, ascending; none where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # one look for each of BL30K's 30,000 videos
        return sorted(entry.name for entry in entries if entry.is_dir())


def together(head: str, problems: list[str]) -> str:
    """One line of all problems; the first ten in words."""
    more = len(problems) - _PROBLEMS_SHOWN
    shown = problems[:_PROBLEMS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return f"{head}: {'; '.join(shown)}"


def near(word: str, known: Iterable[str]) -> str:
    """End a message with the nearest known word: `; did you mean 'x'?`, or with nothing."""
    match = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def listing(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
