"""Show the attention of a model in one frame of a video, as files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vosmodels.data.frames import given_mask, scaled_frame, visited_frames
from vosmodels.data.shrink import lost_ids, shrink_ids
from vosmodels.errors import InputError, UsageError
from vosmodels.evaluation.attention_maps import KINDS, Look, attentions_of, look
from vosmodels.evaluation.attention_pictures import panels, sheet, write_small
from vosmodels.inference.film import Task
from vosmodels.inference.video import open_video
from vosmodels.model import VideoModel
from vosmodels.types import U8, AttentionKind, ScoredVideo

FRAME = 10  # the one shown unless another is asked for


@dataclass(frozen=True)
class Asked:
    """What to show of a video.

    frame: its number, from 0; None for FRAME, or the last of a shorter video; rows: that the
    network sees, at most; query: (x, y) in px of the video, None for a key point; obj: the object,
    None for the largest predicted one; kinds, layer: of the attention, as in `look`.
    """

    frame: int | None = None
    rows: int = 480
    query: tuple[float, float] | None = None
    obj: int | None = None
    kinds: tuple[AttentionKind, ...] | None = None
    layer: int = -1


def show_attention(
    model: VideoModel, task: Task, path: Path, out: Path, asked: Asked
) -> dict[str, Any]:
    """Follow a first mask to a frame and write pictures of the attentions there to a folder.

    task: the video at `path` and its first mask. Returns the names of the files, and of every
    attention its frames, query, key points and keys, in px of the video. Raises InputError on a
    frame or an object that is not there, a model without attention, a mask whose objects vanish
    at so few rows; UsageError on a query outside the video.
    """
    rows = min(asked.rows, task.video.size[0])
    h, w = task.video.size
    if asked.query and not (0 <= asked.query[0] <= w - 1 and 0 <= asked.query[1] <= h - 1):
        x, y = asked.query
        raise UsageError(f"--query {x:g},{y:g}: outside the video, which is {w}x{h}")
    kinds = attentions_of(model.watchable) or KINDS if asked.kinds is None else asked.kinds
    looks = look(
        model, _steps(task, rows, asked.frame), kinds=kinds, layer=asked.layer, obj=asked.obj
    )
    wanted = {number for one in looks for number in (one.frame, one.seen_frame)}
    frames = _frames(path, rows, wanted)
    files, attentions = [], []
    for one in looks:
        small_h, small_w = one.ids.shape
        query = None
        if asked.query is not None:
            x, y = asked.query
            query = one.nearest(x * _ratio(small_w, w), y * _ratio(small_h, h))
        pictures = panels(one, frames[one.frame], frames[one.seen_frame], query=query)
        for name, picture in pictures.items():
            file = out / f"{one.kind}-{one.layer}-{name}.png"
            write_small(file, picture)
            files.append(file.name)
        scale = (_ratio(w, small_w), _ratio(h, small_h))
        attentions.append(_numbers(one, query or one.chosen, scale))
    return {
        "files": files,
        "frame": looks[0].frame,
        "object": looks[0].obj,
        "attentions": attentions,
    }


def draw_attention(
    model: VideoModel, video: ScoredVideo, path: Path, *, height: int | None, stride: int
) -> bool:
    """Write one picture of all attentions in the middle of a scored video; tell whether.

    height, stride: as in `runner.evaluate`. A model without attention, or a video of one visited
    frame, has no picture.
    """
    kinds, visited = attentions_of(model.watchable), visited_frames(video, stride)
    if not kinds or len(visited) < 2:
        return False
    shown = visited[: max(2, 1 + len(visited) // 2)]
    steps = ((scaled_frame(video, n, height), given_mask(video, n, height)) for n in shown)
    rows = []
    for found in look(model, steps, kinds=kinds):
        held = tuple(shown[number] for number in found.held)
        one = replace(found, frame=shown[found.frame], held=held)  # numbers of the video
        query, seen = (scaled_frame(video, n, height) for n in (one.frame, one.seen_frame))
        rows.append(panels(one, query, seen))
    write_small(path, sheet(rows))
    return True


def _steps(task: Task, rows: int, number: int | None) -> Iterator[tuple[U8, Tensor | None]]:
    """Yield the frames up to the one to show, and the first mask with the first."""
    count, last = 0, FRAME if number is None else number
    for _, frame in task.video.frames:
        yield _scaled(frame, rows), _first_mask(task.first, rows) if count == 0 else None
        count += 1
        if count > last:
            return
    if number is not None:
        raise InputError(
            f"--frame {number}: the video has {count} frames, 0 to {count - 1}; give one of them"
        )


def _frames(path: Path, rows: int, numbers: set[int]) -> dict[int, U8]:
    """Read some frames of a video anew, scaled."""
    found: dict[int, U8] = {}
    frames = open_video(path).frames
    for number, (_, frame) in enumerate(frames):
        if number in numbers:
            found[number] = _scaled(frame, rows)
        if len(found) == len(numbers):
            break
    return found


def _scaled(frame: U8, rows: int) -> U8:
    """Return a frame (H, W, 3) scaled down to `rows` rows."""
    if rows >= frame.shape[0]:
        return frame
    size = (_width(frame, rows), rows)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _first_mask(first: U8, rows: int) -> Tensor:
    small = first
    if rows < first.shape[0]:
        small = shrink_ids(first, rows, _width(first, rows))
        if lost := lost_ids(first, small):
            raise InputError(
                f"no pixel left at {rows} rows for objects {', '.join(map(str, lost))} of the "
                "mask; give the network more rows"
            )
    return torch.from_numpy(small.astype(np.int64))


def _width(picture: U8, rows: int) -> int:
    height, width = picture.shape[:2]
    return max(1, round(int(width) * rows / int(height)))


def _ratio(side: int, other: int) -> float:
    """Return what a pixel's place in a picture is multiplied by for another one's."""
    return (side - 1) / max(other - 1, 1)


def _numbers(one: Look, query: tuple[int, int], scale: tuple[float, float]) -> dict[str, Any]:
    """Return an attention's figures as JSON-able values, places in px of the video."""

    def place(x: float, y: float) -> list[float]:
        px = one.pixel(x, y)
        return [round(px[0] * scale[0], 1), round(px[1] * scale[1], 1)]

    columns = one.size[1]
    return {
        "attention": one.kind,
        "layer": one.layer,
        "frame": one.seen_frame,
        "remembered": list(one.held),
        "positions": list(one.size),
        "query": place(*query),
        "key_points": [[*place(x, y), round(value, 4)] for x, y, value in one.key_points],
        "keys": [
            {
                "at": place(key % columns, key // columns),
                "sampled": [place(*group) for group in one.places[:, key]],
                "weight": weight,
            }
            for key, weight in one.top_keys(query)
        ],
    }
