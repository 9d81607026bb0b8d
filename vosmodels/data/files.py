"""Decide whether the picture and mask files of a video or an image can be used.

The readers of datasets and `vosmodels.data.check` share this one judgement.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from vosmodels.data.first_mask import judge_first_mask
from vosmodels.data.images import UPRIGHT, Header, header, read_frame
from vosmodels.data.listing import (
    IMAGE_SUFFIXES,
    folders_in,
    masks_in,
    order_notes,
    pictures,
    unread_pictures,
)
from vosmodels.data.masks import PLAIN_MODES, object_ids, read_mask
from vosmodels.errors import InputError
from vosmodels.support.messages import together

logger = logging.getLogger(__name__)

_LOGGED = 3  # notes that are logged in words
_NAMED = 8  # videos that a remedy names

ReadIds = Callable[[Path], tuple[int, ...]]


def ids_in(path: Path) -> tuple[int, ...]:
    """Read the object ids of a mask file, ascending. Raises InputError as `read_mask`."""
    return object_ids(read_mask(path))


class Files:
    """Pictures and masks by stem, each inspected once, with problems and notes as lines.

    Every header is read; a file is read whole if its header leaves a doubt: no end marker, or a
    mask of an unusual mode. decode: read every file whole. read: returns the ids of a mask file,
    or raises InputError; plain: Pillow's modes that need no second look. A note names what is used,
    but may not be what was meant.
    """

    def __init__(
        self,
        frames: Mapping[str, Path],
        masks: Mapping[str, Path],
        *,
        decode: bool = False,
        read: ReadIds = ids_in,
        plain: Collection[str] = PLAIN_MODES,
    ) -> None:
        self.frames = frames
        self.masks = masks
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._read = read
        self._plain = plain
        self._ids: dict[str, tuple[int, ...] | None] = {}
        self._headers: dict[Path, Header] = {}
        for path in self.frames.values():
            self._inspect_frame(path, decode)
        for stem, path in self.masks.items():
            self._inspect_mask(stem, path, decode)

    @property
    def sizes(self) -> frozenset[tuple[int, int]]:
        """Return the sizes (H, W) of the pictures."""
        return frozenset(
            self._headers[path].size for path in self.frames.values() if path in self._headers
        )

    @property
    def ids(self) -> frozenset[int]:
        """Return the ids of the masks that were read whole."""
        return frozenset(i for ids in self._ids.values() for i in ids or ())

    def pair_problem(self, stem: str) -> str | None:
        """Compare the sizes of a frame and its mask; return the problem, or None.

        A file whose header could not be read was reported then, so gives None here.
        """
        image, mask = self.frames[stem], self.masks[stem]
        if image not in self._headers or mask not in self._headers:
            return None
        of_image, of_mask = self._headers[image].size, self._headers[mask].size
        if of_image == of_mask:
            return None
        return (
            f"{mask}: mask of {of_mask[1]}x{of_mask[0]} pixels for an image of "
            f"{of_image[1]}x{of_image[0]} ({image.name})"
        )

    def ids_of(self, stem: str) -> tuple[int, ...] | None:
        """Return the ids of a frame's mask; None if it is missing or unreadable."""
        if stem in self.masks and stem not in self._ids:
            self._read_mask(stem, self.masks[stem])
        return self._ids.get(stem)

    def judge_given(self, stem: str) -> None:
        """Judge a mask that gives objects: levels of grey are a problem, odd ids a note."""
        if not self.ids_of(stem):
            return
        path = self.masks[stem]
        try:
            self.notes += judge_first_mask(path, read_mask(path)).warnings
        except InputError as error:
            self.problems.append(str(error))

    def give_objects_alone(self) -> bool:
        """Return True if masks exist only where objects begin, as in a benchmark's test set.

        The first frame has a mask, others have none, and every mask holds an id that no earlier
        one holds.
        """
        if len(self.masks) >= len(self.frames) or next(iter(self.frames)) not in self.masks:
            return False
        known: set[int] = set()
        for stem in self.masks:
            new = set(self.ids_of(stem) or ()) - known
            if not new:
                return False
            known |= new
        return True

    def inspect_as_video(self, images: Path) -> None:
        """Add the problems and notes of pictures that are the frames of one video."""
        named: dict[tuple[int, int], Path] = {}
        turned: list[str] = []
        for path in self.frames.values():
            if path in self._headers:
                named.setdefault(self._headers[path].size, path)
                if self._headers[path].orientation != UPRIGHT:
                    turned.append(path.name)
        if len(named) > 1:
            sizes = ", ".join(f"{p.name} {size[1]}x{size[0]}" for size, p in named.items())
            self.problems.append(
                f"{images}: frames of several sizes: {sizes}; scale them to one size"
            )
        if turned:
            self.notes.append(
                f"{images}: {len(turned)} frames are turned as their EXIF orientation says, "
                f"first {turned[0]}; their masks must be upright"
            )
        self.notes += order_notes(images, list(self.frames))

    def _inspect_frame(self, path: Path, decode: bool) -> None:
        try:
            head = header(path)
            self._headers[path] = head
            if decode or not head.ends:
                read_quietly(path)
        except InputError as error:
            self.problems.append(str(error))

    def _inspect_mask(self, stem: str, path: Path, decode: bool) -> None:
        try:
            head = header(path)
        except InputError:  # the mask reader's own message is recorded instead
            self._read_mask(stem, path)
            return
        self._headers[path] = head
        if decode or not head.ends or head.mode not in self._plain:
            self._read_mask(stem, path)

    def _read_mask(self, stem: str, path: Path) -> None:
        try:
            self._ids[stem] = self._read(path)
        except InputError as error:
            self.problems.append(str(error))
            self._ids[stem] = None


