"""A segmenter run over videos, and its scores by the DAVIS protocol.

The first frame's mask is given; objects are its ids. The first and the last frame of a video are
not scored; J and F are means over a video's frames, then over all objects (DAVIS-2017, Pont-Tuset
et al., arXiv:1704.00675, section 3; with one object a video that is DAVIS-2016's mean over videos).
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vosmodels.data.masks import object_ids, read_mask, resize_ids
from vosmodels.evaluation.metrics import Statistics, frame_scores, statistics
from vosmodels.types import U8, InputError, VideoSequence

MIN_FRAMES = 3  # the first and the last are not scored
FRAMES_A_WORKER = 1500  # fewer are read and scored sooner than another process has started


class Segmenter(Protocol):
    """One video, frame by frame."""

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """frame (3, H, W) float in [0, 1]; mask (H, W) int64 ids on the first -> (H, W) int64."""
        ...


class FirstFrameCopy:
    """The anchor row of every table: the given mask again on every frame."""

    def __init__(self) -> None:
        self._mask: Tensor | None = None

    def step(self, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        """Raises ValueError where the first frame comes without a mask."""
        if mask is not None:
            self._mask = mask
        if self._mask is None:
            raise ValueError(f"mask is None on the first frame, of shape {tuple(frame.shape)}")
        return self._mask


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, one value for each scored frame."""

    j_frames: tuple[float, ...]
    f_frames: tuple[float, ...]

    @property
    def j(self) -> float:
        return float(np.mean(self.j_frames))

    @property
    def f(self) -> float:
        return float(np.mean(self.f_frames))

    @property
    def j_statistics(self) -> Statistics:
        return statistics(np.array(self.j_frames))

    @property
    def f_statistics(self) -> Statistics:
        return statistics(np.array(self.f_frames))


@dataclass(frozen=True)
class SequenceScore:
    """Scores of one video by object id; j, f, jf are means over its objects."""

    name: str
    objects: Mapping[int, ObjectScore]

    @property
    def j(self) -> float:
        return float(np.mean([score.j for score in self.objects.values()]))

    @property
    def f(self) -> float:
        return float(np.mean([score.f for score in self.objects.values()]))

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Scores:
    """Scores of several videos; j, f, jf are means over all objects, not over videos.

    fps: frames a second of segmentation alone; None where masks were scored that were there.
    """

    sequences: tuple[SequenceScore, ...]
    fps: float | None = None

    @property
    def j(self) -> float:
        return float(np.mean([score.j for score in self._objects()]))

    @property
    def f(self) -> float:
        return float(np.mean([score.f for score in self._objects()]))

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: `mean`, `sequences` by name, `objects` by id in each, `fps` if measured."""
        result: dict[str, Any] = {
            "mean": {"j": self.j, "f": self.f, "jf": self.jf},
            "sequences": {
                sequence.name: {
                    "objects": {
                        str(number): {
                            "J": vars(score.j_statistics),
                            "F": vars(score.f_statistics),
                            "J_frames": list(score.j_frames),
                            "F_frames": list(score.f_frames),
                        }
                        for number, score in sequence.objects.items()
                    }
                }
                for sequence in self.sequences
            },
        }
        return result if self.fps is None else result | {"fps": self.fps}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Inverse of `as_dict`; means and statistics are computed again from the frames."""
        return cls(
            tuple(
                SequenceScore(
                    name,
                    {
                        int(number): ObjectScore(tuple(o["J_frames"]), tuple(o["F_frames"]))
                        for number, o in sequence["objects"].items()
                    },
                )
                for name, sequence in values["sequences"].items()
            ),
            values.get("fps"),
        )

    def _objects(self) -> list[ObjectScore]:
        return [score for sequence in self.sequences for score in sequence.objects.values()]


def evaluate(
    segmenter_factory: Callable[[], Segmenter],
    sequences: Sequence[VideoSequence],
    *,
    height: int | None = None,
    stride: int = 1,
    on_mask: Callable[[str, int, U8], None] | None = None,
) -> Scores:
    """Run a new segmenter over each video and score what it says.

    height: frames and masks are scaled down to so many rows, aspect kept; None is full size.
    stride: every so-manieth frame is visited, the others do not exist; scored are the visited ones
    but the first and the last.
    on_mask(name, frame number, (H, W) uint8 ids) sees every visited frame's answer.

    Raises InputError on a video without objects in frame 0 or with fewer than three visited frames,
    ValueError on no videos or sizes below one.
    """
    if not sequences or stride < 1 or (height is not None and height < 1):
        raise ValueError(
            f"{len(sequences)} sequences, height {height}, stride {stride}: at least 1 of each"
        )
    results, seconds, frames = [], 0.0, 0
    for sequence in sequences:
        visited = range(0, len(sequence), stride)
        if len(visited) < MIN_FRAMES:
            raise InputError(
                f"{sequence.name}: {len(sequence)} frames at stride {stride} leave nothing to "
                f"score; wanted at least {MIN_FRAMES}, as the first and the last are not scored"
            )
        segmenter = segmenter_factory()
        tally = _Tally(sequence.ids)
        for number in visited:
            frame, truth = scaled(sequence, number, height)
            if number == 0 and not truth.any():
                raise InputError(
                    f"{sequence.name}: no object in the first mask at {truth.shape[0]} rows, so "
                    "nothing to follow; take it out of the split, or score at a larger height"
                )
            given = torch.from_numpy(truth.astype(np.int64)) if number == 0 else None
            seen = frame_tensor(frame)
            start = time.perf_counter()
            answer = segmenter.step(seen, given).cpu()  # waits for the device
            seconds += time.perf_counter() - start
            frames += 1
            ids = answer.numpy().astype(np.uint8)
            if on_mask is not None:
                on_mask(sequence.name, number, ids)
            if 0 < number < visited[-1]:
                tally.add(truth, ids)
        results.append(SequenceScore(sequence.name, tally.scores()))
    return Scores(tuple(results), frames / seconds)


