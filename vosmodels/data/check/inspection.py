"""Inspect the files of one video or still image; runs in any process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vosmodels.data import davis, youtubevos
from vosmodels.data.files import Files, video_files
from vosmodels.data.static_images import StaticImage, image_files
from vosmodels.data.youtubevos_meta import VideoMeta


@dataclass(frozen=True)
class Facts:
    """The counts and problems of one video or still image.

    frames, labelled: number of pictures and of masks; sizes: (H, W) of the pictures; objects:
    number of objects given; ids: ids in the masks that were read; notes: lines on what is used, but
    may not be what was meant; only_first: a line of text if masks only give the objects, which is
    a problem if other videos of the split have more.
    """

    frames: int = 0
    labelled: int = 0
    sizes: frozenset[tuple[int, int]] = frozenset()
    objects: int = 0
    ids: frozenset[int] = frozenset()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    only_first: str = ""


class Item(Protocol):
    """The files of one video or still image; items of the same files are equal."""

    def look(self, decode: bool) -> Facts:
        """Inspect headers, last bytes and the masks that give objects.

        decode: read every picture and mask whole.
        """
        ...


@dataclass(frozen=True)
class DavisVideo:
    """A video with a mask for every frame; `length` is the number of frames expected."""

    images: Path
    masks: Path
    length: int | None = None

    def look(self, decode: bool) -> Facts:
        files = video_files(self.images, self.masks, decode=decode)
        first = next(iter(files.frames), "")
        ids = files.ids_of(first)
        only_first = ""
        if files.frames and files.give_objects_alone():
            count = "one mask" if len(files.masks) == 1 else f"{len(files.masks)} masks"
            only_first = (
                f"{self.masks}: {count} for {len(files.frames)} frames, only where objects begin"
            )
        davis.judge(files, self.images, self.masks, labels=not only_first)
        if ids is not None and not ids:
            files.problems.append(f"{files.masks[first]}: no object in the first mask")
        if self.length is not None and len(files.frames) not in (0, self.length):
            files.problems.append(
                f"{self.images}: {len(files.frames)} frames; videos of this set have {self.length}"
            )
        return _facts(files, len(files.ids if only_first else ids or ()), only_first)


@dataclass(frozen=True)
class YouTubeVosVideo:
    """A video and its entry in meta.json."""

    images: Path
    masks: Path
    meta: VideoMeta = field(hash=False)

    def look(self, decode: bool) -> Facts:
        files = video_files(self.images, self.masks, decode=decode)
        youtubevos.judge(files, self.images, self.masks, self.meta)
        return _facts(files, len(self.meta.frames))


@dataclass(frozen=True)
class StillImage:
    """An image with the mask of one object.

    Training skips an image whose mask is empty; `decode` reports such an image beforehand.
    """

    pair: StaticImage

    def look(self, decode: bool) -> Facts:
        files = image_files(self.pair, decode=decode)
        ids = files.ids_of(self.pair.image.stem) if decode else None
        if ids is not None and not ids:
            files.problems.append(
                f"{self.pair.mask}: no object in this mask; training passes over its image"
            )
        return _facts(files, len(ids or ()))


def _facts(files: Files, objects: int, only_first: str = "") -> Facts:
    """Sum up the files; `objects` and `only_first` are fields of `Facts`."""
    return Facts(
        frames=len(files.frames),
        labelled=len(files.masks),
        sizes=files.sizes,
        objects=objects,
        ids=files.ids,
        problems=tuple(dict.fromkeys(files.problems)),
        notes=tuple(files.notes),
        only_first=only_first,
    )
