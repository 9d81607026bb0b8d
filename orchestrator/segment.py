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

from orchestrator.references import find
from vosmodels import checkpoint, console
from vosmodels.data.images import IMAGE_SUFFIXES, read_frame
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.evaluation.overlay import overlay
from vosmodels.evaluation.runner import Segmenter, frame_tensor
from vosmodels.folding import for_inference
from vosmodels.inference import VideoSegmenter
from vosmodels.scaled import ScaledSegmenter
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
        found = find(args.checkpoint, args.tracking_uri)
        model, _ = checkpoint.load_model(found.path)
        out = args.out or args.video.with_name(f"{args.video.stem}-masks")
        first = read_mask(args.mask)
        frames, rate = open_video(args.video)
        segmenter = ScaledSegmenter(VideoSegmenter(for_inference(model)), args.height)
        with _sink(out, rate) as sink:
            count, seconds = follow(segmenter, frames, first, sink)
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


def follow(segmenter: Segmenter, frames: Iterator[U8], first: U8, sink: Sink) -> tuple[int, float]:
    """Segment every frame; number of frames and seconds that took."""
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
        given = None if index else torch.from_numpy(first.astype(np.int64))
        started = time.perf_counter()
        ids = segmenter.step(frame_tensor(frame), given).cpu()
        seconds += time.perf_counter() - started
        sink(index, frame, ids.numpy().astype(np.uint8))
        count += 1
        if count % 50 == 0:
            print(f"\r{count} frames, {count / seconds:.1f} a second", end="", file=sys.stderr)
    if count == 0:
        raise InputError("the video has no frame that can be read")
    print(file=sys.stderr)
    return count, seconds


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
