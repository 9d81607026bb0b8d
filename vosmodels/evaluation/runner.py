"""Run a segmenter over videos and score the masks as DAVIS or YouTube-VOS does.

DAVIS: the mask of the first frame is given and its ids are the objects. The first and the last
frame of a video are not scored; J and F are means over a video's frames, then over all objects
(DAVIS-2017, Pont-Tuset et al., arXiv:1704.00675, section 3; with one object per video this equals
DAVIS-2016's mean over videos). YouTube-VOS (arXiv:1809.03327): each object is given in the frame
where the object begins and scored on later labelled frames. Only train has these, so other splits
have no scores here. The server's G is the mean of four numbers: J and F of the objects of
categories seen in training, and of those unseen. G is computed if the videos tell which objects are
unseen, as those of offline_val do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from vosmodels.data.frames import (
    frame_tensor,
    given_mask,
    scaled_frame,
    scaled_mask,
    visited_frames,
)
from vosmodels.data.masks import read_mask
from vosmodels.errors import InputError
from vosmodels.evaluation.annotations import MIN_FRAMES, AnnotatedVideo, annotated
from vosmodels.evaluation.scores import Scores, SequenceScore, Tally
from vosmodels.support.processes import helpers
from vosmodels.types import U8, ScoredVideo, Segmenter

FRAMES_A_WORKER = 1500  # fewer are read and scored in less time than another process starts in

Place = TypeVar("Place", int, str)  # a frame's place in its video: its number or its file's stem
OnMask = Callable[[str, int, U8], None]
OnScored = Callable[[U8, U8, Sequence[int]], None]


class FirstFrameCopy:
    """The baseline row of every table: repeats the given masks on every frame."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the given ids (H, W); ValueError if the first frame has no mask.

        A later `mask` adds its objects to those given before.
        """
        if mask is not None and self._mask is not None:
            self._mask = torch.where(mask > 0, mask, self._mask)
        elif mask is not None:
            self._mask = mask
        if self._mask is None:
            raise ValueError(f"mask is None on the first frame, of shape {tuple(frame.shape)}")
        return self._mask


def evaluate(
    segmenter_factory: Callable[[], Segmenter],
    sequences: Sequence[ScoredVideo],
    *,
    height: int | None = None,
    stride: int = 1,
    on_mask: OnMask | None = None,
    on_scored: OnScored | None = None,
) -> Scores:
    """Run a new segmenter over each video and score the predicted masks.

    height: scale frames and masks down to so many rows, keeping the aspect; None is full size.
    stride: evaluate every `stride`-th frame and each frame where an object first appears; skip the
    rest. The visited frames after the first are scored, in DAVIS without the last.
    on_mask(name, frame number, ids (H, W) uint8) is called with the prediction on every visited
    frame; on_scored(truth, prediction, object ids) on every scored frame, with the objects scored
    on that frame.

    Raises InputError on a video without objects in frame 0, with frames of several sizes, or, in
    DAVIS, with fewer than three visited frames; ValueError on no videos, or a height or stride
    below one.
    """
    if not sequences or stride < 1 or (height is not None and height < 1):
        raise ValueError(
            f"{len(sequences)} sequences, height {height}, stride {stride}: at least 1 of each"
        )
    results, seconds, frames = [], 0.0, 0
    for sequence in sequences:
        visited = visited_frames(sequence, stride)
        if not sequence.last_counts and len(visited) < MIN_FRAMES:
            raise InputError(
                f"{sequence.name}: {len(sequence)} frames at stride {stride} leave nothing to "
                f"score; wanted at least {MIN_FRAMES}, as the first and the last are not scored"
            )
        segmenter = segmenter_factory()
        begins = sequence.begins
        tally = Tally(begins)
        scored = set(visited if sequence.last_counts else visited[:-1]) & set(sequence.judged)
        size = None
        for number in visited:
            mask = given_mask(sequence, number, height)
            frame = frame_tensor(scaled_frame(sequence, number, height))
            size = size or frame.shape
            if frame.shape != size:
                raise InputError(
                    f"{sequence.name}: frame {number} is {frame.shape[2]}x{frame.shape[1]}, the "
                    f"first {size[2]}x{size[1]}; a video has one size: scale its frames and masks"
                )
            start = time.perf_counter()
            prediction = segmenter.step(frame, mask).cpu()  # waits for the device
            seconds += time.perf_counter() - start
            frames += 1
            ids = prediction.numpy().astype(np.uint8)
            if on_mask is not None:
                on_mask(sequence.name, number, ids)
            if number in scored and (followed := _following(begins, number)):
                truth = scaled_mask(sequence, number, height)
                tally.add(truth, ids, followed)
                if on_scored is not None:
                    on_scored(truth, ids, followed)
        if objects := tally.scores():
            results.append(SequenceScore(sequence.name, objects, sequence.unseen))
    return Scores(tuple(results), frames / seconds)


def _following(begins: Mapping[int, Place], place: Place) -> list[int]:
    """Return the objects that began before the frame at `place`."""
    return [i for i, first in begins.items() if first < place]


def score_folders(
    masks: Path, annotations: Path, *, merge: bool = False, workers: int | None = None
) -> Scores:
    """Score masks on disk; both folders hold a folder of PNG masks for each video.

    The videos in `masks` are scored on the annotated frames that the benchmark scores. DAVIS: all
    but the first and the last, for which no mask is needed. YouTube-VOS, recognised by the
    meta.json beside `annotations`: the frames that meta.json lists. merge: all ids are one object
    (DAVIS-2016). workers: number of processes, 1 for this process alone; None for one per usable
    core, as far as FRAMES_A_WORKER frames are there for each. The number of workers changes neither
    the scores nor their order.
    Raises InputError that names all missing folders and frames at once, or a mask of another size;
    ValueError on fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers {workers}: at least 1, or None for what the machine has")
    names = [p.name for p in sorted(masks.iterdir()) if p.is_dir()] if masks.is_dir() else []
    if not names:
        raise InputError(f"{masks}: no folder with a folder of PNG masks for each video")
    videos, problems = annotated(annotations, names, merge=merge)
    problems += [
        f"{masks / video.name / path.name}: no such mask"
        for video in videos
        for path in video.judged
        if not (masks / video.name / path.name).is_file()
    ]
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError(f"cannot score {masks}: {'; '.join(problems[:10])}{more}")
    if workers is None:
        affordable = sum(len(video.judged) for video in videos) // FRAMES_A_WORKER
        workers = min(len(os.sched_getaffinity(0)), affordable)
    return Scores(tuple(_score_videos(masks, videos, min(workers, len(videos)))))


def _score_videos(
    masks: Path, videos: Sequence[AnnotatedVideo], workers: int
) -> list[SequenceScore]:
    """Score every video; returns the scores in the order of `videos`."""
    folders = [masks / video.name for video in videos]
    if workers < 2:
        return list(map(_score_folder, folders, videos))
    with helpers(workers) as pool:
        return list(pool.map(_score_folder, folders, videos))


def _score_folder(masks: Path, video: AnnotatedVideo) -> SequenceScore:
    tally = Tally(video.begins)
    for path in video.judged:
        truth = read_mask(path, merge=video.merge)
        prediction = read_mask(masks / path.name, merge=video.merge)
        if truth.shape != prediction.shape:
            raise InputError(
                f"{masks / path.name}: {prediction.shape[1]}x{prediction.shape[0]} pixels, "
                f"its annotation has {truth.shape[1]}x{truth.shape[0]}; save it at that size"
            )
        tally.add(truth, prediction, _following(video.begins, path.stem))
    return SequenceScore(video.name, tally.scores(), video.unseen)
