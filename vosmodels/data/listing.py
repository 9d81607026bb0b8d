"""List the pictures of a dataset folder, and word problems with its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from vosmodels.data.images import IMAGE_SUFFIXES, image_size
from vosmodels.errors import InputError

PairProblem = Callable[[Path, Path], str | None]  # (image, mask) -> the problem, if any


def pictures(folder: Path) -> dict[str, Path]:
    """Return the folder's pictures by file stem, ascending."""
    paths = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    return {path.stem: path for path in sorted(paths)}


def pair_problem(image: Path, mask: Path) -> str | None:
    """Compare the sizes of an image and its mask from their headers.

    Returns the problem (other sizes, or a header that cannot be read), or None.
    """
    try:
        return size_problem(image, image_size(image), mask, image_size(mask))
    except InputError as error:
        return str(error)


def size_problem(
    image: Path, of_image: tuple[int, int], mask: Path, of_mask: tuple[int, int]
) -> str | None:
    """Compare the sizes (H, W) of an image and its mask; return the problem, or None."""
    if of_image == of_mask:
        return None
    return (
        f"{mask}: mask of {of_mask[1]}x{of_mask[0]} pixels for an image of "
        f"{of_image[1]}x{of_image[0]} ({image.name})"
    )


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, ascending; none if it is absent."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # no stat call for each of BL30K's 30,000 videos
        return sorted(entry.name for entry in entries if entry.is_dir())


def listing(folder: Path) -> str:
    """Return the first eight names in a folder, for an error message."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
