"""Read a DAVIS folder: JPEGImages, Annotations and ImageSets of 2016 or 2017.

Other sets with a mask for every frame have the same layout, some without a folder for the
resolution and without ImageSets: BL30K (STCN's second stage), MOSE, or a person's own videos.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from vosmodels.data import held_out, split_file
from vosmodels.data.files import Files, log_notes, shorter_than, unusable, video_files
from vosmodels.data.images import read_frame
from vosmodels.data.listing import folders_in, listing, masks_in, pictures, visible
from vosmodels.data.masks import object_ids, read_mask
from vosmodels.errors import Absent, InputError
from vosmodels.support.messages import near
from vosmodels.support.paths import expanded
from vosmodels.types import U8

logger = logging.getLogger(__name__)

Year = Literal[2016, 2017]
ALL = "all"  # the split of a folder without ImageSets


@dataclass(frozen=True)
class DavisSequence:
    """A DAVIS video: frame i is images[i] and its mask, if it has one, is masks[i].

    merge: all ids are one object; labelled: every frame has a mask file. Without that the masks
    only give the objects, as in a benchmark's test set, and no frame is scored.
    """

    name: str
    images: tuple[Path, ...]
    masks: Mapping[int, Path]
    merge: bool
    labelled: bool = True
    last_counts = False
    unseen = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the object ids of frame 0, ascending."""
        return object_ids(self.mask(0))

    @cached_property
    def begins(self) -> dict[int, int]:
        """Map object ids, ascending, to the first frame whose mask holds the object."""
        if self.merge:
            return dict.fromkeys(self.ids, 0)
        first: dict[int, int] = {}
        for number in sorted(self.masks):
            for i in object_ids(self.mask(number)):
                first.setdefault(i, number)
        return dict(sorted(first.items()))

    @property
    def judged(self) -> Sequence[int]:
        """Return all frames if every frame has a mask, else none."""
        return range(len(self)) if self.labelled else ()

    def __len__(self) -> int:
        return len(self.images)

    def answer(self, index: int) -> Path:
        """Return the path of the frame's predicted mask below the output folder."""
        return Path(self.name) / f"{self.images[index].stem}.png"

    def frame(self, index: int) -> U8:
        """Read frame `index`, (H, W, 3) uint8 RGB. Raises InputError on a corrupt file."""
        return read_frame(self.images[index])

    def mask(self, index: int) -> U8:
        """Read the ids of frame `index`, (H, W) uint8, 0 = background.

        Raises InputError on a corrupt file, ValueError on a frame that has no mask.
        """
        if index not in self.masks:
            raise ValueError(f"{self.name}: frame {index} has no mask; there are {[*self.masks]}")
        return read_mask(self.masks[index], merge=self.merge)


