"""Describe videos whose masks only give their objects: those that a teacher labels."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from vosmodels.errors import InputError
from vosmodels.types import ScoredVideo


class GivenVideo(ScoredVideo, Protocol):
    """A video of a dataset with the masks in which its objects begin, and no others."""

    @property
    def images(self) -> Sequence[Path]:
        """Return the pictures, in order."""
        ...

    @property
    def masks(self) -> Mapping[int, Path]:
        """Return the mask files by frame number; frame 0 has one."""
        ...

    @property
    def merge(self) -> bool:
        """Return True if all ids of a mask are one object."""
        ...


def fingerprint(video: GivenVideo, layout: str) -> str:
    """Digest a video: 32 hex digits.

    Covers names and sizes of the pictures, the content of the masks, and where objects begin; not
    the masks of other frames, and not where the folder lies. layout: how the masks are read, such
    as "davis 2016". Raises InputError on a file that cannot be read.
    """
    digest = hashlib.blake2b(f"{layout} {video.name}".encode(), digest_size=16)
    try:
        for image in video.images:
            digest.update(f"\n{image.name} {image.stat().st_size}".encode())
        for number, mask in sorted(video.masks.items()):
            content = hashlib.blake2b(mask.read_bytes(), digest_size=16).hexdigest()
            digest.update(f"\n{number} {content}".encode())
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    digest.update(f"\n{sorted(video.begins.items())}".encode())
    return digest.hexdigest()


def picture_gap(video: GivenVideo) -> int:
    """Return the frames from one picture to the next, as the numbers in the names say; 1 if none.

    YouTube-VOS names pictures by their frame of the 30 fps video, of which some splits keep every
    fifth.
    """
    numbers = [int(image.stem) for image in video.images if image.stem.isdecimal()]
    if len(numbers) < len(video.images):
        return 1
    return max(1, min((b - a for a, b in itertools.pairwise(numbers)), default=1))
