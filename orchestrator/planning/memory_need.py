"""Compute what memory the jobs of a plan take, and refuse what the machine does not have.

A step is traced once on the meta device, where tensors have a size and no numbers: nothing is
allocated. All of it grows with the batch, so one clip is traced.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from orchestrator.config import RunConfig
from orchestrator.config.content_key import canonical
from orchestrator.config.loss import LossConfig
from orchestrator.config.models import ModelConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.train import TrainConfig
from orchestrator.planning.lockstep import Group
from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import Job, videos_segmented
from orchestrator.planning.protocol import scored_videos
from vosmodels import registry
from vosmodels.distillation.correlation import DENSE_UP_TO
from vosmodels.distillation.pixels import Z_STRIDE
from vosmodels.errors import InputError
from vosmodels.inference.video_need import VideoNeed, video_need
from vosmodels.model import VideoModel
from vosmodels.support import watching
from vosmodels.support.live_bytes import LiveBytes, replace_modules
from vosmodels.support.memory import GIB, Memory, gib
from vosmodels.support.messages import together
from vosmodels.types import AttentionPair, Clip

logger = logging.getLogger(__name__)

_Video = tuple[int, int, int, int]  # height, width, frames, objects

# Measured by tests/benchmarks/memory_need.py.
PROCESS = 0.75 * GIB  # a worker that has loaded torch and its data, before its first step
LOADER = 0.4 * GIB  # a process that makes batches
COMMAND = 1.0 * GIB  # the command itself, with Ray's own processes
OVERHEAD = 1.25  # resident memory over the bytes of live tensors
HALF = 0.65  # bytes of a step whose products are in a half type, over those in float32
FLOAT, COPIES = 4, 6  # bytes; weights, gradient, two moments, and two for scoring and the average
TRACED_FRAMES = 5  # clips up to this length are traced whole, longer ones are extended
LOGIT_COPIES = 16  # maps of logits that all losses together hold
RELATION_COPIES = 12  # further ones, of the relations of DIST
COMPARED_COPIES = 4  # of attentions or z compared, with those that the models return
PRODUCTS = 2  # of two attentions, each as large as three Gram matrices, that CKA holds
ROW_COPIES = 6  # rows of features that the correlation loss holds for each pixel compared
MATRICES = 6  # of n x n numbers that the correlation loss holds where it is dense


@dataclass(frozen=True)
class StepNeed:
    """Bytes that one worker takes for a stage of a job.

    place: the keys of the YAML with their values; step: activations and losses; weights: of
    students and teacher, with gradient and optimizer; scoring: of the largest video scored between
    steps, or segmented before them; loaders: of the processes that make batches; at_once: jobs of
    this kind at a time.
    """

    place: str
    step: float
    weights: float
    scoring: float
    loaders: float
    at_once: int

    @property
    def device(self) -> float:
        """Bytes on the device that trains: a GPU, or the memory of the machine."""
        return self.weights + max(self.step, self.scoring)


@dataclass(frozen=True)
class MemoryNeed:
    """The memory that the jobs of a plan take, stage by stage, against what is there.

    machine: None where jobs run on other machines than this; gpu: bytes of one GPU that is here,
    None where no worker has one.
    """

    steps: tuple[StepNeed, ...]
    placement: Placement
    machine: Memory | None
    gpu: float | None

    def total(self, need: StepNeed) -> float:
        """Sum the command and the jobs that run at once, in the machine's memory."""
        return COMMAND + need.at_once * self.placement.workers * self._worker(need)

    def describe(self) -> str:
        """Describe the most that is needed, and what there is."""
        if not self.steps:
            return "memory: nothing is left to train"
        worst = max(self.steps, key=self.total)
        said = f"memory about {gib(self.total(worst))}"
        if self.placement.gpus:
            said += f", and about {gib(self._on_gpu(max(self.steps, key=self._on_gpu)))} of a GPU"
        if self.machine is None:
            return f"{said}, over all nodes"
        gpu = "" if self.gpu is None else f"; each GPU has {gib(self.gpu)}"
        return f"{said}, of {self.machine}{gpu}"

    @property
    def fits(self) -> bool:
        """True where the machine has room for every stage."""
        return not any(text for need in self.steps for text in self._problems(need))

    def check(self) -> None:
        """Raise InputError that lists every stage which the machine has no room for."""
        problems = list(dict.fromkeys(text for need in self.steps for text in self._problems(need)))
        if problems:
            raise InputError(
                f"{together('not enough memory', problems)}; {self._there()}: {REMEDY}"
            )

    def _there(self) -> str:
        gpu = [] if self.gpu is None else [f"each GPU has {gib(self.gpu)}"]
        machine = [] if self.machine is None else [f"this machine has {self.machine}"]
        return ", ".join([*machine, *gpu])

    def _worker(self, need: StepNeed) -> float:
        on_gpu = self.placement.gpus > 0
        return PROCESS + need.loaders + (0 if on_gpu else need.device)

    def _on_gpu(self, need: StepNeed) -> float:
        """Bytes of one GPU, which workers share where each has a part of it."""
        share = self.placement.gpus
        sharing = min(need.at_once, int(1 / share + 1e-9)) if 0 < share < 1 else 1
        return sharing * need.device

    def _problems(self, need: StepNeed) -> Iterator[str]:
        if self.machine is not None and self.total(need) > self.machine.total:
            yield self._sum(need)
        if self.gpu is not None and self._on_gpu(need) > self.gpu:
            yield f"{need.place}: {gib(self._on_gpu(need))} of a GPU"

    def _sum(self, need: StepNeed) -> str:
        """Write the sum of a stage's parts."""
        parts = [f"{gib(PROCESS)} for the process"]
        if not self.placement.gpus:
            steps, scoring = f"{gib(need.step)} for a step", f"{gib(need.scoring)} for scoring"
            parts = [
                steps if need.step >= need.scoring else scoring,
                f"{gib(need.weights)} for weights and optimizer",
                *parts,
            ]
        if need.loaders:
            parts.append(f"{gib(need.loaders)} for loaders")
        workers = need.at_once * self.placement.workers
        times = f", times {workers} workers at once" if workers > 1 else ""
        return f"{need.place}: {' + '.join(parts)} a worker{times}: {gib(self.total(need))}"


