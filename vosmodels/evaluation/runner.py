"""Run a segmenter over videos and score the masks as DAVIS or YouTube-VOS does.

DAVIS: the objects are those of the first frame, whose mask is given. An object of the same layout
that appears later, as in a person's own videos, is given where it begins and scored from the next
frame on; the toolkit, whose videos have none, would leave it out. The first and the last
frame of a video are not scored; J and F are means over a video's frames, then over all objects
(DAVIS-2017, Pont-Tuset et al., arXiv:1704.00675, section 3; with one object per video this equals
DAVIS-2016's mean over videos). YouTube-VOS (arXiv:1809.03327): each object is given in the frame
where the object begins and scored on later labelled frames. Only train has these, so other splits
have no scores here. The server's G is the mean of four numbers: J and F of the objects of
categories seen in training, and of those unseen. G is computed if the videos tell which objects are
unseen, as those of offline_val do.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from vosmodels.data.masks import object_ids, read_mask
from vosmodels.data.scorable import too_short
from vosmodels.errors import InputError
from vosmodels.evaluation.annotations import (
    AnnotatedVideo,
    answered,
    asked,
    matched,
)
from vosmodels.evaluation.scores import ObjectScore, PartialScores, Scores, SequenceScore, Tally
from vosmodels.support.messages import together
from vosmodels.support.processes import helpers
from vosmodels.types import U8, ScoredVideo, Segmenter

logger = logging.getLogger(__name__)

FRAMES_A_WORKER = 1500  # fewer are read and scored in less time than another process starts in

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

    Raises InputError as `check_scorable`, before the first video; PartialScores after the last, if
    videos failed on the way, as on a corrupt picture or frames of several sizes; ValueError on no
    videos, or a height or stride below one.
    """
    if not sequences or stride < 1 or (height is not None and height < 1):
        raise ValueError(
            f"{len(sequences)} sequences, height {height}, stride {stride}: at least 1 of each"
        )
    check_scorable(sequences, height=height, stride=stride)
    run = _Run(segmenter_factory, height, stride, on_mask, on_scored)
    results, failed, problems = [], [], []
    for sequence in sequences:
        try:
            objects = run.score(sequence)
        except InputError as error:
            failed.append(sequence.name)
            problems.append(f"{sequence.name}: {error}")
            continue
        if objects:
            results.append(SequenceScore(sequence.name, objects, sequence.unseen))
    scores = Scores(tuple(results), run.frames / run.seconds if run.seconds else None)
    if problems:
        done = len(sequences) - len(problems)
        head = f"{done} of {len(sequences)} videos done, the others failed"
        raise PartialScores(together(head, problems), scores, len(sequences), tuple(failed))
    return scores


def check_scorable(
    sequences: Sequence[ScoredVideo], *, height: int | None = None, stride: int = 1
) -> None:
    """Raise one InputError that names every video that cannot be scored, and why.

    Reads the masks that give objects; height, stride: as in `evaluate`.
    """
    found = [problems for s in sequences if (problems := _unscorable(s, height, stride))]
    if found:
        head = f"{len(found)} of {len(sequences)} videos cannot be scored"
        raise InputError(
            together(head, [problem for problems in found for problem in problems])
            + "; restore the files, or take the videos out of the split"
        )


def _unscorable(sequence: ScoredVideo, height: int | None, stride: int) -> list[str]:
    """Return what stops a video from being scored, a line each, without reading every mask twice.

    `vosmodels.data.scorable` reads them all, once, before a sweep or an evaluation starts.
    """
    try:
        given_mask(sequence, 0, height)
        return too_short(sequence, stride=stride)
    except InputError as error:
        return [str(error)]


@dataclass
class _Run:
    """The settings of `evaluate`, and the frames and seconds of the segmenters so far."""

    segmenter_factory: Callable[[], Segmenter]
    height: int | None
    stride: int
    on_mask: OnMask | None
    on_scored: OnScored | None
    frames: int = 0
    seconds: float = 0.0

    def score(self, sequence: ScoredVideo) -> dict[int, ObjectScore]:
        """Run a new segmenter over a video; return the scores by object. Raises InputError."""
        visited = visited_frames(sequence, self.stride)
        begins = sequence.begins
        scored = set(visited if sequence.last_counts else visited[:-1]) & set(sequence.judged)
        segmenter, tally, size = self.segmenter_factory(), Tally(), None
        for number in visited:
            mask = given_mask(sequence, number, self.height)
            frame = frame_tensor(scaled_frame(sequence, number, self.height))
            size = size or frame.shape
            if frame.shape != size:
                raise InputError(
                    f"frame {number} is {frame.shape[2]}x{frame.shape[1]}, the "
                    f"first {size[2]}x{size[1]}; a video has one size: scale its frames and masks"
                )
            start = time.perf_counter()
            prediction = segmenter.step(frame, mask).cpu()  # waits for the device
            self.seconds += time.perf_counter() - start
            self.frames += 1
            ids = prediction.numpy().astype(np.uint8)
            if self.on_mask is not None:
                self.on_mask(sequence.name, number, ids)
            if number in scored and (followed := _following(begins, number)):
                truth = scaled_mask(sequence, number, self.height)
                tally.add(truth, ids, followed)
                if self.on_scored is not None:
                    self.on_scored(truth, ids, followed)
        return tally.scores()


