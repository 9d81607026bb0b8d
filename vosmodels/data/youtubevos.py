"""Read a YouTube-VOS folder: splits of JPEGImages, Annotations and meta.json.

The layout of Xu et al., arXiv:1809.03327, as the zips of 2018 and 2019 unpack. In train every fifth
frame of a 30 fps video is labelled. In the other splits a mask exists only for a frame in which an
object begins, and scores come from the benchmark's server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from vosmodels.data import held_out, split_file
from vosmodels.data.files import Files, log_notes, shorter_than, unusable, video_files
from vosmodels.data.images import read_frame
from vosmodels.data.listing import listing, masks_in, natural_key, pictures, visible
from vosmodels.data.masks import read_mask
from vosmodels.data.youtubevos_meta import META, VideoMeta, read_meta
from vosmodels.errors import Absent, InputError
from vosmodels.support.messages import near, together
from vosmodels.types import U8

LABEL_GAP = 5  # frames of the 30 fps video from one label to the next
_ALL_FRAMES = "_all_frames"  # SPLIT_all_frames has pictures alone, SPLIT has masks and meta.json


@dataclass(frozen=True)
class YouTubeVosSequence:
    """A video from its first labelled frame on, with masks by frame number.

    The objects are those of meta.json; `asked` are the stems of the frames that meta.json lists;
    `unseen` is set for videos of the split offline_val alone.
    """

    name: str
    images: tuple[Path, ...]
    masks: Mapping[int, Path]
    meta: VideoMeta
    last_counts = True
    merge = False

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of the objects that begin in frame 0, ascending."""
        return tuple(i for i, number in self.begins.items() if number == 0)

    @cached_property
    def begins(self) -> dict[int, int]:
        """Map object ids, ascending, to the number of the frame that gives the object."""
        return {i: self._numbers[stem] for i, stem in sorted(self.meta.begins.items())}

    @property
    def labelled(self) -> tuple[int, ...]:
        """Return the numbers of the frames that have a mask, ascending."""
        return tuple(sorted(self.masks))

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the stems of the frames that the benchmark wants masks of, ascending."""
        return self.meta.asked

    @cached_property
    def judged(self) -> tuple[int, ...]:
        """Return the numbers of the frames that scores are computed on, ascending.

        These are the frames of `asked` if all of them have a mask, else none: the masks of valid
        and test only give the objects.
        """
        stems = self.meta.judged([self.images[number].stem for number in self.masks])
        return tuple(self._numbers[stem] for stem in stems)

    @property
    def unseen(self) -> frozenset[int] | None:
        """Return the objects of categories not in offline_train; None in other splits."""
        return held_out.unseen(self.name, self.meta.categories)

    def __len__(self) -> int:
        return len(self.images)

    def frame(self, index: int) -> U8:
        """Read frame `index`, (H, W, 3) uint8 RGB. Raises InputError on a corrupt file."""
        return read_frame(self.images[index])

    def mask(self, index: int) -> U8:
        """Read the ids of frame `index`, (H, W) uint8, 0 = background.

        Raises InputError on a corrupt file, ValueError on a frame that has no mask.
        """
        if index not in self.masks:
            raise ValueError(
                f"{self.name}: frame {index} has no mask; labelled are {self.labelled}"
            )
        return read_mask(self.masks[index])

    def answer(self, index: int) -> Path | None:
        """Return the path of the frame's predicted mask below the output folder.

        The benchmark's layout: Annotations/NAME/STEM.png. None if the benchmark does not want a
        mask of frame `index`.
        """
        stem = self.images[index].stem
        return Path("Annotations") / self.name / f"{stem}.png" if stem in self.asked else None

    def labelled_only(self) -> YouTubeVosSequence:
        """Return a video of the labelled frames alone, with a mask for every frame."""
        return replace(
            self,
            images=tuple(self.images[number] for number in self.labelled),
            masks=dict(enumerate(self.masks[number] for number in self.labelled)),
        )

    def given(self) -> YouTubeVosSequence:
        """Return the video with the masks alone in which objects begin, by meta.json."""
        numbers = sorted(set(self.begins.values()))
        return replace(self, masks={number: self.masks[number] for number in numbers})

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {path.stem: number for number, path in enumerate(self.images)}


@dataclass(frozen=True)
class SplitFolders:
    """The folders of a split's pictures and labels.

    The split valid_all_frames takes pictures from valid_all_frames and labels from valid.
    """

    pictures: Path
    labels: Path

    @property
    def meta(self) -> Path:
        """Return the path of the split's meta.json."""
        return self.labels / META

    def folders(self, name: str) -> tuple[Path, Path]:
        """Return the folders of a video's pictures and masks.

        With an empty `name`, returns the folders that hold those of all videos.
        """
        return self.pictures / "JPEGImages" / name, self.labels / "Annotations" / name