class DavisDataset:
    """The sequences of a DAVIS folder, by split.

    year: 2017 keeps every object's id, 2016 merges all ids into one object; "auto" is 2017 if
    ImageSets/2017 exists or ImageSets does not, else 2016. The lists of 2016 are in ImageSets/2016
    (names) or ImageSets/480p (pairs of paths, whose sequence names are used); if both exist, the
    names are used. Two more splits, offline_train and offline_val, are the parts of train by
    `vosmodels.data.held_out`. Without lists the only split is "all". Frames are read from
    JPEGImages/480p, or else from the videos' folders in JPEGImages, or else from the only folder
    in JPEGImages. leave_out: names of videos that no split has.

    Raises InputError if `root` is no such folder; the message lists what was looked for and what
    `root` holds.
    """

    def __init__(
        self,
        root: Path,
        year: Literal["auto", 2016, 2017] = "auto",
        leave_out: Collection[str] = (),
    ) -> None:
        self.root = root
        self._leave_out = frozenset(leave_out)
        self._told = set[str]()  # notes that were logged
        missing = [n for n in ("JPEGImages", "Annotations") if not (root / n).is_dir()]
        if not root.is_dir():
            raise Absent(f"{root}: no such folder; give the root of a DAVIS folder")
        if missing:
            raise InputError(
                f"{root}: not a DAVIS folder: no {', no '.join(missing)}; looked for "
                "JPEGImages/480p/NAME/*.jpg, Annotations/480p/NAME/*.png and ImageSets/, "
                f"of which ImageSets and 480p may be absent; found {listing(root)}"
            )
        self.year: Year = _year_of(root) if year == "auto" else year
        self._resolution = _resolution(root / "JPEGImages")
        self._lists = root / "ImageSets"
        self._videos = folders_in(root / "JPEGImages" / self._resolution)
        self._files = _list_files(self._lists, self.year) if self._lists.is_dir() else {}
        if year == "auto":
            logger.info("%s: year auto is %d", root, self.year)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, sorted."""
        if not self._files:
            return (ALL,)
        parts = self._parts() if held_out.BASE in self._files else {}
        return tuple(sorted({*self._files, *parts}))

    def sequences(
        self, split: str, *, labels: bool | None = True, shortest: int = 1
    ) -> list[DavisSequence]:
        """Return the split's sequences in its order. Raises InputError as `check` does.

        labels, shortest: as in `problems`.
        """
        self.check(split, labels=labels, shortest=shortest)
        return self.open(self.names(split))

    def open(self, names: Iterable[str]) -> list[DavisSequence]:
        """Return the named sequences, whose files have no problems."""
        merge = self.year == 2016
        return [_sequence(*self.folders(name), merge) for name in names]

    def given(self, split: str, *, shortest: int = 1) -> list[DavisSequence]:
        """Return the split's sequences with the masks alone that give objects.

        Of a video with a mask for every frame that is the first, as in DAVIS; of another one, the
        masks in which an object begins. Raises InputError as `check` does of first masks.
        """
        return [_given(video) for video in self.sequences(split, labels=False, shortest=shortest)]

    @property
    def layout(self) -> str:
        """Name how masks are read: with the ids of 2017, or as the one object of 2016."""
        return f"davis {self.year}"

    def has(self, name: str) -> bool:
        """Return True if the folder has a video of that name."""
        return name in self._videos

    def problems(
        self, split: str, *, labels: bool | None = True, shortest: int = 1
    ) -> dict[str, list[str]]:
        """Return the problems of each video's files, a line each; videos without are left out.

        Looks at listings, headers and first masks; a file whose header is whole but whose content
        is corrupt is found when it is read. labels: True requires a mask of every frame; False is
        content with the first mask; None is True unless the masks of all videos only give their
        objects, as in a benchmark's test set. shortest: least number of frames.
        """
        folders = [self.folders(name) for name in self.names(split)]
        looks = [video_files(*places) for places in folders]
        if labels is None:
            labels = not all(files.frames and files.give_objects_alone() for files in looks)
        for places, files in zip(folders, looks, strict=True):
            judge(files, *places, labels=labels, shortest=shortest)
        log_notes(self.root, (note for files in looks for note in files.notes), self._told)
        by_name = zip(self.names(split), looks, strict=True)
        return {name: list(dict.fromkeys(f.problems)) for name, f in by_name if f.problems}

    def check(self, split: str, *, labels: bool | None = True, shortest: int = 1) -> None:
        """Raise one InputError that names the split's problems, all at once."""
        problems = self.problems(split, labels=labels, shortest=shortest)
        if problems:
            raise unusable(self.root, split, problems)

    def fingerprint(self, split: str) -> str:
        """Hash names and sizes of the split's files: 32 hex digits."""
        digest = hashlib.blake2b(f"davis {self.year} {self._resolution}".encode(), digest_size=16)
        for name in self.names(split):
            for folder in self.folders(name):
                for path in visible(folder):
                    entry = f"\n{path.relative_to(self.root).as_posix()} {path.stat().st_size}"
                    digest.update(entry.encode())
        return digest.hexdigest()

    def folders(self, name: str) -> tuple[Path, Path]:
        """Return the folders of a video's pictures and masks.

        With an empty `name`, returns the folders that hold those of all videos.
        """
        return (
            self.root / "JPEGImages" / self._resolution / name,
            self.root / "Annotations" / self._resolution / name,
        )

    def names(self, split: str) -> tuple[str, ...]:
        """Return the split's videos in its order; a split ending in .txt is a file.

        Raises InputError if the split has no video, does not exist, or its list is not text.
        """
        names = self._listed(split)
        if not names:
            raise InputError(f"{self._lists}: split {split!r} names no sequence")
        kept = tuple(name for name in names if name not in self._leave_out)
        if not kept:
            raise InputError(
                f"{self.root}: split {split!r} has no video left, as data.leave_out names all "
                f"{len(names)}; name fewer"
            )
        return kept

    def _listed(self, split: str) -> tuple[str, ...]:
        folder = self.folders("")[0]
        if split_file.is_file(split):
            return split_file.read(expanded(split), self._videos, folder)
        if split == ALL and not self._files:
            return tuple(self._videos)
        if split in self._files:
            names = split_file.read_names(self._files[split], frozenset(self._videos))
            return tuple(dict.fromkeys(names.values()))
        if split in (held_out.TRAIN, held_out.VAL) and split in (parts := self._parts()):
            return parts[split]
        raise InputError(
            f"{self._lists}: no split {split!r} of year {self.year}; "
            f"there are {', '.join(self.splits())}{near(split, self.splits())}"
        )

    def _parts(self) -> dict[str, tuple[str, ...]]:
        """Return offline_train and offline_val, where train can be read and parted."""
        try:
            return held_out.parts(self._listed(held_out.BASE)) if self._files else {}
        except InputError:  # told when the list itself is read
            return {}


