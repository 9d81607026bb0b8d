"""Inspect the files of one video or still image; runs in any process."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vosmodels.data import davis, youtubevos
from vosmodels.data.images import header, read_frame
from vosmodels.data.listing import pictures, size_problem
from vosmodels.data.masks import MODES, object_ids, read_mask
from vosmodels.data.static_images import MASK_MODES, StaticImage
from vosmodels.data.youtubevos_meta import VideoMeta
from vosmodels.errors import InputError


@dataclass(frozen=True)
class Facts:
    """The counts and problems of one video or still image.

    frames, labelled: number of pictures and of masks; sizes: (H, W) of the pictures; objects:
    number of objects given; ids: ids in the masks that were read; only_first: a line of text if
    the first frame alone has a mask, which is a problem if other videos of the split have more.
    """

    frames: int = 0
    labelled: int = 0
    sizes: frozenset[tuple[int, int]] = frozenset()
    objects: int = 0
    ids: frozenset[int] = frozenset()
    problems: tuple[str, ...] = ()
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
        files = _video(self.images, self.masks, decode)
        first = next(iter(files.frames), "")
        ids = files.ids_of(first)
        only_first = ""
        if list(files.masks) == [first] and len(files.frames) > 1:
            only_first = f"{self.masks}: one mask for {len(files.frames)} frames, that of the first"
        else:
            files.problems += davis.sequence_problems(self.images, self.masks, files.pair_problem)
        for stem in files.masks:
            if stem not in files.frames and files.frames:
                files.problems.append(f"{files.masks[stem]}: mask without image in {self.images}")
        if ids is not None and not ids:
            files.problems.append(f"{files.masks[first]}: no object in the first mask")
        if self.length is not None and len(files.frames) not in (0, self.length):
            files.problems.append(
                f"{self.images}: {len(files.frames)} frames; videos of this set have {self.length}"
            )
        return files.facts(len(ids or ()), only_first)


@dataclass(frozen=True)
class YouTubeVosVideo:
    """A video and its entry in meta.json."""

    images: Path
    masks: Path
    meta: VideoMeta = field(hash=False)

    def look(self, decode: bool) -> Facts:
        files = _video(self.images, self.masks, decode)
        for stem in self.meta.begins.values():
            files.ids_of(stem)
        files.problems += youtubevos.sequence_problems(
            self.images, self.masks, self.meta, files.pair_problem
        )
        return files.facts(len(self.meta.frames))


@dataclass(frozen=True)
class StillImage:
    """An image with the mask of one object.

    Training skips an image whose mask is empty; `decode` reports such an image beforehand.
    """

    pair: StaticImage

    def look(self, decode: bool) -> Facts:
        image, mask = self.pair.image, self.pair.mask
        files = _Files(
            {image.stem: image},
            {image.stem: mask} if mask.is_file() else {},
            decode,
            lambda _: object_ids(self.pair.object_mask()),
            MASK_MODES,
        )
        problem = self.pair.problem(files.pair_problem)
        files.problems += [problem] if problem else []
        ids = files.ids_of(image.stem) if decode else None
        if ids is not None and not ids:
            files.problems.append(f"{mask}: no object in this mask; training passes over its image")
        return files.facts(len(ids or ()))


def _ids(path: Path) -> tuple[int, ...]:
    return object_ids(read_mask(path))


def _video(images: Path, masks: Path, decode: bool) -> _Files:
    frames = pictures(images) if images.is_dir() else {}
    return _Files(
        frames, {path.stem: path for path in sorted(masks.glob("*.png"))}, decode, _ids, MODES
    )


class _Files:
    """Pictures and masks by stem, each inspected once; the problems are in `problems`.

    read: returns the ids of a mask file, or raises InputError; modes: the Pillow modes that `read`
    accepts.
    """

    def __init__(
        self,
        frames: Mapping[str, Path],
        masks: Mapping[str, Path],
        decode: bool,
        read: Callable[[Path], tuple[int, ...]],
        modes: tuple[str, ...],
    ) -> None:
        self.frames = frames
        self.masks = masks
        self.problems: list[str] = []
        self._read = read
        self._modes = modes
        self._ids: dict[str, tuple[int, ...] | None] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}
        for path in self.frames.values():
            self._look_at_frame(path, decode)
        for stem, path in self.masks.items():
            self._look_at_mask(stem, path, decode)

    def pair_problem(self, image: Path, mask: Path) -> str | None:
        """Return the same as `listing.pair_problem`, from headers already read.

        A file whose header could not be read was reported then, so gives None here.
        """
        if image in self._sizes and mask in self._sizes:
            return size_problem(image, self._sizes[image], mask, self._sizes[mask])
        return None

    def ids_of(self, stem: str) -> tuple[int, ...] | None:
        """Return the ids of a frame's mask; None if it is missing or unreadable."""
        if stem in self.masks and stem not in self._ids:
            self._read_mask(stem, self.masks[stem])
        return self._ids.get(stem)

    def facts(self, objects: int, only_first: str = "") -> Facts:
        """Sum up the files; `objects` and `only_first` are fields of `Facts`."""
        return Facts(
            frames=len(self.frames),
            labelled=len(self.masks),
            sizes=frozenset(self._sizes[p] for p in self.frames.values() if p in self._sizes),
            objects=objects,
            ids=frozenset(i for ids in self._ids.values() for i in ids or ()),
            problems=tuple(dict.fromkeys(self.problems)),
            only_first=only_first,
        )

    def _look_at_frame(self, path: Path, decode: bool) -> None:
        try:
            head = header(path)
            self._sizes[path] = head.size
            if decode or not head.ends:
                _decode(path)
        except InputError as error:
            self.problems.append(str(error))

    def _look_at_mask(self, stem: str, path: Path, decode: bool) -> None:
        try:
            head = header(path)
        except InputError:  # the mask reader's own message is recorded instead
            self._read_mask(stem, path)
            return
        self._sizes[path] = head.size
        if decode or not head.ends or head.mode not in self._modes:
            self._read_mask(stem, path)

    def _read_mask(self, stem: str, path: Path) -> None:
        try:
            self._ids[stem] = self._read(path)
        except InputError as error:
            self.problems.append(str(error))
            self._ids[stem] = None


def _decode(path: Path) -> None:
    """Read a picture whole. Raises InputError also if the decoder warns on stderr."""
    with tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            read_frame(path)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        captured.seek(0)
        warning = " ".join(captured.read().decode(errors="replace").split())
    if warning:
        raise InputError(
            f"{path}: corrupt picture; it can be decoded, but its decoder says: {warning}"
        )
