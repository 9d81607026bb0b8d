"""Keep and read the masks that a teacher made of a video, which are labels for a student.

A file holds, of every frame, the ids and the probability of each object, at the size of the video,
so that a confidence threshold is applied when it is read. It is an .npz: "objects" (K,) uint8, the
ids, ascending, and by frame number "00000" ... (1 + K, H, W) uint8, the frame's ids and then the
probabilities of the objects times 255.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vosmodels.data.masks import NO_LABEL
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_whole
from vosmodels.types import U8, VideoSequence

CERTAIN = 255  # the confidence of a pixel that was given


class TeacherMasks(Protocol):
    """The masks that a teacher made of every frame of a video."""

    def ids(self, index: int) -> U8:
        """Read the ids of frame `index`, (H, W) uint8, 0 = background."""
        ...

    def labels(self, index: int, threshold: float) -> U8:
        """Read the ids of frame `index`, with NO_LABEL below a probability of `threshold`."""
        ...

    def probability(self, index: int, number: int) -> U8:
        """Read the probability of object `number` times 255, (H, W) uint8."""
        ...


@dataclass(frozen=True)
class TaughtVideo:
    """A video whose masks are a teacher's.

    threshold: least probability of a label, 0 to 1; a pixel below it has none. soft: clips get the
    probabilities too, as targets.
    """

    video: VideoSequence
    masks: TeacherMasks
    threshold: float = 0.0
    soft: bool = False

    @property
    def name(self) -> str:
        """Return the video's name."""
        return self.video.name

    @property
    def ids(self) -> Sequence[int]:
        """Return the object ids of the first frame, ascending."""
        return self.video.ids

    def __len__(self) -> int:
        return len(self.video)

    def frame(self, index: int) -> U8:
        """Read frame `index`, (H, W, 3) uint8 RGB."""
        return self.video.frame(index)

    def mask(self, index: int) -> U8:
        """Read the teacher's ids of frame `index`, (H, W) uint8, whatever their probability."""
        return self.masks.ids(index)

    def label(self, index: int) -> U8:
        """Read the labels of frame `index`: its ids, and NO_LABEL below the threshold."""
        return self.masks.labels(index, self.threshold)


def doubtful(confidence: NDArray[np.uint8], threshold: float) -> NDArray[np.bool_]:
    """Return where a probability, stored times 255, is below the threshold, 0 to 1."""
    return np.asarray(confidence < threshold * CERTAIN)


def write(path: Path, objects: Sequence[int], frames: Iterable[U8]) -> NDArray[np.int64]:
    """Write a file of masks, atomically: whole or not at all.

    objects: the ids, ascending; frames: (1 + K, H, W) uint8 of each frame, in order, as the file
    has them. The same masks give the same bytes. Returns how many pixels after the first frame have
    each confidence, (256,).
    """
    counts = np.zeros(CERTAIN + 1, dtype=np.int64)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        _add(archive, "objects", np.array(objects, dtype=np.uint8))
        for number, planes in enumerate(frames):
            _add(archive, f"{number:05d}", planes)
            if number:
                counts += np.bincount(_confidence(objects, planes).ravel(), minlength=CERTAIN + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, memory.getvalue())
    return counts


def _add(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    data = io.BytesIO()
    np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that bytes depend on content alone
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data.getvalue())


def _confidence(objects: Sequence[int] | U8, planes: U8) -> U8:
    """Return the probability of each pixel's id times 255: (1 + K, H, W) -> (H, W) uint8."""
    ids, probabilities = planes[0], planes[1:]
    rest = CERTAIN - probabilities.sum(0, dtype=np.int64)  # rounded probabilities may exceed 255
    confidence: U8 = rest.clip(0, CERTAIN).astype(np.uint8)
    for number, plane in zip(objects, probabilities, strict=True):
        confidence = np.where(ids == number, plane, confidence)
    return confidence


@dataclass(frozen=True)
class StoredMasks:
    """The masks of a file that `write` wrote. Raises InputError where it cannot be read."""

    path: Path

    def ids(self, index: int) -> U8:
        """Read the ids of frame `index`, (H, W) uint8."""
        return np.asarray(self._read(f"{index:05d}")[0])

    def confidence(self, index: int) -> U8:
        """Read the probability of each pixel's id times 255, (H, W) uint8."""
        return _confidence(self.objects, self._read(f"{index:05d}"))

    def labels(self, index: int, threshold: float) -> U8:
        """Read the ids of frame `index`, with NO_LABEL below a probability of `threshold`."""
        planes = self._read(f"{index:05d}")
        unsure = doubtful(_confidence(self.objects, planes), threshold)
        return np.where(unsure, np.uint8(NO_LABEL), planes[0])

    def probability(self, index: int, number: int) -> U8:
        """Read the probability of object `number` times 255, (H, W) uint8."""
        return np.asarray(self._read(f"{index:05d}")[1 + self.objects.tolist().index(number)])

    @cached_property
    def objects(self) -> U8:
        """Return the ids of the objects, ascending."""
        return self._read("objects")

    def _read(self, name: str) -> U8:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return np.asarray(archive[name])
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(
                f"{self.path}: the teacher's masks cannot be read ({error}); delete the file and "
                "run the same command again"
            ) from error
