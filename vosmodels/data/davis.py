"""Read a DAVIS folder: JPEGImages, Annotations and ImageSets of 2016 or 2017.

Other sets with a mask for every frame have the same layout, some without a folder for the
resolution and without ImageSets: BL30K (STCN's second stage), MOSE, or a person's own videos.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vosmodels.data import held_out, split_file
from vosmodels.data.images import IMAGE_SUFFIXES, read_frame
from vosmodels.data.listing import PairProblem, folders_in, listing, pair_problem, pictures
from vosmodels.data.masks import object_ids, read_mask
from vosmodels.errors import InputError
from vosmodels.support.messages import near, together
from vosmodels.types import U8, WholeMasks

logger = logging.getLogger(__name__)

Year = Literal[2016, 2017]
ALL = "all"  # the split of a folder without ImageSets


@dataclass(frozen=True)
class DavisSequence(WholeMasks):
    """A DAVIS video: frame i is images[i] and its mask is masks[i].

    merge: all ids are one object; labelled: False if only the first frame has a mask file.
    """

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    merge: bool
    labelled: bool = True
    last_counts = False

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the object ids of frame 0, ascending."""
        return object_ids(self.mask(0))

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

        Raises InputError on a corrupt file.
        """
        return read_mask(self.masks[index], merge=self.merge)


class DavisDataset:
    """The sequences of a DAVIS folder, by split.

    year: 2017 keeps every object's id, 2016 merges all ids into one object; "auto" is 2017 if
    ImageSets/2017 exists or ImageSets does not, else 2016. The lists of 2016 are in ImageSets/2016
    (names) or ImageSets/480p (pairs of paths, whose sequence names are used); if both exist, the
    names are used. Two more splits, offline_train and offline_val, are the parts of train by
    `vosmodels.data.held_out`. Without lists the only split is "all". Frames are read from
    JPEGImages/480p, or else from the videos' folders in JPEGImages, or else from the only folder
    in JPEGImages.

    Raises InputError if `root` is no such folder; the message lists what was looked for and what
    `root` holds.
    """

    def __init__(self, root: Path, year: Literal["auto", 2016, 2017] = "auto") -> None:
        self.root = root
        missing = [n for n in ("JPEGImages", "Annotations") if not (root / n).is_dir()]
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give the root of a DAVIS folder")
        if missing:
            raise InputError(
                f"{root}: not a DAVIS folder: no {', no '.join(missing)}; looked for "
                "JPEGImages/480p/NAME/*.jpg, Annotations/480p/NAME/*.png and ImageSets/, "
                f"of which ImageSets and 480p may be absent; found {listing(root)}"
            )
        self.year: Year = _year_of(root) if year == "auto" else year
        self._resolution = _resolution(root / "JPEGImages")
        self._lists = root / "ImageSets"
        self._splits = (
            _read_splits(self._lists, self.year)
            if self._lists.is_dir()
            else {ALL: tuple(folders_in(root / "JPEGImages" / self._resolution))}
        )
        if year == "auto":
            logger.info("%s: year auto is %d", root, self.year)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, sorted."""
        return tuple(sorted(self._splits))

    def sequences(self, split: str, *, labels: bool = True) -> list[DavisSequence]:
        """Open the split's sequences in its order, checked first as `check` does.

        labels: require a mask of every frame; else a mask of the first frame is enough.
        """
        self.check(split, labels=labels)
        merge = self.year == 2016
        return [_sequence(*self.folders(name), merge) for name in self.names(split)]

    def problems(self, split: str, *, labels: bool = True) -> list[str]:
        """List what is wrong with the split's files, a line each; empty when nothing is.

        Reads listings and picture headers only: a corrupt file with a whole header is found when
        it is read. labels: as in `sequences`.
        """
        return [
            problem
            for name in self.names(split)
            for problem in sequence_problems(*self.folders(name), labels=labels)
        ]

    def check(self, split: str, *, labels: bool = True) -> None:
        """Raise one InputError that names the split's problems, all at once."""
        problems = self.problems(split, labels=labels)
        if problems:
            raise InputError(
                together(f"{self.root}: split {split!r} cannot be used", problems)
                + "; restore the files, or take the sequence out of the split"
            )

    def fingerprint(self, split: str) -> str:
        """Hash names and sizes of the split's files: 32 hex digits."""
        digest = hashlib.blake2b(f"davis {self.year} {self._resolution}".encode(), digest_size=16)
        for name in self.names(split):
            for folder in self.folders(name):
                for path in sorted(folder.glob("*")):
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

        Raises InputError if the split has no video or does not exist.
        """
        if split_file.is_file(split):
            folder = self.folders("")[0]
            return split_file.read(Path(split).expanduser(), folders_in(folder), folder)
        if self._splits.get(split):
            return self._splits[split]
        if split in self._splits:
            raise InputError(f"{self._lists}: split {split!r} names no sequence")
        raise InputError(
            f"{self._lists}: no split {split!r} of year {self.year}; "
            f"there are {', '.join(self.splits())}{near(split, self._splits)}"
        )


def _year_of(root: Path) -> Year:
    lists = root / "ImageSets"
    return 2017 if (lists / "2017").is_dir() or not lists.is_dir() else 2016


def _resolution(folder: Path) -> str:
    """Return the name of the videos' folder in JPEGImages; "" if that is JPEGImages."""
    names = folders_in(folder)
    if "480p" in names:
        return "480p"
    if names and pictures(folder / names[0]):
        return ""
    if len(names) == 1:
        return names[0]
    raise InputError(f"{folder}: wanted a folder 480p, or a single one; found {listing(folder)}")


