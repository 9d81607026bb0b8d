"""Score weights on the videos of a protocol; a checkpoint's scores are computed once.

So are those of checkpoints that differ in ancestor and step alone, as an untrained trial does from
its stem.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orchestrator.config.content_key import digest
from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.code import shaping_files
from orchestrator.planning.protocol import protocol_key, scored_videos
from orchestrator.tracking.events import Attention
from orchestrator.tracking.storage import Storage
from vosmodels import checkpoint, registry
from vosmodels.data.frames import visited_frames
from vosmodels.errors import InputError
from vosmodels.evaluation.attention_video import draw_attention
from vosmodels.evaluation.boundary_errors import BoundaryErrors
from vosmodels.evaluation.overlay import OverlayStrip
from vosmodels.evaluation.runner import FirstFrameCopy, OnMask, OnScored, evaluate
from vosmodels.evaluation.scores import Scores
from vosmodels.inference.fold import for_inference
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.support.atomic_files import read_json, write_json
from vosmodels.support.memory import keep_freed_memory
from vosmodels.support.processes import helpers
from vosmodels.types import ScoredVideo, Segmenter

logger = logging.getLogger(__name__)

FIRST_FRAME_COPY = "first-frame-copy"  # stands where a checkpoint's sha256 stands
BOUNDARY = "boundary"  # the key of boundary errors in saved scores and in a row's report
COUNTS = BoundaryErrors().as_dict().keys()  # what saved boundary errors must hold

HEAR_S = 0.5  # between two looks at what processes that score have done
START_S = 10.0  # which processes that score take to start; those that save less are not started

Segmenters = Callable[[], Segmenter]  # makes a new segmenter for each video
OnFrames = Callable[[int, int], None]  # takes notice of frames done, of frames in all


class Scorer:
    """Score weights by one protocol, and keep the scores under a storage folder.

    errors: count where wrong pixels lie too, which reports do and choosing does not.
    """

    def __init__(
        self, storage: Storage, protocol: ScoringProtocol, *, errors: bool = False
    ) -> None:
        self.storage = storage
        self.protocol = protocol
        self.errors = errors
        self.videos: Sequence[ScoredVideo] = scored_videos(protocol)
        self._key = protocol_key(protocol)

    def score(self, model: VideoModel, on_mask: OnMask | None = None) -> Scores:
        """Run the model over every video; nothing is saved. on_mask: as in `runner.evaluate`."""
        return self._run(segmenters_of(model, self.protocol.rows), on_mask=on_mask)

    def copy(self) -> Scores:
        """Score the first frame's mask copied to every frame, or read the saved scores."""
        return self.known(FIRST_FRAME_COPY) or self._scored(FIRST_FRAME_COPY, FirstFrameCopy)

    @property
    def frames(self) -> int:
        """Count the frames that scoring visits."""
        return sum(len(visited_frames(video, self.protocol.stride)) for video in self.videos)

    def checkpoint(
        self,
        sha256: str,
        load: Callable[[], VideoModel],
        on_frame: Callable[[], None] = lambda: None,
    ) -> Scores:
        """Score a checkpoint, or read its saved scores; `load` is called only to score.

        One that equals another in content takes that one's scores. on_frame: called after each
        frame, and for each that this saves.
        """
        if known := self.known(sha256):
            return known
        model = load()
        content = self.content(model)
        if twin := self.twin(content):
            self._write(sha256, twin.scores.as_dict() | _counts(twin.boundary))
            for _ in range(self.frames):
                on_frame()
            return twin.scores
        scores = self._scored(sha256, segmenters_of(model, self.protocol.rows), on_frame)
        self.save_twin(content, sha256)
        return scores

    def boundary(self, name: str) -> Mapping[str, int]:
        """Read the counts of `BoundaryErrors` saved under a name; empty where there are none."""
        saved = self._saved(name)
        return {} if saved is None else saved[1]

    def strip(self) -> OverlayStrip:
        """Return an empty strip of the first video, whose `add` is an `on_mask` of `score`."""
        protocol = self.protocol
        return OverlayStrip(self.videos[0], height=protocol.height, stride=protocol.stride)

    def attention(self, model: VideoModel, key: str, step: int) -> Attention | None:
        """Draw where a model's attentions look in the middle of the first video.

        key: of the job whose pictures it joins. Returns the line for the job's ledger, None for a
        model without attention.
        """
        path = self.storage.pictures(key) / f"attention-{step:07d}.png"
        protocol = self.protocol
        video = self.videos[0]
        if not draw_attention(model, video, path, height=protocol.height, stride=protocol.stride):
            return None
        return Attention(step=step, path=path.relative_to(self.storage.root).as_posix())

    def save(self, sha256: str, scores: Scores) -> None:
        """Save scores of a checkpoint where `checkpoint` and `known` look for them."""
        self._write(sha256, scores.as_dict())

    def content(self, model: VideoModel) -> str:
        """Digest all that decides the bits of a model's scores, but for the protocol.

        That is its name, configuration and weights, the code, the device and its threads.
        """
        device = next(model.parameters()).device.type
        ran = [dict(shaping_files()), torch.__version__, device, torch.get_num_threads()]
        return digest([checkpoint.content_of(model), ran])

    def twin(self, content: str) -> Twin | None:
        """Read what a checkpoint of the same `content` was given, None without one."""
        path = self._path(content)
        try:
            named = read_json(path)
            if named is None:
                return None
            saved = self._saved(named["sha256"])
            picture = self.storage.root / named["picture"] if named["picture"] else None
        except (InputError, KeyError, TypeError) as error:
            logger.warning("%s: names no checkpoint (%s); scoring anew", path, error)
            return None
        if saved is None or (picture and not picture.is_file()):
            return None
        return Twin(*saved, picture)

    def save_twin(self, content: str, sha256: str, picture: Path | None = None) -> None:
        """Save which checkpoint has a content, for `twin`; picture: a file in the storage."""
        inside = picture.relative_to(self.storage.root).as_posix() if picture else None
        write_json(self._path(content), {"sha256": sha256, "picture": inside})

    def task(self, sha256: str, model: ModelConfig, fps: float | None = None) -> Task:
        """Return the work of scoring a checkpoint by this protocol, for `score_all`.

        fps: frames a second that it was seen to take in one process, if it was.
        """
        seconds = self.frames / fps if fps else math.inf
        return Task(sha256, model, self.storage, self.protocol, self.errors, self.frames, seconds)

    def known(self, name: str) -> Scores | None:
        """Read the saved scores of a checkpoint's sha256 or of FIRST_FRAME_COPY, if any."""
        saved = self._saved(name)
        return None if saved is None else saved[0]

    def _scored(
        self, name: str, segmenters: Segmenters, on_frame: Callable[[], None] = lambda: None
    ) -> Scores:
        """Score and save, with where wrong pixels lie if that is asked for."""
        errors = BoundaryErrors() if self.errors else None
        scores = self._run(segmenters, errors.add if errors else None, lambda *mask: on_frame())
        self._write(name, scores.as_dict() | _counts(errors.as_dict() if errors else {}))
        return scores

    def _write(self, name: str, scores: Mapping[str, Any]) -> None:
        write_json(self._path(name), scores)
        self.storage.mirror.push([self._path(name)])

    def _run(
        self,
        segmenters: Segmenters,
        on_scored: OnScored | None = None,
        on_mask: OnMask | None = None,
    ) -> Scores:
        return evaluate(
            segmenters,
            self.videos,
            height=self.protocol.height,
            stride=self.protocol.stride,
            on_scored=on_scored,
            on_mask=on_mask,
        )

    def _saved(self, name: str) -> tuple[Scores, Mapping[str, int]] | None:
        """Read scores and boundary errors; None if there are none, or none that can be used.

        A file that cannot be used is named in a warning, as its scores are computed anew. An older
        one may lack the boundary errors that `errors` wants.
        """
        path = self._path(name)
        self.storage.mirror.fetch(path)
        try:
            saved = read_json(path)
            if saved is None:
                return None
            scores = Scores.from_dict(saved)
            if not scores.sequences:
                raise ValueError("no video")
            counts: Mapping[str, int] = {
                key: int(count) for key, count in saved.get(BOUNDARY, {}).items()
            }
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            logger.warning("%s: not the scores that were saved (%s); scoring anew", path, reason)
            return None
        return None if self.errors and COUNTS - counts.keys() else (scores, counts)

    def _path(self, name: str) -> Path:
        return self.storage.scores / f"{digest([name, *self._key])}.json"


