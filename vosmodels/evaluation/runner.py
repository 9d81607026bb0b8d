"""A segmenter run over videos, and its scores by the protocol of DAVIS or of YouTube-VOS.

DAVIS: the first frame's mask is given; objects are its ids. The first and the last frame of a video
are not scored; J and F are means over a video's frames, then over all objects (DAVIS-2017,
Pont-Tuset et al., arXiv:1704.00675, section 3; with one object a video that is DAVIS-2016's mean
over videos). YouTube-VOS (arXiv:1809.03327): each object is given in the frame where it begins and
scored on the labelled frames after that one; only train has them, other splits have no scores here.
Its server's G is the mean of four: J and F of the objects of categories seen in training, and of
those unseen. It comes out where the videos know of each object which it is, as offline_val's do.
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

FRAMES_A_WORKER = 1500  # fewer are read and scored sooner than another process has started

Place = TypeVar("Place", int, str)  # of a frame in its video: its number or its file's stem
OnScored = Callable[[U8, U8, Sequence[int]], None]


class FirstFrameCopy:
    """The anchor row of every table: the given masks again on every frame."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Raises ValueError where the first frame comes without a mask."""
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
    on_mask: Callable[[str, int, U8], None] | None = None,
    on_scored: OnScored | None = None,
) -> Scores:
    """Run a new segmenter over each video and score what it says.

    height: frames and masks are scaled down to so many rows, aspect kept; None is full size.
    stride: every so-manieth frame is visited and those where an object begins, the others do not
    exist; scored are the visited ones after the first, in DAVIS without the last.
    on_mask(name, frame number, (H, W) uint8 ids) sees every visited frame's answer;
    on_scored(truth, answer, object ids) every frame that counts, with those it counts for.

    Raises InputError on a video without objects in frame 0, of frames of several sizes, or of DAVIS
    with fewer than three visited frames; ValueError on no videos or sizes below one.
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
            given = given_mask(sequence, number, height)
            seen = frame_tensor(scaled_frame(sequence, number, height))
            size = size or seen.shape
            if seen.shape != size:
                raise InputError(
                    f"{sequence.name}: frame {number} is {seen.shape[2]}x{seen.shape[1]}, the "
                    f"first {size[2]}x{size[1]}; a video has one size: scale its frames and masks"
                )
            start = time.perf_counter()
            answer = segmenter.step(seen, given).cpu()  # waits for the device
            seconds += time.perf_counter() - start
            frames += 1
            ids = answer.numpy().astype(np.uint8)
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
    """The objects that began before a frame, by number or by stem."""
    return [i for i, first in begins.items() if first < place]


def score_folders(
    masks: Path, annotations: Path, *, merge: bool = False, workers: int | None = None
) -> Scores:
    """Scores of masks on disk: in both folders a folder of PNG for each video.

    Scored are the videos found in `masks`, on the frames that count among those in `annotations`:
    of DAVIS all but the first and the last, which need no mask; of YouTube-VOS, known by the
    meta.json beside `annotations`, those it lists. merge: all ids are one object (DAVIS-2016).
    workers: processes that score a video each, 1 is this one; None is one for each usable core, as
    far as there are frames enough to pay for its start. The scores and their order are the same.
    Raises InputError that names all missing folders and frames at once, and masks of another size,
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
    """Every video's scores, in their order."""
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
