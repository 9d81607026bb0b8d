"""Forecast time and disk of a plan, by timing a few steps on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from orchestrator.config import RunConfig
from orchestrator.config.content_key import canonical
from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.train import TrainConfig
from orchestrator.execution.driver import unfinished
from orchestrator.execution.labelling import left_to_segment
from orchestrator.planning.datasets import sequences
from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import Job, Plan
from orchestrator.planning.protocol import PROBED_FRAMES
from orchestrator.tracking.storage import Storage
from orchestrator.training import resume
from orchestrator.training.distill_step import DistillStep, make_trainee
from orchestrator.training.distributed import Workers
from orchestrator.training.lessons import lessons
from orchestrator.training.loop import Student
from orchestrator.training.state import TrainingState
from orchestrator.training.throughput import Throughput
from vosmodels import registry
from vosmodels.data.frames import visited_frames
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.support.memory import keep_freed_memory
from vosmodels.types import Clip, ScoredVideo

PROBE_STEPS = 2  # timed after one warm-up step
BYTES_PER_PIXEL = 0.03  # of stored masks, per plane: ids and each object's probability
PROBE_FRAME = (240, 432)  # height and width in px


@dataclass(frozen=True)
class Forecast:
    """Seconds by part, source of the step times, and disk in MiB."""

    seconds: Mapping[str, float]
    source: str
    disk_mib: float


def forecast(
    plan: Plan,
    config: RunConfig,
    storage: Storage,
    placement: Placement,
    times: dict[str, float] | None = None,
    students: int = 1,
    again: Sequence[Job] = (),
) -> Forecast:
    """Forecast the unfinished jobs of a plan, and those that are to be trained `again`.

    Times a few optimisation steps and frames in this process, on random clips of the configured
    size, with the configured threads. Parts: labels (videos that a teacher segments before a stem
    or trial trains), teacher, stem, trial (all trials, `at_once` side by
    side), scoring (checkpoints on the select split, rows on the report split), soup (one score per
    checkpoint of a trial, at most: processes may share them), barriers (if the soup takes all of
    them: each alone and halfway to the best, on at most PROBED_FRAMES frames). A job that continues
    counts its remaining steps.
    times: seconds that an earlier forecast of the same models and stages measured; new ones are
    added, so that the seeds of a table are timed once. students: trials that train in lock-step.
    """
    times = {} if times is None else times

    def timed(
        measure: Callable[..., float], job: Job, *of: TrainConfig | ModelConfig | int
    ) -> float:
        parts = [job.model, job.config.teacher, job.loss, job.config.data.max_objects, *of]
        key = f"{measure.__name__} {job.threads} {canonical(parts)}"
        if key not in times:
            times[key] = measure(job, *of)
        return times[key]

    keep_freed_memory()  # as the jobs do whose steps are timed
    left = unfinished(plan.jobs, storage, again)
    if not left:
        return Forecast({}, "all is done", 0.0)
    seconds: dict[str, float] = {}
    rates: dict[str, float] = {}
    for role in ("teacher", "stem", "trial"):
        jobs = [job for job in left if job.role == role]
        if jobs:
            group = min(students, len(jobs)) if role == "trial" else 1
            rounds = math.ceil(math.ceil(len(jobs) / group) / placement.at_once)
            rate = [timed(step_seconds, jobs[0], stage.train, group) for stage in jobs[0].stages]
            whole = sum(t * s.train.steps for t, s in zip(rate, jobs[0].stages, strict=True))
            rates[role] = whole / max(1, jobs[0].steps)
            done = [0 if job in again else done_steps(job, storage) for job in jobs]
            left_share = sum(1 - n / max(1, job.steps) for n, job in zip(done, jobs, strict=True))
            seconds[role] = rounds * whole * left_share / len(jobs)
    labelled = list(left_to_segment(left, storage).values())
    if labelled:
        seconds["labels"] = sum(
            video_pixels(job, each.video) * timed(pixel_seconds, job, job.config.teacher)
            for job, each in labelled
        )
    trials = [job for job in left if job.role == "trial"]
    select = _pixels(ScoringProtocol.for_select(config.data))
    rates["million pixels"] = timed(pixel_seconds, left[-1], left[-1].model) * 1e6
    one_score = select * rates["million pixels"] / 1e6
    checkpoints = sum(_checkpoints(job) for job in left)
    seconds["scoring"] = checkpoints * one_score / placement.at_once
    if report := ScoringProtocol.for_report(config.data):
        rows = len(plan.trials) + 3  # with untrained, stem, soup
        seconds["scoring"] += (
            rows * _pixels(report) * rates["million pixels"] / 1e6 / placement.at_once
        )
    if config.soup.after_sweep:
        candidates = sum(_checkpoints(job) for job in trials)
        seconds["soup"] = candidates * one_score
        if candidates > 1:
            frames = _frames(ScoringProtocol.for_select(config.data))
            one_probe = one_score * min(1.0, PROBED_FRAMES / frames)
            seconds["barriers"] = (2 * candidates - 1) * one_probe
    steps = ", ".join(
        f"{what} {rate:.2f} s" + ("" if what == "million pixels" else " a step")
        for what, rate in rates.items()
    )
    disk = sum(_weights_mib(job) * (_checkpoints(job) + 3) for job in left)
    disk += sum(masks_mib(each.video) for _, each in labelled)
    return Forecast(seconds, f"timed here: {steps}", disk)


def done_steps(job: Job, storage: Storage) -> int:
    """Count the steps that a new start of a job does not repeat: those of its resume state."""
    return max(resume.steps(storage.resume(job.key)), default=0)


def _checkpoints(job: Job) -> int:
    if job.role != "trial":
        return len(job.stages) + (job.role == "stem")
    return sum(math.ceil(s.train.steps / s.train.checkpoint_every) for s in job.stages)


def _frames(protocol: ScoringProtocol) -> int:
    """Count the frames that are segmented when the protocol's videos are scored once."""
    videos = sequences(protocol.data, protocol.split)
    return sum(len(visited_frames(video, protocol.stride)) for video in videos)