def score_masks(truth: NDArray[Any], prediction: NDArray[Any]) -> dict[int, ObjectScore]:
    """Scores by object id of one whole video: (T, H, W) ids each, T >= 3.

    Objects are the ids of truth[0]; the first and the last frame are left out here.
    Raises ValueError where the shapes differ or there is nothing to score.
    """
    if truth.shape != prediction.shape or truth.ndim != 3 or len(truth) < MIN_FRAMES:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape}: "
            f"wanted one shape (T, H, W) with T >= {MIN_FRAMES}"
        )
    tally = _Tally(object_ids(truth[0]))
    for of_truth, of_prediction in zip(truth[1:-1], prediction[1:-1], strict=True):
        tally.add(of_truth, of_prediction)
    return tally.scores()


def score_folders(
    masks: Path, annotations: Path, *, merge: bool = False, workers: int | None = None
) -> Scores:
    """Scores of masks on disk: in both folders a folder of PNG for each video.

    Scored are the videos found in `masks`, on the frames found in `annotations`, whose first and
    last need no mask. merge: all ids are one object (DAVIS-2016).
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
    frames = {name: sorted((annotations / name).glob("*.png")) for name in names}
    problems = [
        f"{annotations / name}: {len(paths)} PNG, wanted at least {MIN_FRAMES}"
        for name, paths in frames.items()
        if len(paths) < MIN_FRAMES
    ] + [
        f"{masks / name / path.name}: no such mask"
        for name, paths in frames.items()
        for path in paths[1:-1]
        if not (masks / name / path.name).is_file()
    ]
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InputError(f"cannot score {masks}: {'; '.join(problems[:10])}{more}")
    if workers is None:
        affordable = sum(len(paths) for paths in frames.values()) // FRAMES_A_WORKER
        workers = min(len(os.sched_getaffinity(0)), affordable)
    return Scores(tuple(_score_videos(masks, frames, merge, min(workers, len(names)))))


def _score_videos(
    masks: Path, annotations: Mapping[str, list[Path]], merge: bool, workers: int
) -> list[SequenceScore]:
    """Every video's scores, in the order of `annotations`."""
    videos = [masks / name for name in annotations], annotations.values(), repeat(merge)
    if workers < 2:
        return list(map(_score_folder, *videos))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(_score_folder, *videos))


def _score_folder(masks: Path, annotations: list[Path], merge: bool) -> SequenceScore:
    tally = _Tally(object_ids(read_mask(annotations[0], merge=merge)))
    if not tally.ids:
        raise InputError(f"{annotations[0]}: no object in the first mask, so nothing to score")
    for path in annotations[1:-1]:
        truth = read_mask(path, merge=merge)
        prediction = read_mask(masks / path.name, merge=merge)
        if truth.shape != prediction.shape:
            raise InputError(
                f"{masks / path.name}: {prediction.shape[1]}x{prediction.shape[0]} pixels, "
                f"its annotation has {truth.shape[1]}x{truth.shape[0]}; save it at that size"
            )
        tally.add(truth, prediction)
    return SequenceScore(masks.name, tally.scores())


def scaled(sequence: VideoSequence, index: int, height: int | None) -> tuple[U8, U8]:
    """Frame (H, W, 3) and ids (H, W) at `height` rows, aspect kept; never larger than they are."""
    frame, ids = sequence.frame(index), sequence.mask(index)
    if height is None or height >= frame.shape[0]:
        return frame, ids
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8), resize_ids(ids, height, width)


def frame_tensor(frame: U8) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in [0, 1]."""
    return torch.from_numpy(frame).permute(2, 0, 1).float().div_(255).contiguous()


class _Tally:
    """J and F of each object, frame after frame: no video is held in memory."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = tuple(ids)
        self._j: dict[int, list[float]] = {i: [] for i in self.ids}
        self._f: dict[int, list[float]] = {i: [] for i in self.ids}

    def add(self, truth: NDArray[Any], prediction: NDArray[Any]) -> None:
        for i in self.ids:
            j, f = frame_scores(truth == i, prediction == i)
            self._j[i].append(j)
            self._f[i].append(f)

    def scores(self) -> dict[int, ObjectScore]:
        return {i: ObjectScore(tuple(self._j[i]), tuple(self._f[i])) for i in self.ids}
