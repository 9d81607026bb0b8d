"""What a dataset folder holds and what is wrong with it: every set, split and video, in one pass.

`open_folder` knows the layouts: each is listed by its own reader, into splits of videos that can be
looked at one by one, in any process.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vosmodels.data import davis, offline, youtubevos
from vosmodels.data.davis import DavisDataset
from vosmodels.data.folders import folders_in, listing, pictures, size_problem
from vosmodels.data.images import header, read_frame
from vosmodels.data.masks import MODES, object_ids, read_mask
from vosmodels.data.meta import META, VideoMeta
from vosmodels.data.youtubevos import YouTubeVosDataset
from vosmodels.types import InputError

BL30K_FRAMES = 160  # of every video

# As the sets' own pages have it; whatever else lies the same way has its own terms.
LICENCES = {
    "DAVIS": "CC BY-NC 4.0, if these are DAVIS's videos (davischallenge.org)",
    "YouTube-VOS": "non-commercial research; its terms: youtube-vos.org/dataset/term",
    "BL30K": "its page states none (github.com/hkchengrex/MiVOS); rendered from ShapeNet's models, "
    "which have terms of their own, and from pictures found on the web",
}
UNKNOWN_LICENCE = "not told by the files: see the set's own page"


@dataclass(frozen=True)
class Facts:
    """What one video holds.

    sizes: (H, W) of its pictures; objects: how many are given; ids: those of the masks that were
    read; only_first: where no frame but the first has a mask, the line that says so: a problem if
    the other videos of its split have more.
    """

    frames: int = 0
    labelled: int = 0
    sizes: frozenset[tuple[int, int]] = frozenset()
    objects: int = 0
    ids: frozenset[int] = frozenset()
    problems: tuple[str, ...] = ()
    only_first: str = ""


class Video(Protocol):
    """Files that belong together; equal where they are the same files."""

    def look(self, decode: bool) -> Facts:
        """Headers and last bytes, and the masks that give objects; `decode` reads every picture."""
        ...


@dataclass(frozen=True)
class Folder:
    """A dataset folder, listed: its videos by split, and what is wrong with the lists.

    merged: splits whose ids are all one object.
    """

    name: str
    splits: Mapping[str, tuple[Video, ...]]
    problems: tuple[str, ...] = ()
    merged: frozenset[str] = frozenset()

    @property
    def licence(self) -> str:
        return LICENCES.get(self.name, UNKNOWN_LICENCE)


def open_folder(root: Path) -> Folder:
    """The folder's lists. Raises InputError where it is of no layout known here."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the root of a dataset")
    if YouTubeVosDataset.recognises(root):
        return _youtubevos(root)
    if (root / "JPEGImages").is_dir():
        return _davis(root)
    raise InputError(
        f"{root}: no dataset known here; looked for JPEGImages and Annotations (DAVIS, BL30K), "
        f"SPLIT/{META} (YouTube-VOS); found {listing(root)}"
    )


@dataclass(frozen=True)
class DavisVideo:
    """A video with a mask for every frame; `length` is how many frames it should have."""

    images: Path
    masks: Path
    length: int | None = None

    def look(self, decode: bool) -> Facts:
        files = _Files(self.images, self.masks, decode)
        first = next(iter(files.frames), "")
        given = files.ids_of(first)
        only_first = ""
        if list(files.masks) == [first] and len(files.frames) > 1:
            only_first = f"{self.masks}: one mask for {len(files.frames)} frames, that of the first"
        else:
            files.problems += davis.sequence_problems(self.images, self.masks, files.pair_problem)
        for stem in files.masks:
            if stem not in files.frames and files.frames:
                files.problems.append(f"{files.masks[stem]}: mask without image in {self.images}")
        if given is not None and not given:
            files.problems.append(f"{files.masks[first]}: no object in the first mask")
        if self.length is not None and len(files.frames) not in (0, self.length):
            files.problems.append(
                f"{self.images}: {len(files.frames)} frames; videos of this set have {self.length}"
            )
        return files.facts(len(given or ()), only_first)


@dataclass(frozen=True)
class YouTubeVosVideo:
    """A video and what meta.json says of it."""

    images: Path
    masks: Path
    meta: VideoMeta = field(hash=False)

    def look(self, decode: bool) -> Facts:
        files = _Files(self.images, self.masks, decode)
        for stem in self.meta.begins.values():
            files.ids_of(stem)
        files.problems += youtubevos.sequence_problems(
            self.images, self.masks, self.meta, files.pair_problem
        )
        return files.facts(len(self.meta.frames))