REMEDY = (
    "lower the batch size, crop, clip length or data.max_objects, or give cluster.threads all "
    "cores, so that one job runs at a time"
)


def memory_need(
    rounds: Sequence[Sequence[Group]],
    config: RunConfig,
    placement: Placement,
    machine: Memory | None,
    gpu: float | None,
) -> MemoryNeed:
    """Compute what the groups of `rounds` take; the groups of a round run side by side.

    Stages that need the same are listed once. A model that cannot be traced counts as nothing.
    """
    protocols = (ScoringProtocol.for_select(config.data), ScoringProtocol.for_report(config.data))
    videos = {size for protocol in protocols if protocol for size in _videos(protocol)}
    steps: dict[StepNeed, None] = {}
    for groups in rounds:
        at_once = min(placement.at_once, len(groups))
        for job, students in ((job, len(group)) for group in groups for job in group):
            scoring = max(_scoring(job, videos), _labelling(job))
            for index in range(len(job.stages)):
                steps.setdefault(_stage(job, index, placement, at_once, scoring, students))
    return MemoryNeed(tuple(steps), placement, machine, gpu)


def _stage(
    job: Job, index: int, placement: Placement, at_once: int, scoring: float, students: int
) -> StepNeed:
    """Compute what a stage of a job takes, with that of the others of its group.

    They make their steps in turn, so that each adds its weights alone.
    """
    train, objects = job.stages[index].train, job.config.data.max_objects
    clips = -(-train.batch_size // placement.workers)
    step = 0.0
    weights = students * COPIES * FLOAT * _parameters(job.model)
    if job.teaches:
        weights += FLOAT * _parameters(job.config.teacher)
    if train.steps:
        half = train.amp in ("bfloat16", "float16") or (train.amp == "auto" and placement.gpus > 0)
        traced = step_bytes(job.model, train.clip_length, objects, train.crop)
        step = clips * (OVERHEAD * (HALF if half else 1) * traced + _losses(job, train))
    loaders = job.config.cluster.loaders or 0
    batch = clips * train.clip_length * train.crop**2 * (3 * FLOAT + 8)  # frames, and ids in int64
    return StepNeed(
        place=_place(job, index, train, objects, students),
        step=step + batch,
        weights=weights,
        scoring=scoring,
        loaders=loaders * (LOADER + 2 * batch),
        at_once=at_once,
    )


def _place(job: Job, index: int, train: TrainConfig, objects: int, students: int) -> str:
    """Name the keys of the YAML that a stage's size comes from, with their values."""
    stages = job.config.stages
    if stages is None:
        section, length = ("train" if job.role == "trial" else "stem"), "train.clip_length"
    else:
        section = f"stages.{len(stages) - 1 if job.role == 'trial' else index}"
        length = f"{section}.clip_length"
    times = f"{students} x " if students > 1 else ""
    return (
        f"{times}{job.role} {job.model.name}, {section}.batch_size {train.batch_size} x {length} "
        f"{train.clip_length} x {section}.crop {train.crop} with data.max_objects {objects}"
    )


def _losses(job: Job, train: TrainConfig) -> float:
    """Compute the bytes that the losses of one clip hold."""
    objects = job.config.data.max_objects
    frames = train.clip_length - 1
    copies = LOGIT_COPIES + (RELATION_COPIES if job.loss.inter or job.loss.intra else 0)
    held = copies * FLOAT * frames * (objects + 1) * train.crop**2
    held += FLOAT * frames * sum(_attention(job, pair, train.crop) for pair in job.loss.pairs)
    plane = (train.crop // Z_STRIDE) ** 2
    if job.loss.cka:
        widths = _channels(job.model), _channels(job.config.teacher)
        held += FLOAT * frames * objects * _cka(plane, *widths)
    if job.loss.needs_features:
        pixels = plane if job.loss.sampling == "all" else min(plane, job.loss.max_pixels)
        width = _channels(job.model) + _channels(job.config.teacher)
        each = ROW_COPIES * width * pixels
        if _is_dense(job.loss, pixels):
            each += MATRICES * pixels**2
        held += FLOAT * frames * objects * each
    return float(held)


def _attention(job: Job, pair: AttentionPair, crop: int) -> int:
    """Count the numbers that the comparison of two attentions holds for a frame."""
    student = _intermediate(job.model, pair.student, job.config.data.max_objects, crop)
    teacher = _intermediate(job.config.teacher, pair.teacher, job.config.data.max_objects, crop)
    if student is None or teacher is None:
        return 0
    n, own, other = student[0], student[1], teacher[1]
    if job.loss.attention_loss == "cka":
        return _cka(n, own, other)
    return COMPARED_COPIES * n * (own + other)


def _cka(n: int, own: int, other: int) -> int:
    """Count the numbers that CKA of n rows holds, the rows with them."""
    products = min(own**2 + other**2 + own * other, 3 * n**2)
    return COMPARED_COPIES * n * (own + other) + PRODUCTS * products


def _intermediate(model: ModelConfig, name: str, objects: int, crop: int) -> tuple[int, int] | None:
    """Return rows and width of an intermediate of one frame; None where it is not forecast."""
    return _rows_and_width(model.name, canonical(model.options), name, objects, crop)


@functools.cache
def _rows_and_width(
    model: str, options: str, name: str, objects: int, crop: int
) -> tuple[int, int] | None:
    network = _network(model, options)
    if network is None:
        return None
    watch = watching.resolve(name, network.watchable)
    try:
        shape = network(_clip(2, objects, crop), watch=(watch,)).named[watch].shape
    except (NotImplementedError, RuntimeError):  # it reads numbers, of which there are none
        return None
    return shape[-2], shape[-1]


def _is_dense(loss: LossConfig, pixels: int) -> bool:
    return loss.method == "dense" or (loss.method == "auto" and pixels <= DENSE_UP_TO["cpu"])


def _scoring(job: Job, videos: Collection[_Video]) -> float:
    """Compute the bytes of the largest video that the job's checkpoints are scored on.

    Every video counts with the most objects that one has, so that one is traced.
    """
    objects = max((video[3] for video in videos), default=1)
    need = _video_need(job.model.name, canonical(job.model.options), objects)
    return max((need.of(*video[:3]) for video in videos), default=0.0) if need else 0.0


def _labelling(job: Job) -> float:
    """Compute the bytes of the largest video that the job's teacher segments for labels."""
    teacher = job.config.teacher
    options, most = canonical(teacher.options), 0.0
    for each in videos_segmented(job):
        rows, columns = each.video.mask(0).shape
        height = min(rows, teacher.rows or rows)
        need = _video_need(teacher.name, options, len(each.video.begins))
        if need:
            most = max(most, need.of(height, round(columns * height / rows), len(each.video)))
    return most


def _videos(protocol: ScoringProtocol) -> Iterator[_Video]:
    """Yield the sizes of a protocol's videos as the network sees them."""
    for video in scored_videos(protocol):
        rows, columns = video.mask(0).shape
        height = min(rows, protocol.rows or protocol.height or rows)
        frames = math.ceil(len(video) / protocol.stride)
        yield height, round(columns * height / rows), frames, len(video.begins)


def step_bytes(model: ModelConfig, frames: int, objects: int, crop: int) -> float:
    """Compute the bytes of tensors that one clip holds between forward and backward pass.

    A clip longer than TRACED_FRAMES is extended: every frame adds as much as the third, and more
    for each further frame of memory that it reads.
    """
    name, options = model.name, canonical(model.options)

    def traced(length: int) -> float:
        return _traced(name, options, length, objects, crop)

    if frames <= TRACED_FRAMES:
        return traced(frames)
    two, three, four = map(traced, (2, 3, 4))
    network = _network(name, options)
    most = network.memory.frames if network else None
    read = frames if most is None else most
    further = sum(max(0, min(i, read) - 2) for i in range(2, frames))
    more = four - 2 * three + two if read > 2 else 0
    return two + (frames - 2) * (three - two) + further * more


@functools.cache
def _traced(name: str, options: str, frames: int, objects: int, crop: int) -> float:
    network = _network(name, options)
    if network is None:
        return 0.0
    clip = _clip(frames, objects, crop)
    try:
        with LiveBytes() as live:
            output = network(clip)
            held = live.now
        del output
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # it reads numbers, of which there are none
        logger.info("memory of %s is not forecast: %s", name, str(error).splitlines()[0])
        return 0.0
    return float(held)


def _clip(frames: int, objects: int, crop: int) -> Clip:
    """Make a clip without numbers."""
    with torch.device("meta"):
        return Clip(
            torch.empty(1, frames, 3, crop, crop),
            torch.empty(1, frames, crop, crop, dtype=torch.int64),
            torch.empty(1, objects, dtype=torch.bool),
            (0,),
        )


@functools.cache
def _network(name: str, options: str) -> VideoModel | None:
    """Build a model without numbers, to train; None where that cannot be done."""
    try:
        network = registry.outline(name, **json.loads(options))
    except (NotImplementedError, RuntimeError) as error:
        logger.info("memory of %s is not forecast: %s", name, str(error).splitlines()[0])
        return None
    # SiLU holds input and output as ReLU6 in place does, and takes a tenth of the time to trace.
    replace_modules(network, nn.ReLU6, nn.SiLU)
    return network.train()


@functools.cache
def _video_need(name: str, options: str, objects: int) -> VideoNeed | None:
    network = _network(name, options)
    try:
        return video_need(network, objects) if network else None
    except (NotImplementedError, RuntimeError):
        return None


def _parameters(model: ModelConfig) -> int:
    network = _network(model.name, canonical(model.options))
    return sum(p.numel() for p in network.parameters()) if network else 0


def _channels(model: ModelConfig) -> int:
    network = _network(model.name, canonical(model.options))
    return (network.z_channels or 0) if network else 0
