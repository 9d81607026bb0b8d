"""Segment a film or a folder of pictures, and write masks or an overlay film."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vosmodels.data.first_mask import MaskReport, judge_first_mask
from vosmodels.data.frames import frame_tensor
from vosmodels.data.listing import IMAGE_SUFFIXES
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.errors import InputError
from vosmodels.inference.box_mask import mask_of_boxes
from vosmodels.inference.fold import for_inference
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.inference.sinks import Sink, open_sink
from vosmodels.inference.video import Video, open_video
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.support.boxes import Box
from vosmodels.types import U8, Segmenter


@dataclass(frozen=True)
class Task:
    """A video and its first mask (H, W), both judged, before a model is loaded."""

    video: Video
    first: U8
    report: MaskReport


@dataclass(frozen=True)
class Followed:
    """The result of following a video: frames, seconds, notes, and frames that are missing."""

    frames: int
    seconds: float
    notes: tuple[str, ...]
    shortage: str | None


def prepare_boxes(video: Path, boxes: Sequence[Box], mask: Path) -> Task:
    """Open a video and cut out what is in the boxes of its first frame.

    mask: what the cut is called in messages. Raises InputError on a video or a box that cannot be
    used.
    """
    opened = open_video(video)
    name, frame = next(opened.frames)
    first = mask_of_boxes(frame, boxes)
    frames = itertools.chain([(name, frame)], opened.frames)
    return Task(replace(opened, frames=frames), first, judge_first_mask(mask, first))


def keep_first(task: Task, mask: Path) -> None:
    """Write a task's first mask as palette PNG. Raises InputError if it cannot be written."""
    try:
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_palette(mask, task.first)
    except OSError as error:
        raise InputError(f"{mask}: cannot be written ({error.strerror or error})") from error


def prepare(video: Path, mask: Path) -> Task:
    """Open a video and read its first mask, and see that the mask can be followed.

    video: a film or a folder of pictures; mask: palette PNG of the first frame. Raises InputError
    on a video or a mask that cannot be used.
    """
    among = video.is_dir() and mask.resolve().parent.samefile(video)
    if among and mask.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{mask}: the mask lies among the video's pictures, and would be a frame; move it"
        )
    first = read_mask(mask)
    report = judge_first_mask(mask, first)
    opened = open_video(video)
    if first.shape != opened.size:
        raise InputError(
            f"{mask}: the mask is {_size(first.shape)}, the video {_size(opened.size)}; "
            "draw the mask at the size of the first frame"
        )
    return Task(opened, first, report)


def scaled_segmenter(
    model: VideoModel, rows: int, memory: MemoryRule | None = None
) -> ScaledSegmenter:
    """Make a segmenter that shows the model `rows` rows of a frame.

    memory: in place of the model's own rule.
    """
    options = {"memory": memory} if memory else {}
    return ScaledSegmenter(VideoSegmenter(for_inference(model), **options), rows)


def segment_video(segmenter: Segmenter, task: Task, out: Path) -> Followed:
    """Follow the objects of a first mask through a video and write what is found to `out`.

    out: a folder for palette PNG, or an overlay film. Raises InputError on a frame that cannot be
    read or has another size, and if `out` cannot be written.
    """
    with open_sink(out, task.video.rate, task.video.size) as sink:
        frames, seconds = follow(segmenter, task.video.frames, task.first, sink)
    return Followed(frames, seconds, sink.notes, task.video.shortage(frames))


def follow(
    segmenter: Segmenter, frames: Iterator[tuple[str, U8]], first: U8, sink: Sink
) -> tuple[int, float]:
    """Segment every frame, pass it to `sink`, and return the frame count and seconds.

    first: (H, W) ids of the first frame. The seconds are the segmenter's alone. Raises InputError
    if a frame has another size.
    """
    count, seconds = 0, 0.0
    live = sys.stderr.isatty()
    for name, frame in frames:
        if first.shape != frame.shape[:2]:
            raise InputError(
                f"frame {name} is {_size(frame.shape)}, those before "
                f"{_size(first.shape)}; a video has one size"
            )
        mask = None if count else torch.from_numpy(first.astype(np.int64))
        started = time.perf_counter()
        ids = segmenter.step(frame_tensor(frame), mask).cpu()
        seconds += time.perf_counter() - started
        sink.write(name, frame, ids.numpy().astype(np.uint8))
        count += 1
        if live and count % 50 == 0:
            print(f"\r{count} frames, {count / seconds:.1f} a second", end="", file=sys.stderr)
    if live and count >= 50:
        print(file=sys.stderr)
    return count, seconds


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
