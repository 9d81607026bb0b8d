"""The training loop. It yields; the caller evaluates, writes and reports."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from orchestrator import gradients
from orchestrator.config import TrainConfig
from orchestrator.distill import DistillStep, Losses, Trainee
from vosmodels.data.clips import batch
from vosmodels.losses import keep_fraction
from vosmodels.types import ClipSource

LOG_EVERY = 10  # steps between logged losses
RESUME_KEPT = 2  # resume states on disk


class Diverged(RuntimeError):
    """A loss or a gradient is not finite; the optimizer has not moved."""


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
    """What has just happened. losses: terms by name with "total", gradients: their norms on rank
    0; where they are due."""

    step: int
    losses: Mapping[str, float] | None
    gradients: Mapping[str, float] | None
    checkpoint: bool
    evaluate: bool


class TrainingState:
    """Everything a run is at a step: trainee, optimizer, step count. Nothing else is random or
    remembered: clips, pixels and learning rate are functions of the step."""

    def __init__(self, trainee: Trainee, train: TrainConfig) -> None:
        self.trainee = trainee
        self.optimizer = torch.optim.Adam(
            trainee.parameters(), lr=train.lr, weight_decay=train.weight_decay
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
) -> Iterator[Progress]:
    """Train from `state.step` to `train.steps`, yielding after every step.

    clips       clips by global sample index; step n takes n * batch_size ... of them
    teacher     where `step.needs_teacher`; stays as it is
    module      the trainee as the workers wrap it (DDP); the trainee itself by default
    Raises Diverged before the optimizer moves on a loss or gradient that is not finite, and
    ValueError where workers do not divide the global batch.
    """
    share = share or Share()
    module = module or state.trainee
    device = device or next(state.trainee.parameters()).device
    parameters = [p for p in state.trainee.parameters() if p.requires_grad]
    if step.needs_teacher and teacher is None:
        raise ValueError("the loss has distillation terms, and there is no teacher")
    while state.step < train.steps:
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(train, state.step)
        clip = batch(clips, state.step, train.batch_size, share.rank, share.world)
        selection = step.select(clip)
        clip = clip.to(device)
        selection = selection.to(device) if selection else None
        keep = keep_fraction(state.step / train.steps, train.bootstrap)
        with _autocast(device, train.amp):
            taught = step.teach(teacher, clip) if selection and teacher else None
            losses = step.losses(module, clip, keep=keep, taught=taught, selection=selection)
        measured = None
        if share.rank == 0 and state.step + 1 in gradients.MEASURED:
            measured = gradients.measure(losses)
        values = _backward(losses, share)
        norm = nn.utils.clip_grad_norm_(parameters, train.clip_norm or math.inf)
        if not math.isfinite(values["total"]) or not math.isfinite(float(norm)):
            told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise Diverged(
                f"step {state.step + 1}: not finite: {told}, gradient norm {float(norm):.4g}; "
                f"try a lower train.lr (now {train.lr:g}) or train.clip_norm"
            )
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        last = state.step == train.steps
        due = state.step % LOG_EVERY == 0 or last
        yield Progress(
            step=state.step,
            losses={**values, "grad_norm": float(norm)} if due else None,
            gradients=measured,
            checkpoint=last or state.step % train.checkpoint_every == 0,
            evaluate=last or state.step % train.eval_every == 0,
        )


def _backward(losses: Losses, share: Share) -> dict[str, float]:
    """Gradient of sum over terms of weight * (sum over all workers) / (count over all workers).

    DDP averages gradients over the workers, so each one's part is multiplied by their number.
    """
    names = list(losses.sums)
    sums = torch.stack([losses.sums[name].float() for name in names])
    counts = torch.stack([torch.as_tensor(losses.counts[n], device=sums.device) for n in names])
    counts = share.add_up(counts.float()).clamp_min(1)
    weights = torch.tensor([losses.weights[name] for name in names], device=sums.device)
    (weights * sums / counts).sum().mul(share.world).backward()
    means = share.add_up(sums.detach()) / counts
    return {
        "total": float((weights * means).sum()),
        **dict(zip(names, means.tolist(), strict=True)),
    }


def _autocast(device: torch.device, amp: str) -> torch.autocast | nullcontext[None]:
    """bfloat16 on a GPU unless switched off; it needs no loss scaling."""
    if device.type == "cuda" and amp != "off":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
