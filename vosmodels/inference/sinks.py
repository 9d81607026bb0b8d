"""Write what a segmenter found: masks into a folder, or an overlay film."""

from __future__ import annotations

import math
import os
import shlex
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from vosmodels.data.masks import write_palette
from vosmodels.data.overlay import overlay
from vosmodels.errors import InputError
from vosmodels.inference.video import capture, quiet_opencv
from vosmodels.support.outputs import is_film
from vosmodels.types import U8

# The codecs of a film by its suffix, the best first; not every OpenCV has an encoder for H.264.
H264, MPEG4 = "avc1", "mp4v"
CODECS = {".mp4": (H264, MPEG4), ".mov": (H264, MPEG4), ".avi": ("XVID",)}
LARGEST_BASE = 65535  # of MPEG-4's clock, in which a rate is a fraction
DECIMALS = 3  # of a rate, which OpenCV takes to a thousandth


class Sink(Protocol):
    """A writer of frames and masks, called in the order of the frames."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of what is written."""
        ...

    def write(self, name: str, frame: U8, ids: U8) -> None:
        """Write a frame (H, W, 3) RGB with its ids (H, W) under its name."""
        ...


@contextmanager
def open_sink(out: Path, rate: float, size: tuple[int, int]) -> Iterator[Sink]:
    """Open a folder for palette PNG, or an overlay film, for writing.

    rate: frames per second; size (H, W): of every frame. What a film needs is asked for at once,
    and the film appears under its name only when it is complete. Raises InputError if it cannot be
    written.
    """
    if not is_film(out):
        yield _Masks(out)
        return
    scratch = out.absolute().with_name(f".{uuid.uuid4().hex}.part{out.suffix.lower()}")
    try:
        with _telling(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        film = _Film(out, scratch, rate, size)
        yield film
        with _telling(out):
            film.close()
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _telling(path: Path, tail: str = "") -> Iterator[None]:
    """Turn an OSError into an InputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}){tail}") from error


class _Masks:
    """A folder of palette PNG; each appears under its name only when it is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()

    @property
    def notes(self) -> tuple[str, ...]:
        others = sorted(p.name for p in self._folder.glob("*.png") if p.name not in self._written)
        if not others:
            return ()
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        return (
            f"{self._folder}: {len(others)} PNG of another run beside those of this one ({shown}); "
            "take them out before the masks are scored",
        )

    def write(self, name: str, frame: U8, ids: U8) -> None:
        path, scratch = self._folder / f"{name}.png", self._folder / f".{os.getpid()}.part"
        try:
            with _telling(path, f"; the {len(self._written)} masks before it are whole"):
                self._folder.mkdir(parents=True, exist_ok=True)
                write_palette(scratch, ids)
                scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
        self._written.add(path.name)


class _Film:
    """An overlay film, written under another name first."""

    def __init__(self, out: Path, scratch: Path, rate: float, size: tuple[int, int]) -> None:
        self._out, self._scratch = out, scratch
        self._rate = container_rate(rate)
        self._count = 0
        self._even = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._codec, self._writer = self._open()
        self.notes = (*self._rate_notes(rate), *self._size_notes(size), *self._codec_notes())

    def _open(self) -> tuple[str, Any]:
        with quiet_opencv():
            for codec in CODECS[self._scratch.suffix]:
                code = cv2.VideoWriter.fourcc(*codec)
                writer = cv2.VideoWriter(str(self._scratch), code, self._rate, self._even[::-1])
                if writer.isOpened():
                    return codec, writer
        raise InputError(
            f"{self._out}: no film of {self._even[1]}x{self._even[0]} at {self._rate:g} frames a "
            "second can be written here; give a folder, and make the film of its masks elsewhere"
        )

    def write(self, name: str, frame: U8, ids: U8) -> None:
        picture = cv2.cvtColor(overlay(frame, ids), cv2.COLOR_RGB2BGR)
        below, right = self._even[0] - picture.shape[0], self._even[1] - picture.shape[1]
        if below or right:
            picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        self._writer.write(picture)
        self._count += 1

    def close(self) -> None:
        """Complete the film, and see that every frame is in it, before it gets its name.

        OpenCV does not tell whether a frame could be written.
        """
        self._writer.release()
        film = capture(self._scratch)
        count = film.get(cv2.CAP_PROP_FRAME_COUNT) if film.isOpened() else 0.0
        film.release()
        if count != self._count:
            raise InputError(
                f"{self._out}: {max(count, 0):.0f} of {self._count} frames could be written, and "
                "nothing is kept; is the disk full? Make room, or give another place"
            )
        self._scratch.replace(self._out)

    def _rate_notes(self, rate: float) -> tuple[str, ...]:
        if abs(self._rate - rate) <= 10**-DECIMALS:
            return ()
        return (f"{self._out}: {self._rate:g} frames a second, as no film takes {rate:g}",)

    def _size_notes(self, size: tuple[int, int]) -> tuple[str, ...]:
        if self._even == size:
            return ()
        return (
            f"{self._out}: {self._even[1]}x{self._even[0]} pixels, as a film has even sides: the "
            f"last row or column of {size[1]}x{size[0]} is there twice",
        )

    def _codec_notes(self) -> tuple[str, ...]:
        if self._codec == H264:
            return ()
        better = self._out.with_name(f"{self._out.stem}-h264.mp4")
        source, target = (shlex.quote(str(path)) for path in (self._out, better))
        return (
            f"{self._out}: written as MPEG-4 Part 2, which browsers do not play, as OpenCV has no "
            f"H.264 for {self._scratch.suffix} here; to convert: ffmpeg -i {source} -c:v libx264 "
            f"-pix_fmt yuv420p {target}",
        )


def container_rate(rate: float) -> float:
    """Return the nearest rate, in frames per second, that a film can have.

    MPEG-4 takes a fraction whose numbers are at most 65535, and OpenCV writes decimal fractions.
    """
    decimals = min(DECIMALS, math.floor(math.log10(LARGEST_BASE / rate)))
    return float(np.round(rate, decimals))