@dataclass(frozen=True)
class Twin:
    """Hold what a checkpoint of equal content was given; the picture if there is one."""

    scores: Scores
    boundary: Mapping[str, int]
    picture: Path | None


def _counts(boundary: Mapping[str, int]) -> dict[str, Any]:
    """Return boundary errors as they are saved beside scores, if there are any."""
    return {BOUNDARY: dict(boundary)} if boundary else {}


def segmenters_of(
    model: VideoModel, rows: int | None, memory: MemoryRule | None = None
) -> Segmenters:
    """Return a maker of segmenters that show the model `rows` rows of a frame; None: all.

    memory: in place of the model's own rule.
    """
    ready = for_inference(model)
    options = {"memory": memory} if memory else {}
    if rows is None:
        return lambda: VideoSegmenter(ready, **options)
    return lambda: ScaledSegmenter(VideoSegmenter(ready, **options), rows)


@dataclass(frozen=True)
class Task:
    """The scoring of one checkpoint, as it goes to another process; seconds: expected in one."""

    sha256: str
    model: ModelConfig
    storage: Storage
    protocol: ScoringProtocol
    errors: bool
    frames: int
    seconds: float

    @property
    def content(self) -> Hashable:
        """Tell tasks apart whose scores may differ: by the model's content and the protocol."""
        path = self.storage.checkpoint(self.sha256)
        return checkpoint.content_in(path), *protocol_key(self.protocol), self.errors

    def run(self, threads: int, on_frame: Callable[[], None]) -> None:
        """Score the checkpoint on so many CPU threads and save the scores."""
        keep_freed_memory()
        torch.set_num_threads(threads)
        scorer = Scorer(self.storage, self.protocol, errors=self.errors)
        tensors = checkpoint.read_tensors(self.storage.checkpoint(self.sha256))
        scorer.checkpoint(self.sha256, lambda: student_of(self.model, tensors), on_frame)


