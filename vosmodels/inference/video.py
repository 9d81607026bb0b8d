"""Read a video: a film, or a folder of pictures."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vosmodels.data.files import video_files
from vosmodels.data.images import read_frame
from vosmodels.data.listing import IMAGE_SUFFIXES, OTHER_PICTURES
from vosmodels.errors import InputError
from vosmodels.inference.edit_list import shown_part
from vosmodels.support.messages import together
from vosmodels.types import U8

RATE = 24.0  # frames per second of pictures, and of a film whose header does not say
RATES = (0.1, 1000.0)  # a header's rate from the first to below the second is believed
COUNTED = (b"ftyp", b"AVI ")  # bytes 4..8 or 8..12 of formats whose header counts the frames
ENOUGH = 0.9  # part that is read of a whole film, where the header does not count its frames


@dataclass(frozen=True)
class Video:
    """A video, opened: its frames with their names, and what its header says.

    frames: name and (H, W, 3) uint8 RGB of each, to be read once; the name is the picture's stem,
    or the number of the film's frame, 00000 the first; size (H, W): of the first frame; rate: in
    frames per second; notes: what the user should know; shortage: called after the last frame
    with the number of frames read, says what the header promises beyond, or None.
    """

    frames: Iterator[tuple[str, U8]]
    size: tuple[int, int]
    rate: float
    notes: tuple[str, ...]
    shortage: Callable[[int], str | None]


def open_video(path: Path) -> Video:
    """Open a film or a folder of pictures, and read its first frame.

    Raises InputError if there is no picture or no frame, or the film cannot be opened.
    """
    if path.is_dir():
        return _open_pictures(path)
    if not path.is_file():
        raise InputError(f"{path}: no such video; give a film or a folder of pictures")
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_PICTURES):
        raise InputError(f"{path}: one picture; give the folder of a video's pictures, or a film")
    return _open_film(path)


def _open_pictures(folder: Path) -> Video:
    files = video_files(folder, None)
    if files.problems:
        raise InputError(
            together("the video cannot be followed", list(dict.fromkeys(files.problems)))
            + "; mend that, or give another folder"
        )
    (size,) = files.sizes
    frames = ((name, read_frame(path)) for name, path in files.frames.items())
    return Video(frames, size, RATE, tuple(files.notes), lambda read: None)


def _open_film(path: Path) -> Video:
    film = capture(path)
    if not film.isOpened():
        raise InputError(
            f"{path}: cannot be opened as a video; is it whole? try mp4 (H.264), or pictures"
        )
    promised, told = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    rate: float = told
    notes: tuple[str, ...] = ()
    if not (math.isfinite(told) and RATES[0] <= told < RATES[1]):
        rate = RATE
        notes = (f"{path}: a rate of {told:g} frames a second in its header; taken as {RATE:g}",)
    times = [0.0]  # of the latest frame, in milliseconds
    size, frames = _peek(_film_frames(film, times), path)

    def shortage(read: int) -> str | None:
        if not (math.isfinite(promised) and promised > read):
            return None
        part = shown_part(path)
        trimmed = promised * (1 - part) > 1.5  # frames; which ones a player shows is not told
        if trimmed and read >= ENOUGH * part * promised:
            return None
        if _counts_frames(path):
            what = f"{read} of the {promised:.0f} frames that its header counts"
        elif times[0] < ENOUGH * 1000 * promised / max(told, RATES[0]):
            what = f"{read} frames, up to {times[0] / 1000:.2f} s of the film's "
            what += f"{promised / max(told, RATES[0]):.2f} s,"
        else:
            return None
        return (
            f"{path}: {what} could be read: it is cut off or damaged, and frames after a damaged "
            "place may be numbered too low; restore it from its source"
        )

    return Video(frames, size, rate, notes, shortage)


def capture(path: Path) -> Any:
    """Open a film with OpenCV, by its FFmpeg where it has one, quietly.

    A relative `a:b.mp4` would be taken for an address; OpenCV's other readers print, and take a
    name with `%` for a pattern.
    """
    ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    with quiet_opencv():
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG if ffmpeg else cv2.CAP_ANY)


def _peek(
    frames: Iterator[tuple[str, U8]], path: Path
) -> tuple[tuple[int, int], Iterator[tuple[str, U8]]]:
    """Read the first frame; return its size (H, W), and all the frames."""
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path}: no frame that can be read; restore the video from its source")
    height, width = first[1].shape[:2]
    return (height, width), itertools.chain([first], frames)


def _film_frames(film: Any, times: list[float]) -> Iterator[tuple[str, U8]]:
    try:
        for index in itertools.count():
            success, frame = film.read()
            if not success:
                return
            times[0] = film.get(cv2.CAP_PROP_POS_MSEC)
            yield f"{index:05d}", np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        film.release()


def _counts_frames(path: Path) -> bool:
    """Say whether the film's format counts its frames, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] in COUNTED or head[8:12] in COUNTED


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV and its FFmpeg from printing, where a failure is told in our words.

    FFmpeg reads its level once in a process; a level that the user has set stays.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