def _read_splits(folder: Path, year: Year) -> dict[str, tuple[str, ...]]:
    sources = ["2017"] if year == 2017 else ["480p", "2016"]  # a later one wins
    files = [path for name in sources for path in sorted((folder / name).glob("*.txt"))]
    splits = {path.stem: _read_split(path) for path in files}
    if not splits:
        patterns = " or ".join(f"{folder / name}/*.txt" for name in reversed(sources))
        raise InputError(
            f"{folder}: no split of year {year}; looked for {patterns}; found {listing(folder)}"
        )
    return held_out.parts(splits.get(held_out.BASE, ())) | splits


def _read_split(path: Path) -> tuple[str, ...]:
    """Read sequence names from a list of names or of pairs of paths.

    A pair is "/JPEGImages/480p/NAME/00000.jpg /Annotations/480p/NAME/00000.png".
    """
    names = []
    for line in path.read_text().split("\n"):
        words = line.split()
        if words:
            names.append(Path(words[0]).parent.name if "/" in words[0] else words[0])
    return tuple(dict.fromkeys(names))


def _matching(frames: dict[str, Path], masks: Path) -> Iterator[Path]:
    return (masks / f"{stem}.png" for stem in frames)


def _sequence(images: Path, masks: Path, merge: bool) -> DavisSequence:
    frames = pictures(images)
    paths = tuple(_matching(frames, masks))
    labelled = all(path.is_file() for path in paths[1:])
    return DavisSequence(images.name, tuple(frames.values()), paths, merge, labelled)


def sequence_problems(
    images: Path, masks: Path, pair: PairProblem = pair_problem, *, labels: bool = True
) -> Iterator[str]:
    """Yield what is wrong with a video's files, a line each.

    pair: finds the problem of an image and its mask; labels: whether every frame must have a mask,
    or only the first.
    """
    absent = [folder for folder in (images, masks) if not folder.is_dir()]
    if absent:
        yield from (f"{folder}: no such folder" for folder in absent)
        return
    frames = pictures(images)
    if not frames:
        yield f"{images}: no pictures ({', '.join(IMAGE_SUFFIXES)})"
    first = next(iter(frames.values()), None)
    for image, mask in zip(frames.values(), _matching(frames, masks), strict=True):
        if not mask.is_file():
            if labels or image == first:
                yield f"{image}: image without mask; wanted {mask}"
            continue
        problem = pair(image, mask)
        if problem:
            yield problem
