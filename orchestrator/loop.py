"""The training loop. It yields; the caller evaluates, writes and reports."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from orchestrator.config import TrainConfig
from orchestrator.distill import DistillStep, Losses, Trainee
from orchestrator.loader import Batches, load
from orchestrator.pace import Pace
from orchestrator.precision import autocast
from vosmodels.losses import keep_fraction
from vosmodels.types import ClipSource

LOG_EVERY = 10  # steps between logged losses
RESUME_KEPT = 2  # resume states on disk


class Diverged(RuntimeError):
    """A loss or a gradient is not finite; the optimizer has not moved since the step before."""


@dataclass(frozen=True)
class Share:
    """This process's part of a group of workers that train one student together.

    add_up: sums a tensor over all workers, in place of none for a single one.
    """

    rank: int = 0
    world: int = 1
    add_up: Callable[[Tensor], Tensor] = lambda tensor: tensor


@dataclass(frozen=True)
class Progress:
    """What has just happened. losses: terms by name with "total"; speed: `Pace.report`; both where
    they are due."""

    step: int
    losses: Mapping[str, float] | None
    speed: Mapping[str, float] | None
    checkpoint: bool
    evaluate: bool


class TrainingState:
    """Everything a run is at a step: trainee, optimizer, step count. Nothing else is random or
    remembered: clips, pixels and learning rate are functions of the step."""

    def __init__(self, trainee: Trainee, train: TrainConfig) -> None:
        self.trainee = trainee
        # A fused optimizer skips a step by itself: on a GPU the loop need not wait to tell it to.
        self.optimizer = torch.optim.Adam(
            trainee.parameters(),
            lr=train.lr,
            weight_decay=train.weight_decay,
            fused=next(trainee.parameters()).is_cuda or None,
        )
        self.step = 0

    def save(self, folder: Path) -> None:
        """Write this step's state as one folder, atomically; keep the last two."""
        target = folder / f"{self.step:07d}"
        scratch = folder / f".{self.step:07d}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        tensors = {f"trainee.{k}": v.contiguous() for k, v in self.trainee.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                tensors[f"optimizer.{index}.{name}"] = value.contiguous()
        save_file(tensors, scratch / "state.safetensors")
        (scratch / "state.json").write_text(json.dumps({"step": self.step}))
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
        for old in saved_states(folder)[:-RESUME_KEPT]:
            shutil.rmtree(old)

    def restore(self, folder: Path) -> bool:
        """Load the newest state in `folder`; False where there is none."""
        states = saved_states(folder)
        if not states:
            return False
        tensors = load_file(states[-1] / "state.safetensors")
        moments: dict[int, dict[str, Tensor]] = {}
        weights: dict[str, Tensor] = {}
        for name, value in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "trainee":
                weights[rest] = value
            else:
                index, moment = rest.split(".", 1)
                moments.setdefault(int(index), {})[moment] = value
        self.trainee.load_state_dict(weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step = int(json.loads((states[-1] / "state.json").read_text())["step"])
        return True


def saved_states(folder: Path) -> list[Path]:
    """Whole resume states, oldest first; a folder that was being written when a process died has
    a leading dot and is no state."""
    return sorted(p for p in folder.glob("[0-9]*") if (p / "state.json").exists())


def learning_rate(train: TrainConfig, step: int) -> float:
    """The rate of step `step` (0-based).

    step: lr, a tenth of it from 5/6 of the steps on (STCN decays at 250k of 300k, 125k of 150k);
    cosine: from lr to 5 % of it. Both rise linearly over the first `warmup` share of the steps.
    """
    progress = step / train.steps
    rising = min(1.0, (step + 1) / max(1.0, train.warmup * train.steps))
    if train.schedule == "cosine":
        return train.lr * rising * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
    return train.lr * rising * (0.1 if progress >= 5 / 6 else 1.0)


def fit(
    state: TrainingState,
    clips: ClipSource,
    step: DistillStep,
    train: TrainConfig,
    *,
    teacher: nn.Module | None = None,
    module: nn.Module | None = None,
    share: Share | None = None,
    device: torch.device | None = None,
    loaders: int = 0,
) -> Iterator[Progress]:
    """Train from `state.step` to `train.steps`, yielding after every step.

    clips       clips by global sample index; step n takes n * batch_size ... of them
    teacher     where `step.needs_teacher`; stays as it is
    module      the trainee as the workers wrap it (DDP); the trainee itself by default
    loaders     processes that make batches ahead; 0: made when they are wanted
    Raises Diverged, with the state as it was before the step that it names, on a loss or gradient
    that is not finite: at that step, with a fused optimizer at latest when numbers are due next.
    Raises ValueError where workers do not divide the global batch.
    """
    share = share or Share()
    module = module or state.trainee
    device = device or next(state.trainee.parameters()).device
    parameters = [p for p in state.trainee.parameters() if p.requires_grad]
    if step.needs_teacher and teacher is None:
        raise ValueError("the loss has distillation terms, and there is no teacher")
    batches = Batches(clips, step.select, train.batch_size, share.rank, share.world)
    steps = range(state.step, train.steps)
    pace, numbers = Pace(), _Numbers(device)
    with closing(load(batches, steps, workers=loaders, pin=device.type == "cuda")) as ahead:
        for _ in steps:
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(train, state.step)
            made = pace.take(ahead).to(device)
            clip, selection = made.clip, made.selection
            keep = keep_fraction(state.step / train.steps, train.bootstrap)
            with autocast(train, device):
                taught = step.teach(teacher, clip) if selection and teacher else None
                losses = step.losses(module, clip, keep=keep, taught=taught, selection=selection)
            values = _backward(losses, share)
            norm = nn.utils.clip_grad_norm_(parameters, train.clip_norm or math.inf)
            numbers.add(state.step, {**values, "grad_norm": norm})
            due, checkpoint, evaluate = (
                state.step + 1 == train.steps or (state.step + 1) % every == 0
                for every in (LOG_EVERY, train.checkpoint_every, train.eval_every)
            )
            told: dict[str, float] = {}
            if due or checkpoint or evaluate or not state.optimizer.defaults["fused"]:
                at, told = numbers.read()
                if not all(map(math.isfinite, told.values())):
                    state.step = at
                    raise Diverged(_not_finite(at, told, train))
            _move(state.optimizer, numbers.bad)
            state.step += 1
            pace.stepped(train.batch_size)
            yield Progress(
                step=state.step,
                losses=told if due else None,
                speed=pace.report() if due else None,
                checkpoint=checkpoint,
                evaluate=evaluate,
            )


class _Numbers:
    """Losses and gradient norms by step, on the device until they are read: to read them is to wait
    for the device.

    bad: 1.0 from the first step on that is not finite, else 0.0.
    """

    def __init__(self, device: torch.device) -> None:
        self.bad = torch.zeros((), device=device)
        self._kept: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        stacked = torch.stack(list(values.values()))
        self.bad = torch.maximum(self.bad, 1.0 - stacked.isfinite().all().float())
        self._kept.append((step, list(values), stacked))

    def read(self) -> tuple[int, dict[str, float]]:
        """The first step since the last reading that is not finite, or the newest; its numbers."""
        table = torch.stack([stacked for *_, stacked in self._kept]).tolist()
        told = [
            (step, dict(zip(names, row, strict=True)))
            for (step, names, _), row in zip(self._kept, table, strict=True)
        ]
        self._kept.clear()
        bad = [row for row in told if not all(map(math.isfinite, row[1].values()))]
        return (bad or told[-1:])[0]


def _move(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """One update and an empty gradient; a fused optimizer stays where it is while `bad` is 1."""
    if optimizer.defaults["fused"]:
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells it
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _not_finite(step: int, told: Mapping[str, float], train: TrainConfig) -> str:
    values = ", ".join(f"{name.replace('grad_', 'gradient ')} {v:.4g}" for name, v in told.items())
    return (
        f"step {step + 1}: not finite: {values}; "
        f"try a lower train.lr (now {train.lr:g}) or train.clip_norm"
    )


def _backward(losses: Losses, share: Share) -> dict[str, Tensor]:
    """Gradient of sum over terms of weight * (sum over all workers) / (count over all workers).

    DDP averages gradients over the workers, so each one's part is multiplied by their number.
    Returns "total" and every term, on the device, which nothing here waits for.
    """
    names = list(losses.sums)
    sums = torch.stack([losses.sums[name].float() for name in names])

    def placed(value: Tensor | float) -> Tensor:
        return torch.as_tensor(value).to(sums.device, torch.float32, non_blocking=True)

    counts = share.add_up(torch.stack([placed(losses.counts[n]) for n in names])).clamp_min(1)
    weights = torch.stack([placed(losses.weights[name]) for name in names])
    (weights * sums / counts).sum().mul(share.world).backward()
    means = share.add_up(sums.detach()) / counts
    return {"total": (weights * means).sum(), **dict(zip(names, means, strict=True))}