class YouTubeVosDataset:
    """The sequences of a YouTube-VOS folder, by split.

    root: the folder of the splits (train, valid, valid_all_frames, ...), or one split's own folder,
    whose name is then the only split. A split SPLIT_all_frames takes masks and meta.json from
    SPLIT. The split train is also parted into offline_train and offline_val: see
    `vosmodels.data.held_out`. Sequences and fingerprints are cached, so a changed folder needs a
    new object. leave_out: names of videos that no split has.

    Raises InputError if `root` is no such folder; the message lists what was looked for and what
    `root` holds.
    """

    def __init__(self, root: Path, leave_out: Collection[str] = ()) -> None:
        self.root = root
        self._leave_out = frozenset(leave_out)
        self._told = set[str]()  # notes that were logged
        if not root.is_dir():
            raise Absent(f"{root}: no such folder; give the root of a YouTube-VOS folder")
        own = (root / "JPEGImages").is_dir()
        folders = [root] if own else [path.parent for path in sorted(root.glob("*/JPEGImages"))]
        self._splits = {folder.resolve().name: _split(folder) for folder in folders}
        if held_out.BASE in self._splits:
            for part in (held_out.TRAIN, held_out.VAL):
                self._splits.setdefault(part, self._splits[held_out.BASE])
        if not folders:
            raise InputError(
                f"{root}: not a YouTube-VOS folder; looked for SPLIT/JPEGImages/NAME/*.jpg, "
                f"SPLIT/Annotations/NAME/*.png and SPLIT/{META}; found {listing(root)}"
            )
        self._read: dict[str, list[YouTubeVosSequence]] = {}
        self._prints: dict[str, str] = {}

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return True if there is a meta.json in `root` or one folder below."""
        return (root / META).is_file() or any(root.glob(f"*/{META}"))

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits, sorted."""
        return tuple(sorted(self._splits))

    def sequences(self, split: str, *, shortest: int = 1) -> list[YouTubeVosSequence]:
        """Return the split's sequences by name. Raises InputError as `check` does."""
        if split not in self._read:
            self.check(split, shortest=shortest)
            self._read[split] = self.open(split, self.videos(split))
        return self._read[split]

    def given(self, split: str, *, shortest: int = 1) -> list[YouTubeVosSequence]:
        """Return the split's sequences with every picture, and the masks that give objects.

        shortest: least number of pictures from the first mask on. Raises InputError as `check`.
        """
        self.check(split, shortest=shortest, labels=False)
        return [video.given() for video in self.open(split, self.videos(split))]

    @property
    def layout(self) -> str:
        """Name how masks are read, as `DavisDataset.layout` does."""
        return "youtubevos"

    def open(self, split: str, names: Iterable[str]) -> list[YouTubeVosSequence]:
        """Return the named sequences of a split, whose files have no problems."""
        where, videos = self.where(split), self.videos(split)
        return [_sequence(*where.folders(name), videos[name]) for name in names]

    def has(self, name: str) -> bool:
        """Return True if meta.json of a split has a video of that name."""
        return any(name in read_meta(where.meta) for where in self._splits.values())

    def problems(
        self, split: str, *, labels: bool = True, shortest: int = 1
    ) -> dict[str, list[str]]:
        """Return the problems of each video's files, a line each; videos without are left out.

        labels, shortest: as in `check`. Looks at listings, picture headers and the masks that give
        objects; a picture whose header is whole but whose content is corrupt is found when the
        picture is read. Raises InputError if meta.json cannot be used.
        """
        where = self.where(split)
        found: dict[str, list[str]] = {}
        notes: list[str] = []
        for name, meta in self.videos(split).items():
            files = video_files(*where.folders(name))
            judge(files, *where.folders(name), meta, labels=labels, shortest=shortest)
            notes += files.notes
            if files.problems:
                found[name] = list(dict.fromkeys(files.problems))
        log_notes(self.root, notes, self._told)
        return found

    def check(self, split: str, *, labels: bool = True, shortest: int = 1) -> None:
        """Raise one InputError that names the split's problems, all at once.

        labels: whether masks are read that give no object; shortest: least number of frames that
        have a mask, and without `labels` of frames.
        """
        problems = self.problems(split, labels=labels, shortest=shortest)
        if problems:
            raise unusable(self.root, split, problems)

    def fingerprint(self, split: str) -> str:
        """Hash meta.json, and names and sizes of the split's files: 32 hex digits."""
        if split not in self._prints:
            where = self.where(split)
            digest = hashlib.blake2b(b"youtubevos", digest_size=16)
            for name in self.videos(split):
                for kind, folder in zip("ia", where.folders(name), strict=True):
                    for path in visible(folder):
                        entry = f"\n{kind} {name}/{path.name} {path.stat().st_size}"
                        digest.update(entry.encode())
            digest.update(where.meta.read_bytes())
            self._prints[split] = digest.hexdigest()
        return self._prints[split]

    def videos(self, split: str) -> dict[str, VideoMeta]:
        """Read the entries of the split's videos in meta.json, by name, ascending.

        Raises InputError if meta.json cannot be used, or if offline_train or offline_val would
        have no video.
        """
        path = self.where(split).meta
        videos = {
            name: meta
            for name, meta in sorted(read_meta(path).items())
            if name not in self._leave_out
        }
        if not videos:
            raise InputError(f"{path}: no video is left, as data.leave_out names them all")
        if split not in (held_out.TRAIN, held_out.VAL) or path.parent.name == split:
            return videos
        plain = [name for name, meta in videos.items() if set(meta.frames) - set(meta.categories)]
        if plain:
            raise InputError(
                together(
                    f"{path}: objects without a category, so no split {split!r}: videos", plain
                )
                + f"; take the meta.json of the release, or the split {held_out.BASE!r}"
            )
        is_val = split == held_out.VAL
        part = {
            name: meta
            for name, meta in videos.items()
            if (held_out.unseen(name, meta.categories) is not None) == is_val
        }
        if not part:
            raise InputError(f"{path}: none of its {len(videos)} videos is in the split {split!r}")
        return part

    def where(self, split: str) -> SplitFolders:
        """Return the split's folders. Raises InputError if there is no such split."""
        if split in self._splits:
            return self._splits[split]
        names = f"there are {', '.join(self.splits())}{near(split, self._splits)}"
        if split_file.is_file(split):
            raise InputError(
                f"{self.root}: split {split!r}: a file of video names is for DAVIS folders; {names}"
            )
        raise InputError(f"{self.root}: no split {split!r}; {names}")