class _Files:
    """Pictures and masks of a video, each looked at once; what is wrong gathers in `problems`."""

    def __init__(self, images: Path, masks: Path, decode: bool) -> None:
        self.frames = pictures(images) if images.is_dir() else {}
        self.masks = {path.stem: path for path in sorted(masks.glob("*.png"))}
        self.problems: list[str] = []
        self._ids: dict[str, tuple[int, ...] | None] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}
        for path in self.frames.values():
            self._look_at_frame(path, decode)
        for stem, path in self.masks.items():
            self._look_at_mask(stem, path, decode)

    def pair_problem(self, image: Path, mask: Path) -> str | None:
        """As `folders.pair_problem`, of what was seen; what has no header has been told."""
        if image in self._sizes and mask in self._sizes:
            return size_problem(image, self._sizes[image], mask, self._sizes[mask])
        return None

    def ids_of(self, stem: str) -> tuple[int, ...] | None:
        """Ids of a frame's mask; None where there is none that can be read."""
        if stem in self.masks and stem not in self._ids:
            self._read_mask(stem, self.masks[stem])
        return self._ids.get(stem)

    def facts(self, objects: int, only_first: str = "") -> Facts:
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
            seen = header(path)
            self._sizes[path] = seen.size
            if decode or not seen.ends:
                _decode(path)
        except InputError as error:
            self.problems.append(str(error))

    def _look_at_mask(self, stem: str, path: Path, decode: bool) -> None:
        try:
            seen = header(path)
        except InputError:  # told in the reader's words
            self._read_mask(stem, path)
            return
        self._sizes[path] = seen.size
        if decode or not seen.ends or seen.mode not in MODES:
            self._read_mask(stem, path)

    def _read_mask(self, stem: str, path: Path) -> None:
        try:
            self._ids[stem] = object_ids(read_mask(path))
        except InputError as error:
            self.problems.append(str(error))
            self._ids[stem] = None


def _decode(path: Path) -> None:
    """Read a picture; InputError also where the decoder only grumbles, which it does on stderr."""
    with tempfile.TemporaryFile() as said:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            read_frame(path)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        said.seek(0)
        words = " ".join(said.read().decode(errors="replace").split())
    if words:
        raise InputError(
            f"{path}: corrupt picture; it can be decoded, but its decoder says: {words}"
        )


def _davis(root: Path) -> Folder:
    lists = root / "ImageSets"
    years: list[davis.Year] = []
    if any((lists / name).is_dir() for name in ("2016", "480p")):
        years.append(2016)
    if (lists / "2017").is_dir() or not years:
        years.append(2017)
    splits: dict[str, tuple[Video, ...]] = {}
    problems: list[str] = []
    listed: set[str] = set()
    bl30k = "bl30k" in root.resolve().name.lower()
    for year in years:
        dataset = DavisDataset(root, year)
        for split in dataset.splits():
            try:
                names = dataset.names(split)
            except InputError as error:
                problems.append(str(error))
                continue
            listed |= set(names)
            splits[f"{year} {split}" if len(years) > 1 else split] = tuple(
                DavisVideo(*dataset.folders(name), BL30K_FRAMES if bl30k else None)
                for name in names
            )
    problems += _unlisted(dataset.folders(""), listed, "in no list of ImageSets")
    merged = frozenset(s for s in splits if years == [2016] or s.startswith("2016 "))
    name = "DAVIS" if lists.is_dir() else "BL30K" if bl30k else "videos without ImageSets"
    return Folder(name, splits, tuple(problems), merged)


def _youtubevos(root: Path) -> Folder:
    dataset = YouTubeVosDataset(root)
    splits: dict[str, tuple[Video, ...]] = {}
    problems: list[str] = []
    parts = (offline.TRAIN, offline.VAL)
    for split in dataset.splits():
        where = dataset.where(split)
        try:
            videos = dataset.videos(split)
        except InputError as error:
            if split not in parts:  # these want more of meta.json than the set promises
                problems.append(str(error))
            continue
        splits[split] = tuple(
            YouTubeVosVideo(*where.folders(name), meta) for name, meta in videos.items()
        )
        if split not in parts:
            problems += _unlisted(where.folders(""), videos, f"not named in {where.meta}")
    return Folder("YouTube-VOS", splits, tuple(problems))


def _unlisted(folders: Iterable[Path], listed: Iterable[str], what: str) -> Iterator[str]:
    known = set(listed)
    for folder in folders:
        yield from (f"{folder / name}: {what}" for name in folders_in(folder) if name not in known)