def _following(begins: Mapping[int, int], number: int) -> list[int]:
    """Return the objects that began before frame `number`, ascending."""
    return sorted(i for i, first in begins.items() if first < number)


def score_folders(
    masks: Path,
    annotations: Path,
    *,
    split: str | None = None,
    merge: bool = False,
    workers: int | None = None,
) -> Scores:
    """Score masks on disk; both folders hold a folder of PNG masks for each video.

    split: the videos that are wanted, a name or a FILE.txt of names; None as `annotations.asked`.
    They are scored on the annotated frames that the benchmark scores. DAVIS: all
    but the first and the last, for which no mask is needed. YouTube-VOS, recognised by the
    meta.json beside `annotations`: the frames that meta.json lists. merge: all ids are one object
    (DAVIS-2016). workers: number of processes, 1 for this process alone; None for one per usable
    core, as far as FRAMES_A_WORKER frames are there for each. The number of workers changes neither
    the scores nor their order.
    Raises InputError on folders without videos, or no such split; PartialScores that names all
    that is missing, belongs to no video or frame, or cannot be read, with the scores of the videos
    without such a problem; ValueError on fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers {workers}: at least 1, or None for what the machine has")
    wanted = asked(annotations, answered(masks), split)
    videos, problems = matched(masks, annotations, wanted, merge=merge)
    if problems and videos:
        logger.warning("%s: videos without a problem, which are scored: %d", masks, len(videos))
    if workers is None:
        affordable = sum(len(video.judged) for video in videos) // FRAMES_A_WORKER
        workers = min(len(os.sched_getaffinity(0)), affordable)
    results = []
    for outcome, unknown in _score_videos(videos, min(workers, len(videos))):
        if isinstance(outcome, str):
            problems.append(outcome)
            continue
        results.append(outcome)
        if unknown:
            logger.warning(
                "%s: its masks also hold ids %s, unknown to the annotations: taken for background",
                outcome.name,
                _listed(unknown),
            )
        if missed := [i for i, score in outcome.objects.items() if not score.j]:
            logger.warning(
                "%s: no mask overlaps with object %s; do the masks hold it under that id?",
                outcome.name,
                _listed(missed),
            )
    scores = Scores(tuple(results))
    if problems:
        head = f"{masks}: {len(scores.sequences)} of {len(wanted)} videos scored"
        raise PartialScores(together(head, problems), scores, len(wanted))
    return scores


def _score_videos(
    videos: Sequence[AnnotatedVideo], workers: int
) -> list[tuple[SequenceScore | str, list[int]]]:
    """Return what `_score_answers` does of every video, in the order of `videos`."""
    if workers < 2:
        return list(map(_score_answers, videos))
    with helpers(workers) as pool:
        return list(pool.map(_score_answers, videos))


def _score_answers(video: AnnotatedVideo) -> tuple[SequenceScore | str, list[int]]:
    """Score a video's answers.

    Returns the scores, or what stops the answers from being scored; and the ids of the answers that
    the annotations do not have.
    """
    tally, begins, answers = Tally(), dict(video.begins), video.answers
    drawn: set[int] = set()  # ids of masks that show others than those that have begun
    try:
        for number, stem in video.judged.items():
            truth = read_mask(video.masks[stem], merge=video.merge)
            prediction = read_mask(answers[stem], merge=video.merge)
            if video.grows:
                begins = dict.fromkeys(_new_ids(truth, begins), number) | begins
            drawn.update(_new_ids(prediction, begins))
            tally.add(truth, prediction, _following(begins, number))
    except InputError as error:
        return str(error), []
    objects, unknown = tally.scores(), sorted(drawn - set(begins))
    if unknown and not drawn & set(begins) and not any(score.j for score in objects.values()):
        return (
            f"{next(iter(answers.values())).parent}: its masks hold ids {_listed(unknown)}, the "
            f"annotations {_listed(sorted(begins))}; write the annotated id into an object's pixels"
        ), []
    return SequenceScore(video.name, objects, video.unseen), unknown


def _new_ids(truth: U8, begins: Mapping[int, int]) -> tuple[int, ...]:
    """Return the ids of a mask where it shows others than `begins` has; mostly none.

    Pixels are counted first, in a tenth of the time that finding the ids takes.
    """
    known = sum(np.count_nonzero(truth == i) for i in begins)
    return () if known == np.count_nonzero(truth > 0) else object_ids(truth)


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