def _pixels(protocol: ScoringProtocol) -> float:
    """Count the pixels the network sees when the protocol's videos are scored once."""
    total, height = 0.0, protocol.rows or protocol.height
    for video in sequences(protocol.data, protocol.split):
        rows, columns = video.mask(0).shape
        scale = min(1.0, height / rows) ** 2 if height else 1.0
        total += len(visited_frames(video, protocol.stride)) * rows * columns * scale
    return total


def video_pixels(job: Job, video: ScoredVideo) -> float:
    """Count the pixels that a teacher sees when it segments a training video."""
    rows, columns = video.mask(0).shape
    scale = min(1.0, (job.config.teacher.rows or rows) / rows)
    return float(len(video) * rows * columns * scale * scale)


def masks_mib(video: ScoredVideo) -> float:
    """Estimate the size of a video's stored masks, in MiB."""
    rows, columns = video.mask(0).shape
    planes = 1 + len(video.begins)
    return float(len(video) * rows * columns * planes * BYTES_PER_PIXEL / 2**20)


def pixel_seconds(job: Job, model: ModelConfig) -> float:
    """Time a model's inference with one object, in seconds per pixel of a frame."""
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        network = for_inference(registry.build(model.name, seed=0, **model.options))
        segmenter = VideoSegmenter(network)
        height, width = PROBE_FRAME
        mask = torch.zeros(height, width, dtype=torch.int64)
        mask[height // 4 : height // 2, width // 4 : width // 2] = 1
        segmenter.step(torch.rand(3, height, width), mask)
        segmenter.step(torch.rand(3, height, width))
        started = time.perf_counter()
        for _ in range(PROBE_STEPS):
            segmenter.step(torch.rand(3, height, width))
        return (time.perf_counter() - started) / PROBE_STEPS / (height * width)
    finally:
        torch.set_num_threads(threads)


def step_seconds(job: Job, train: TrainConfig, students: int = 1) -> float:
    """Time an optimisation step in seconds: mean of PROBE_STEPS after a warm-up step.

    students: in lock-step, of which one is timed, as is the batch and the teacher that they share.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        model = registry.build(job.model.name, seed=0, **job.model.options)
        distill = DistillStep(job.loss, seed=0, label_above=0.0 if job.labels_clips else None)
        teacher = None
        if job.teaches:
            config = job.config.teacher
            teacher = registry.build(config.name, seed=0, **config.options)
        trainee = make_trainee(job.loss, model, teacher, seed=0)
        train = train.model_copy(update={"steps": PROBE_STEPS + 1})
        workers, clock = Workers(), Throughput()
        student = Student(
            TrainingState(trainee, train), distill, train, clock=clock, workers=workers
        )
        clips, steps = _Noise(train, job.config.data.max_objects), range(train.steps)
        seconds, ended = 0.0, time.perf_counter()
        for lesson in lessons(
            clips, [distill], train, steps, workers=workers, clock=clock, teacher=teacher
        ):
            begun = time.perf_counter()
            student.learn(lesson)
            shared, ended = begun - ended, time.perf_counter()
            if lesson.step:
                seconds += shared + students * (ended - begun)
        return seconds / PROBE_STEPS
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Noise:
    """Random clips of the configured size, since content does not change the time."""

    train: TrainConfig
    objects: int

    def sample(self, index: int) -> Clip:
        train, objects = self.train, self.objects
        rng = torch.Generator().manual_seed(index)
        shape = (1, train.clip_length, train.crop, train.crop)
        frames = torch.rand(1, train.clip_length, 3, train.crop, train.crop, generator=rng)
        masks = torch.zeros(shape, dtype=torch.int64)
        edge = train.crop // 4
        masks[:, :, edge : 3 * edge, edge : 3 * edge] = 1
        return Clip(frames, masks, torch.arange(objects)[None] < 1, (index,))


def _weights_mib(job: Job) -> float:
    model = registry.outline(job.model.name, **job.model.options)
    size: int = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return size / 2**20