def _year_of(root: Path) -> Year:
    lists = root / "ImageSets"
    return 2017 if (lists / "2017").is_dir() or not lists.is_dir() else 2016


def _resolution(folder: Path) -> str:
    """Return the name of the videos' folder in JPEGImages; "" if that is JPEGImages."""
    names = folders_in(folder)
    if "480p" in names:
        beside = [name for name in names if name != "480p" and pictures(folder / name)]
        if beside:
            raise InputError(
                f"{folder}: holds 480p, with a folder for each video, and videos beside it "
                f"({', '.join(beside[:3])}{', ...' if len(beside) > 3 else ''}); keep one"
            )
        return "480p"
    if names and pictures(folder / names[0]):
        return ""
    if len(names) == 1:
        return names[0]
    raise InputError(f"{folder}: wanted a folder 480p, or a single one; found {listing(folder)}")


def _list_files(folder: Path, year: Year) -> dict[str, Path]:
    """Return the lists of a year by the name of their split."""
    sources = ["2017"] if year == 2017 else ["480p", "2016"]  # a later one wins
    files = {
        path.stem: path
        for name in sources
        for path in visible(folder / name)
        if path.suffix == split_file.SUFFIX
    }
    if not files:
        patterns = " or ".join(f"{folder / name}/*.txt" for name in reversed(sources))
        raise InputError(
            f"{folder}: no split of year {year}; looked for {patterns}; found {listing(folder)}"
        )
    return files


def _sequence(images: Path, masks: Path, merge: bool) -> DavisSequence:
    frames, labels = pictures(images), masks_in(masks)
    by_number = {number: labels[stem] for number, stem in enumerate(frames) if stem in labels}
    labelled = len(by_number) == len(frames)
    return DavisSequence(images.name, tuple(frames.values()), by_number, merge, labelled)


def _given(video: DavisSequence) -> DavisSequence:
    numbers = {0} if video.labelled else set(video.begins.values())
    masks = {number: video.masks[number] for number in sorted(numbers)}
    return replace(video, masks=masks, labelled=False)


def judge(files: Files, images: Path, masks: Path, *, labels: bool, shortest: int = 1) -> None:
    """Add the problems of a video's files, as DAVIS's layout wants them, to `files.problems`.

    images, masks: the folders of the files; labels: every frame must have a mask, else the first
    alone; shortest: least number of frames.
    """
    files.problems += shorter_than(images, len(files.frames), shortest)
    first = next(iter(files.frames), None)
    for stem, image in files.frames.items():
        if stem in files.masks:
            files.problems += filter(None, [files.pair_problem(stem)])
        elif masks.is_dir() and (labels or stem == first):
            files.problems.append(f"{image}: image without mask; wanted {masks / stem}.png")
    if files.frames:
        files.problems += [
            f"{mask}: mask without image in {images}"
            for stem, mask in files.masks.items()
            if stem not in files.frames
        ]
    if first is not None:
        files.judge_given(first)
    if first is not None and (ids := files.ids_of(first)) is not None and not labels and not ids:
        files.problems.append(f"{files.masks[first]}: no object in the first mask")
