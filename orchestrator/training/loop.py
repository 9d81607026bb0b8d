"""Train students step by step; the caller evaluates, writes and reports after each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orchestrator.config.train import TrainConfig
from orchestrator.training import gradient_norms
from orchestrator.training.distill_step import DistillStep, Losses
from orchestrator.training.distributed import Workers
from orchestrator.training.lessons import Lesson, lessons
from orchestrator.training.optimizer import group_rate
from orchestrator.training.precision import autocast
from orchestrator.training.state import TrainingState
from orchestrator.training.throughput import Throughput
from vosmodels.distillation.pixels import Selection
from vosmodels.losses import keep_fraction
from vosmodels.support.seeding import drawn_from, seed_of
from vosmodels.types import IGNORED, Clip, ClipSource

POLY_POWER = 0.9  # of AOT's schedule
LOG_EVERY = 10  # steps between logged losses


class Diverged(RuntimeError):
    """A loss or a gradient is not finite; the optimizer has not moved since the step before."""


@dataclass(frozen=True)
class Progress:
    """Report of one step.

    losses: terms by name with "total"; speed: of the loop, all its students together, by
    `Reading.since`; gradients: norms on rank 0; each None where it is not due.
    """

    step: int
    losses: Mapping[str, float] | None
    speed: Mapping[str, float] | None
    gradients: Mapping[str, float] | None
    checkpoint: bool
    evaluate: bool


def learning_rate(train: TrainConfig, step: int) -> float:
    """Return the learning rate of step `step`, counted from 0.

    step: lr, a tenth of it from `decay_at` of the steps on (5/6: STCN decays at 250k of 300k, 125k
    of 150k);
    cosine: from lr to 5 % of it;
    poly: from lr to 5 % of it, the rest times (1 - progress)^0.9. All these rise linearly over the
    first `warmup` share of the steps.
    poly with lr_min: AOT's schedule (arXiv:2106.02638, its code), linear from lr_min to lr over the
    w steps of the warm-up, then lr_min + (lr - lr_min) (1 - (step - w) / (steps - w + 1))^0.9.
    """
    if train.lr_min is not None:
        rise = train.warmup * train.steps
        share = step / rise if step < rise else 1.0
        if step >= rise:
            share = (1 - (step - rise) / (train.steps - rise + 1)) ** POLY_POWER
        return train.lr_min + (train.lr - train.lr_min) * share
    progress = step / train.steps
    rising = min(1.0, (step + 1) / max(1.0, train.warmup * train.steps))
    if train.schedule == "cosine":
        return train.lr * rising * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
    if train.schedule == "poly":
        return float(train.lr * rising * (0.05 + 0.95 * (1 - progress) ** POLY_POWER))
    return train.lr * rising * (0.1 if progress >= train.decay_at else 1.0)


class Student:
    """Train one student by a step from each lesson, in the making of which it has no part."""

    def __init__(
        self,
        state: TrainingState,
        distill: DistillStep,
        train: TrainConfig,
        *,
        clock: Throughput,
        workers: Workers,
        module: nn.Module | None = None,
        ignored: bool = False,
    ) -> None:
        """Take what `fit` takes of one student; clock: that of the lessons."""
        self.state = state
        self.distill = distill
        self._train = train
        self._clock = clock
        self._workers = workers
        self._module = module or state.trainee
        self._ignored = ignored
        self._numbers = _Numbers(workers.device)
        self._reading = clock.read()

    def learn(self, lesson: Lesson, place: int = 0) -> Progress:
        """Make the step of a lesson; place: of this student among those of the lesson.

        Raises Diverged as `fit` says.
        """
        train, state = self._train, self.state
        with self._clock.running():
            rate = learning_rate(train, lesson.step)
            for group in state.optimizer.param_groups:
                group["lr"] = group_rate(train, rate, group)
            losses, clip = self._forward(lesson, lesson.selections[place])
            norms = _measured_norms(losses, state, self._workers)
            terms = _backward(losses, self._workers, state.scaler)
            if self._ignored:
                terms["ignored"] = (clip.masks[:, 1:] == IGNORED).float().mean()
            self._numbers.add(lesson.step, {**terms, "grad_norm": _clipped_norm(state, train)})
            log, checkpoint, evaluate = (
                lesson.step + 1 == train.steps or (lesson.step + 1) % every == 0
                for every in (LOG_EVERY, train.checkpoint_every, train.eval_every)
            )
            values: dict[str, float] = {}
            if log or checkpoint or evaluate or state.waits:
                values = _finite(self._numbers, state, train)
            state.update(self._numbers.bad)
            state.step += 1
        return Progress(
            step=state.step,
            losses=values if log else None,
            speed=self._speed() if log else None,
            gradients=norms,
            checkpoint=checkpoint,
            evaluate=evaluate,
        )

    def _speed(self) -> dict[str, float]:
        before, self._reading = self._reading, self._clock.read()
        return self._reading.since(before)

    def _forward(self, lesson: Lesson, selection: Selection | None) -> tuple[Losses, Clip]:
        """Run the student on a batch; return the losses, and the clip with its labels.

        Layers that draw, such as dropout, are seeded by the samples they see: a resumed run draws
        what the uninterrupted run drew. Another number of workers sees other samples at once and
        draws otherwise.
        """
        train, distill, clip = self._train, self.distill, lesson.clip
        self.state.trainee.train()
        norms = (m for m in self._module.modules() if isinstance(m, nn.BatchNorm2d))
        assert not any(m.training for m in norms), "BatchNorm must be in eval mode: it is frozen"
        progress = lesson.step / train.steps
        keep = keep_fraction(
            progress,
            train.bootstrap,
            start=train.bootstrap_from,
            end=train.bootstrap_until,
        )
        seed = seed_of(distill.seed, "model", *clip.samples)
        device = self._workers.device
        with drawn_from(seed, device), autocast(train, device):
            if distill.label_above is not None and lesson.teacher is not None:
                clip, selection = distill.label(clip, lesson.teacher)
            losses = distill.losses(
                self._module,
                clip,
                keep=keep,
                progress=progress,
                given_masks=progress < train.given_masks and distill.loss.needs_labels,
                teacher_output=lesson.teacher,
                selection=selection,
            )
        return losses, clip


def fit(
    state: TrainingState,
    clips: ClipSource,
    distill: DistillStep,
    train: TrainConfig,
    *,
    teacher: nn.Module | None = None,
    module: nn.Module | None = None,
    workers: Workers | None = None,
    loaders: int = 0,
    ignored: bool = False,
) -> Iterator[Progress]:
    """Train one student from `state.step` to `train.steps`, yielding after every step.

    clips       clips by global sample index; step n takes n * batch_size ... of them
    teacher     where `distill.loss.needs_teacher` or it labels clips; stays as it is
    module      the trainee as `workers.wrap` returns it (DDP); the trainee itself by default
    workers     this process among those that train together; a single process by default
    loaders     processes that make batches ahead; 0: made when they are wanted
    ignored     report the share of this worker's pixels after first frames that have no label
    BatchNorm is frozen: its statistics stay, its scale and shift are learnt.
    Raises Diverged, with the state as it was before the step that it names, on a loss or gradient
    that is not finite: at that step, with a fused optimizer at latest when numbers are due next.
    In float16 such a gradient only lowers the loss scale and is skipped, until the scale is 1.
    Raises ValueError where workers do not divide the global batch.
    """
    workers = workers or Workers(device=next(state.trainee.parameters()).device)
    clock, steps = Throughput(), range(state.step, train.steps)
    student = Student(
        state, distill, train, clock=clock, workers=workers, module=module, ignored=ignored
    )
    each = lessons(
        clips,
        [distill],
        train,
        steps,
        teacher=teacher,
        workers=workers,
        loaders=loaders,
        clock=clock,
    )
    with closing(each):
        for lesson in each:
            yield student.learn(lesson)


def _measured_norms(
    losses: Losses, state: TrainingState, workers: Workers
) -> dict[str, float] | None:
    """Measure the gradient of every term on rank 0, at the steps where that is done."""
    if workers.rank > 0 or state.step + 1 not in gradient_norms.MEASURED:
        return None
    return gradient_norms.measure(losses, state.scaler.get_scale())


def _clipped_norm(state: TrainingState, train: TrainConfig) -> Tensor:
    """Take the loss scale off the gradients, clip them, and return their norm before that."""
    state.scaler.unscale_(state.optimizer)
    parameters = [p for p in state.trainee.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(parameters, train.clip_norm or math.inf)
    if state.scaler.is_enabled() and state.scaler.get_scale() > 1:
        norm = norm.nan_to_num(0.0, posinf=0.0)  # of an update that is skipped
    return norm


def _finite(numbers: _Numbers, state: TrainingState, train: TrainConfig) -> dict[str, float]:
    """Return the newest step's numbers. Raises Diverged where one since the last reading is bad."""
    step, values = numbers.read()
    if not all(map(math.isfinite, values.values())):
        state.step = step
        raise Diverged(_not_finite(step, values, train))
    return values


