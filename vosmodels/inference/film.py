"""Segment a film or a folder of pictures, and write masks or an overlay film."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch

from vosmodels.data.frames import frame_tensor
from vosmodels.data.images import read_frame
from vosmodels.data.listing import IMAGE_SUFFIXES
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.data.overlay import overlay
from vosmodels.errors import InputError
from vosmodels.inference.fold import for_inference
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel
from vosmodels.types import U8, Segmenter

FILM = ".mp4"


class Sink(Protocol):
    """A writer of frames and masks, called in the order of the frames."""

    def __call__(self, index: int, frame: U8, ids: U8) -> None:
        """Write frame `index` (H, W, 3) RGB with its ids (H, W)."""
        ...


def segment_video(
    model: VideoModel, video: Path, mask: Path, out: Path, rows: int
) -> tuple[int, float]:
    """Follow the objects of a first mask through a video and write what is found to `out`.

    video: a film or a folder of pictures; mask: palette PNG of the first frame; out: a folder for
    palette PNG, or an overlay film (.mp4); rows: rows the network sees.
    Returns the number of frames and the seconds that segmenting took. Raises InputError on a video
    or a mask that cannot be used.
    """
    first = read_mask(mask)
    frames, rate = open_video(video)
    segmenter = ScaledSegmenter(VideoSegmenter(for_inference(model)), rows)
    with open_sink(out, rate) as sink:
        return follow(segmenter, frames, first, sink)


def open_video(path: Path) -> tuple[Iterator[U8], float]:
    """Open a film or a folder of pictures; return its frames and its rate.

    Frames are (H, W, 3) uint8 RGB; the rate is in frames per second, 24 for pictures. Raises
    InputError if there is no picture or the film cannot be opened.
    """
    if path.is_dir():
        pictures = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not pictures:
            raise InputError(f"{path}: no pictures ({', '.join(IMAGE_SUFFIXES)}) in this folder")
        return (read_frame(p) for p in pictures), 24.0
    if not path.is_file():
        raise InputError(f"{path}: no such video; give a film or a folder of pictures")
    film = cv2.VideoCapture(str(path))
    if not film.isOpened():
        raise InputError(f"{path}: cannot be opened as a video; try mp4 (H.264), or pictures")
    return _frames_of(film), film.get(cv2.CAP_PROP_FPS) or 24.0


def follow(segmenter: Segmenter, frames: Iterator[U8], first: U8, sink: Sink) -> tuple[int, float]:
    """Segment every frame, pass it to `sink`, and return the frame count and seconds.

    first: (H, W) ids of the first frame. The seconds are the segmenter's alone. Raises InputError
    if there is no frame, or frames or mask differ in size.
    """
    count, seconds = 0, 0.0
    for index, frame in enumerate(frames):
        full = frame.shape[:2]
        if first.shape != full:
            sizes = f"{first.shape[1]}x{first.shape[0]}", f"{full[1]}x{full[0]}"
            raise InputError(
                f"frame {index} is {sizes[1]}, those before {sizes[0]}; a video has one size"
                if index
                else f"the mask is {sizes[0]}, the video {sizes[1]}; "
                "draw the mask at the size of the first frame"
            )
        mask = None if index else torch.from_numpy(first.astype(np.int64))
        started = time.perf_counter()
        ids = segmenter.step(frame_tensor(frame), mask).cpu()
        seconds += time.perf_counter() - started
        sink(index, frame, ids.numpy().astype(np.uint8))
        count += 1
        if count % 50 == 0:
            print(f"\r{count} frames, {count / seconds:.1f} a second", end="", file=sys.stderr)
    if count == 0:
        raise InputError("the video has no frame that can be read")
    print(file=sys.stderr)
    return count, seconds


def _frames_of(film: Any) -> Iterator[U8]:
    try:
        while True:
            success, frame = film.read()
            if not success:
                return
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        film.release()


@contextmanager
def open_sink(out: Path, rate: float) -> Iterator[Sink]:
    """Open a folder for palette PNG, or an .mp4 overlay film, for writing.

    The film appears under its name only when it is complete.
    """
    if out.suffix.lower() != FILM:
        out.mkdir(parents=True, exist_ok=True)
        yield lambda index, frame, ids: write_palette(out / f"{index:05d}.png", ids)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.stem}.part{FILM}")
    writer: list[Any] = []

    def write(index: int, frame: U8, ids: U8) -> None:
        if not writer:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer.append(cv2.VideoWriter(str(scratch), code, rate, frame.shape[1::-1]))
        writer[0].write(cv2.cvtColor(overlay(frame, ids), cv2.COLOR_RGB2BGR))

    try:
        yield write
        if writer:
            writer[0].release()
            scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