class FrameCount:
    """Count of the frames of some scorings, which `on_frames` takes notice of."""

    def __init__(self, of: int, on_frames: OnFrames) -> None:
        self._done, self._of, self._on_frames = 0, of, on_frames
        if of:
            on_frames(0, of)

    def __call__(self, further: int = 1) -> None:
        """Count further frames."""
        self._done += further
        self._on_frames(self._done, self._of)


def score_all(
    tasks: Sequence[Task],
    *,
    at_once: int,
    threads: int,
    on_frames: OnFrames = lambda done, of: None,
) -> None:
    """Run the tasks in `at_once` processes, or in this one where those would not be sooner.

    Tasks of one content are one task: the others take its scores when it is done.
    """
    count = FrameCount(sum(task.frames for task in tasks), on_frames)
    first: dict[Hashable, Task] = {}
    for task in tasks:
        first.setdefault(task.content, task)
    _run(list(first.values()), at_once, threads, count)
    _run([task for task in tasks if task not in first.values()], 1, threads, count)


def _run(tasks: Sequence[Task], at_once: int, threads: int, count: FrameCount) -> None:
    many = min(at_once, len(tasks))
    if many < 2 or _saved(tasks, many) < START_S:
        for task in tasks:
            task.run(threads, count)
        return
    heard, told = multiprocessing.Pipe(duplex=False)
    on_frame = partial(told.send_bytes, b".")  # shorter than what a pipe would cut in two
    with heard, told, helpers(many) as pool:
        left = {pool.submit(task.run, threads, on_frame) for task in tasks}
        while left:
            ended, left = wait(left, HEAR_S, FIRST_COMPLETED)
            for future in ended:
                future.result()
            while heard.poll():
                heard.recv_bytes()
                count()


def _saved(tasks: Sequence[Task], many: int) -> float:
    """Estimate the seconds that so many processes would be done before one."""
    return sum(task.seconds for task in tasks) * (1 - 1 / many)


def student_of(config: ModelConfig, tensors: Mapping[str, Tensor]) -> VideoModel:
    """Build the configured model with these weights, in eval mode."""
    model = registry.blank(config.name, **config.options)
    checkpoint.fill(model, tensors, "checkpoint")
    return model.eval()


def summary(scores: Scores) -> dict[str, float]:
    """Return the means J, F and J&F as checkpoints, ledger and MLflow hold them."""
    return {"j": scores.j, "f": scores.f, "jf": scores.jf}


def per_sequence(scores: Scores) -> dict[str, Any]:
    """Return each video's mean J and F and its number of objects, for paired comparisons."""
    return {s.name: {"j": s.j, "f": s.f, "objects": len(s.objects)} for s in scores.sequences}