class _Numbers:
    """Losses and gradient norms by step, which stay on the device until they are read.

    Reading waits for the device. bad: 1.0 from the first step on that is not finite, else 0.0.
    """

    def __init__(self, device: torch.device) -> None:
        self.bad = torch.zeros((), device=device)
        self._unread: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Add the numbers of a step by name."""
        stacked = torch.stack(list(values.values()))
        self.bad = torch.maximum(self.bad, 1.0 - stacked.isfinite().all().float())
        self._unread.append((step, list(values), stacked))

    def read(self) -> tuple[int, dict[str, float]]:
        """Return the first step since the last reading that is not finite, or the newest."""
        table = torch.stack([stacked for *_, stacked in self._unread]).tolist()
        rows = [
            (step, dict(zip(names, row, strict=True)))
            for (step, names, _), row in zip(self._unread, table, strict=True)
        ]
        self._unread.clear()
        bad = [row for row in rows if not all(map(math.isfinite, row[1].values()))]
        return (bad or rows[-1:])[0]


def _not_finite(step: int, values: Mapping[str, float], train: TrainConfig) -> str:
    """Word the error of a step: its numbers, and what to change."""
    text = ", ".join(f"{name.replace('grad_', 'gradient ')} {v:.4g}" for name, v in values.items())
    return (
        f"step {step + 1}: not finite: {text}; "
        f"try a lower train.lr (now {train.lr:g}) or train.clip_norm"
    )


def _backward(losses: Losses, workers: Workers, scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Backpropagate the sum over terms of weight * (sum over workers) / (count over workers).

    DDP averages gradients over the workers, so each one's part is multiplied by their number.
    Returns "total" and every term, on the device, which nothing here waits for.
    """
    names = list(losses.sums)
    sums = torch.stack([losses.sums[name].float() for name in names])

    def placed(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value).to(sums.device, torch.float32, non_blocking=True)

    counts = workers.all_reduce(torch.stack([placed(losses.counts[n]) for n in names])).clamp_min(1)
    weights = torch.stack([placed(losses.weights[name]) for name in names])
    scaler.scale((weights * sums / counts).sum() * workers.world).backward()
    means = workers.all_reduce(sums.detach()) / counts
    return {"total": (weights * means).sum(), **dict(zip(names, means, strict=True))}
