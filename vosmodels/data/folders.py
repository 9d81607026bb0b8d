"""What readers of dataset folders share: pictures by file stem, and how problems are told."""

from __future__ import annotations

from pathlib import Path

from vosmodels.data.images import IMAGE_SUFFIXES, image_size
from vosmodels.types import InputError

_PROBLEMS_SHOWN = 10  # in one message


def pictures(folder: Path) -> dict[str, Path]:
    """The folder's pictures by file stem, ascending."""
    found = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    return {path.stem: path for path in sorted(found)}


def pair_problem(image: Path, mask: Path) -> str | None:
    """What is wrong with the sizes that the headers of an image and its mask declare."""
    try:
        of_image, of_mask = image_size(image), image_size(mask)
    except InputError as error:
        return str(error)
    if of_image == of_mask:
        return None
    return (
        f"{mask}: mask of {of_mask[1]}x{of_mask[0]} pixels for an image of "
        f"{of_image[1]}x{of_image[0]} ({image.name})"
    )


def together(head: str, problems: list[str]) -> str:
    """One line of all problems; the first ten in words."""
    more = len(problems) - _PROBLEMS_SHOWN
    shown = problems[:_PROBLEMS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return f"{head}: {'; '.join(shown)}"


def listing(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
