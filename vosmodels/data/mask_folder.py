"""Read the masks that some tracker made of whole videos: DIR/VIDEO/FRAME.png.

A frame's mask has the stem of its picture, as in the official layouts and as `segment` and
`evaluate` write them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vosmodels.data.files import video_files
from vosmodels.data.given import GivenVideo
from vosmodels.data.listing import listing, masks_in
from vosmodels.data.masks import read_mask
from vosmodels.data.teacher_masks import CERTAIN
from vosmodels.errors import Absent, InputError
from vosmodels.types import U8


@dataclass(frozen=True)
class MaskFolder:
    """A folder with a folder of masks for each video."""

    root: Path

    def of(self, video: GivenVideo) -> FolderMasks:
        """Return the masks of a video. Raises InputError on two masks of one frame."""
        return FolderMasks(video, masks_in(self.root / video.name))

    def problems(self, videos: Iterable[GivenVideo]) -> dict[str, list[str]]:
        """Return what keeps the masks of videos from being labels, by name, a line each.

        A mask is missing, cannot be read, has another size than its picture, or shows an object
        that no given mask of the dataset has shown by then. Masks of given frames are not read
        where they are the first's. Reads every mask. Raises Absent where there is no such folder.
        """
        if not self.root.is_dir():
            raise Absent(f"{self.root}: no such folder; give the folder of VIDEO/FRAME.png")
        found = {video.name: list(self._problems(video)) for video in videos}
        return {name: lines for name, lines in found.items() if lines}

    def _problems(self, video: GivenVideo) -> Iterator[str]:
        folder = self.root / video.name
        if not folder.is_dir():
            yield f"{folder}: no such folder; the folder of masks holds {listing(self.root)}"
            return
        files = video_files(video.images[0].parent, folder)
        yield from files.problems
        for number, image in enumerate(video.images):
            if number == 0:  # given
                continue
            if image.stem not in files.masks:
                yield f"{folder / image.stem}.png: no such mask, for the frame {image}"
                continue
            if problem := files.pair_problem(image.stem):
                yield problem
            ids = set(files.ids_of(image.stem) or ())
            begun = {i for i, first in video.begins.items() if first <= number}
            if not video.merge and (unknown := sorted(ids - begun)):
                yield (
                    f"{files.masks[image.stem]}: ids {', '.join(map(str, unknown[:8]))}, of which "
                    f"no given mask of {video.name} has an object by then; there are "
                    f"{', '.join(map(str, sorted(begun)))}"
                )

    def fingerprint(self, videos: Iterable[GivenVideo]) -> str:
        """Digest the content of the videos' masks after the first frame: 32 hex digits.

        Raises InputError on a file that cannot be read.
        """
        digest = hashlib.blake2b(digest_size=16)
        for video in videos:
            masks = masks_in(self.root / video.name)
            for image in video.images[1:]:
                path = masks.get(image.stem)
                try:
                    content = path.read_bytes() if path else b""
                except OSError as error:
                    raise InputError(f"{path}: cannot be read ({error.strerror})") from error
                entry = hashlib.blake2b(content, digest_size=16).hexdigest()
                digest.update(f"\n{video.name} {image.stem} {entry}".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class FolderMasks:
    """The masks of a video, with the objects that the dataset gives laid over them.

    masks: files by the stem of their frame.
    """

    video: GivenVideo
    masks: dict[str, Path]

    def ids(self, index: int) -> U8:
        """Read the ids of frame `index`, (H, W) uint8. Raises InputError on a corrupt file."""
        new = [i for i, first in self.video.begins.items() if first == index]
        given = self.video.mask(index) if new else None
        if index == 0 and given is not None:
            return given
        path = self.masks[self.video.images[index].stem]
        ids = read_mask(path, merge=self.video.merge)
        if given is None:
            return ids
        return np.where(np.isin(given, new), given, ids)

    def labels(self, index: int, threshold: float) -> U8:
        """Read the ids of frame `index`, all of them certain, as `ids` does."""
        return self.ids(index)

    def probability(self, index: int, number: int) -> U8:
        """Return 255 where a frame's mask shows the object, else 0."""
        return np.where(self.ids(index) == number, np.uint8(CERTAIN), np.uint8(0))