def video_files(images: Path, masks: Path | None, *, decode: bool = False) -> Files:
    """Inspect the files of a video, from the folders of its pictures and, if any, its masks.

    A missing folder, a folder without pictures, and two pictures of one stem are problems too.
    """
    folders = [images] if masks is None else [images, masks]
    problems = [f"{folder}: no such folder" for folder in folders if not folder.is_dir()]
    frames, labels = {}, {}
    try:
        frames = pictures(images)
        unread = unread_pictures(images)
        if unread:
            some = ", ".join(unread[:3]) + (", ..." if len(unread) > 3 else "")
            problems.append(
                f"{images}: {len(unread)} pictures in a format that is not read ({some}); convert "
                "them to .jpg or .png, or take them out"
            )
        elif not frames and images.is_dir():
            inside = folders_in(images)
            hint = f"; it holds the folder {inside[0]}: is it that one?" if inside else ""
            problems.append(f"{images}: no pictures ({', '.join(IMAGE_SUFFIXES)}){hint}")
    except InputError as error:
        problems.append(str(error))
    try:
        labels = {} if masks is None else masks_in(masks)
    except InputError as error:
        problems.append(str(error))
    files = Files(frames, labels, decode=decode)
    files.problems[:0] = problems
    files.inspect_as_video(images)
    return files


def shorter_than(images: Path, frames: int, shortest: int) -> list[str]:
    """Return a line if a video has fewer frames than a clip of `shortest`; none without frames."""
    if not 0 < frames < shortest:
        return []
    return [f"{images}: {frames} frames with masks, too short for a clip of {shortest}"]


def log_notes(root: Path, notes: Iterable[str], told: set[str]) -> None:
    """Log the notes that are not in `told` yet, a few of them in words, and add them to it.

    Every job of a plan asks for the same split again.
    """
    new = [note for note in dict.fromkeys(notes) if note not in told]
    for note in new[:_LOGGED]:
        logger.warning("%s", note)
    if len(new) > _LOGGED:
        command = f"python -m vosmodels.data.check {root}"
        logger.warning("%d more of this kind: %s lists them", len(new) - _LOGGED, command)
    told.update(new)


def unusable(root: Path, split: str, problems: Mapping[str, Sequence[str]]) -> InputError:
    """Make the error that names the problems of a split's videos, all at once, and the remedy."""
    lines = [problem for of_video in problems.values() for problem in of_video]
    # As JSON in quotes for the shell: names may be numbers, or hold commas and blanks.
    named = list(problems)[:_NAMED]
    leave_out = shlex.quote(f"data.leave_out={json.dumps(named, ensure_ascii=False)}")
    more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return InputError(
        together(f"{root}: split {split!r} cannot be used", lines)
        + f"; restore the files, or leave the videos out: {leave_out}{more}, of evaluate "
        "--leave-out NAME"
    )


def read_quietly(path: Path) -> None:
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