def _split(folder: Path) -> SplitFolders:
    name = folder.resolve().name
    base = folder.resolve().with_name(name.removesuffix(_ALL_FRAMES))
    borrows = name.endswith(_ALL_FRAMES) and not (folder / META).is_file() and base.is_dir()
    return SplitFolders(folder, base if borrows else folder)


def _from_start(files: Mapping[str, Path], meta: VideoMeta) -> dict[str, Path]:
    """Leave out the files before the video's first frame."""
    start = natural_key(meta.start)[:-1]
    return {stem: path for stem, path in files.items() if natural_key(stem)[:-1] >= start}


def _sequence(images: Path, masks: Path, meta: VideoMeta) -> YouTubeVosSequence:
    frames, labels = _from_start(pictures(images), meta), _from_start(masks_in(masks), meta)
    by_number = {number: labels[stem] for number, stem in enumerate(frames) if stem in labels}
    return YouTubeVosSequence(images.name, tuple(frames.values()), by_number, meta)


def judge(
    files: Files,
    images: Path,
    masks: Path,
    meta: VideoMeta,
    *,
    labels: bool = True,
    shortest: int = 1,
) -> None:
    """Add the problems of a video's files, by its entry in meta.json, to `files.problems`.

    images, masks: the folders of the files; labels, shortest: as in `YouTubeVosDataset.check`.
    """
    counted = set(_from_start(files.frames, meta))
    if labels:
        counted &= set(_from_start(files.masks, meta))
    files.problems += shorter_than(images, len(counted), shortest)
    files.problems += _problems(files, images, masks, meta, labels)


def _problems(
    files: Files, images: Path, masks: Path, meta: VideoMeta, labels: bool
) -> Iterator[str]:
    if not files.frames or not masks.is_dir():  # `video_files` has told so
        return
    frames, by_stem = _from_start(files.frames, meta), _from_start(files.masks, meta)
    for stem in meta.asked:
        if stem not in frames:
            yield f"{images}: no picture {stem}, which {META} lists"
    for stem, mask in by_stem.items():
        if stem not in frames:
            yield f"{mask}: mask without image in {images}"
        elif problem := files.pair_problem(stem):
            yield problem
    first_stems = set(meta.begins.values())
    for stem in sorted(first_stems, key=natural_key):
        files.judge_given(stem)
        yield from _first_mask_problems(files, masks, meta, stem)
    # A listed frame has a mask although no object begins there: then all listed frames need one.
    if labels and set(by_stem) & set(meta.asked) - first_stems:
        for stem in meta.asked:
            if stem not in by_stem and stem not in first_stems:
                yield f"{masks / stem}.png: no such mask, though {META} lists the frame"


def _first_mask_problems(files: Files, masks: Path, meta: VideoMeta, stem: str) -> Iterator[str]:
    """Yield a line if a mask lacks an object which by meta.json begins in its frame."""
    listed = [i for i, first in meta.begins.items() if first == stem]
    if stem not in files.masks:
        yield f"{masks / stem}.png: no such mask; by {META} objects {listed} begin there"
        return
    ids = files.ids_of(stem)
    if ids is None:  # the reader's error is among the problems
        return
    lacking = sorted(set(listed) - set(ids))
    if lacking:
        yield (
            f"{files.masks[stem]}: no object {', '.join(map(str, lacking))}, which by {META} "
            f"begins there; the mask holds {', '.join(map(str, ids)) or 'none'}"
        )
