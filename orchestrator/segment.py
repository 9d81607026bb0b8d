"""`python -m orchestrator.segment`: follow objects through a person's own video."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.nn import functional

from orchestrator.config import ConfigError
from orchestrator.references import find
from vosmodels import checkpoint, console
from vosmodels.data.images import IMAGE_SUFFIXES, read_frame
from vosmodels.data.masks import read_mask, resize_ids, write_palette
from vosmodels.evaluation.overlay import overlay
from vosmodels.evaluation.runner import frame_tensor
from vosmodels.folding import for_inference
from vosmodels.inference import VideoSegmenter
from vosmodels.types import U8, InputError

MODULE = "orchestrator.segment"
FILM = ".mp4"


class Sink(Protocol):
    """Takes frames with their masks, in order."""

    def __call__(self, index: int, frame: U8, ids: U8) -> None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "Follow the objects of a first mask through a video, in constant memory.",
        f"python -m {MODULE} --checkpoint mlflow:omega --video clip.mp4 --mask first.png "
        "--out clip-masked.mp4",
        tracking=True,
    )
    parser.add_argument("--checkpoint", metavar="REF", required=True)
    parser.add_argument("--video", metavar="FILE|DIR", type=Path, required=True)
    parser.add_argument("--mask", metavar="FIRST.png", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, help="a folder for palette PNG, or a .mp4 film; default: VIDEO-masks"
    )
    parser.add_argument(
        "--height", type=int, default=480, help="rows the network sees, 16 or more; default 480"
    )

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.height < 16:
            raise ConfigError([f"--height {args.height}: 16 or more"])
        found = find(args.checkpoint, args.tracking_uri)
        model, _ = checkpoint.load_model(found.path)
        out = args.out or args.video.with_name(f"{args.video.stem}-masks")
        first = read_mask(args.mask)
        frames, rate = open_video(args.video)
        with _sink(out, rate) as sink:
            segmenter = VideoSegmenter(for_inference(model))
            count, seconds = follow(segmenter, frames, first, args.height, sink)
        told = {
            "out": str(out),
            "frames": count,
            "fps": count / seconds,
            "height": args.height,
            "device": "cpu",
            "checkpoint": found.told,
        }
        if not args.json:
            print(found.told)
            print(
                f"{count} frames to {out}: {count / seconds:.1f} frames a second at "
                f"{args.height} rows, on the CPU"
            )
        return told

    return console.run(parser, argv, work)


def open_video(path: Path) -> tuple[Iterator[U8], float]:
    """Frames (H, W, 3) RGB one by one, and frames a second; a folder of pictures has 24."""
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


def _frames_of(film: Any) -> Iterator[U8]:
    try:
        while True:
            there, frame = film.read()
            if not there:
                return
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        film.release()


def follow(
    segmenter: VideoSegmenter, frames: Iterator[U8], first: U8, height: int, sink: Sink
) -> tuple[int, float]:
    """Segment every frame; number of frames and seconds in the network.

    The network sees `height` rows, never more than the video has; probabilities are scaled back
    to the video's size, bilinearly, before the best object of each pixel is taken.
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
                "draw the mask on the first frame as it is"
            )
        rows = min(height, full[0])
        columns = max(16, round(full[1] * rows / full[0]))
        small = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_AREA)
        given = resize_ids(first, rows, columns).astype(np.int64) if index == 0 else None
        if given is not None and not given.any():
            raise InputError(
                f"the mask holds no object at {rows} rows, so nothing to follow; draw ids above 0"
                + (", or give a larger --height" if first.any() else "")
            )
        seen = frame_tensor(np.asarray(small, dtype=np.uint8))
        started = time.perf_counter()
        segmenter.step(seen, None if given is None else torch.from_numpy(given))
        seconds += time.perf_counter() - started
        sink(index, frame, first if index == 0 else _full_size(segmenter, full))
        count += 1
        if count % 50 == 0:
            print(f"\r{count} frames, {count / seconds:.1f} a second", end="", file=sys.stderr)
    if count == 0:
        raise InputError("the video has no frame that can be read")
    print(file=sys.stderr)
    return count, seconds


def _full_size(segmenter: VideoSegmenter, size: tuple[int, int]) -> U8:
    probabilities = functional.interpolate(
        segmenter.probabilities[None], size=size, mode="bilinear", align_corners=False
    )[0]
    ids = np.array([0, *segmenter.ids], dtype=np.uint8)
    best: U8 = ids[probabilities.argmax(0).cpu().numpy()]
    return best


@contextmanager
def _sink(out: Path, rate: float) -> Iterator[Sink]:
    """A folder of palette PNG, or an overlay film; the film appears under its name when whole."""
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


if __name__ == "__main__":
    sys.exit(main())
