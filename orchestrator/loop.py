"""The training loop. It yields; the caller evaluates, writes and reports."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from orchestrator import resume
from orchestrator.config import TrainConfig
from orchestrator.distill import DistillStep, Losses, Trainee
from vosmodels.data.clips import batch
from vosmodels.losses import keep_fraction
from vosmodels.types import ClipSource

LOG_EVERY = 10  # steps between logged losses
SCALER = ("scale", "_growth_tracker")  # what torch's loss scaler remembers from step to step


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
    """What has just happened. losses: terms by name with "total", where they are due."""

    step: int
    losses: Mapping[str, float] | None
    checkpoint: bool
    evaluate: bool


class TrainingState:
    """Everything a run is at a step: trainee, optimizer, loss scaler, average, stage and step
    count. Nothing else is random or remembered: clips, pixels and learning rate are functions of
    the step."""

    def __init__(self, trainee: Trainee, train: TrainConfig) -> None:
        self.trainee = trainee
        self.stage = 0
        self.before = 0  # steps of the stages that are done
        self._begin(train)

    def next_stage(self, train: TrainConfig) -> None:
        """Go on from the weights this stage delivers, with an optimizer that remembers nothing: as
        STCN does, whose stages are runs of their own."""
        self.trainee.model.load_state_dict(self.model.state_dict())
        self.stage += 1
        self.before += self.step
        self._begin(train)

    def _begin(self, train: TrainConfig) -> None:
        self.step = 0  # of this stage
        self.optimizer = torch.optim.Adam(
            self.trainee.parameters(), lr=train.lr, weight_decay=train.weight_decay
        )
        device = next(self.trainee.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.amp == "float16")
        self.average: AveragedModel | None = None
        if train.ema:
            mean = get_ema_multi_avg_fn(train.ema)
            self.average = AveragedModel(self.trainee.model, multi_avg_fn=mean)

    @property
    def done(self) -> int:
        """Steps of all stages so far."""
        return self.before + self.step

    @property
    def model(self) -> nn.Module:
        """The weights that are scored and kept: the average over steps where there is one."""
        return self.average.module if self.average else self.trainee.model

    def save(self, folder: Path) -> None:
        """Write this step's state; InputError where it cannot be written."""
        parts: dict[str, Mapping[str, Tensor]] = {"trainee": self.trainee.state_dict()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            parts[f"optimizer.{index}"] = moments
        if self.average:
            parts["average"] = self.average.state_dict()
        if self.scaler.is_enabled():
            parts["scaler"] = {k: torch.tensor(self.scaler.state_dict()[k]) for k in SCALER}
        parts["at"] = {"stage": torch.tensor(self.stage), "step": torch.tensor(self.step)}
        tensors = {f"{p}.{k}": v for p, part in parts.items() for k, v in part.items()}
        resume.write(folder, self.done, tensors)

    def restore(self, folder: Path, share: Share | None = None) -> bool:
        """Load the newest whole state in `folder`; False where there is none.

        Workers all load the one that rank 0 finds, as each may see another as the newest.
        Raises InputError in a worker that cannot read that one.
        """
        share = share or Share()
        found = resume.newest(folder) if share.rank == 0 else None
        device = next(self.trainee.parameters()).device
        done = int(share.add_up(torch.tensor(found[0] if found else 0, device=device)))
        if done == 0:
            return False
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in (found[1] if found else resume.read(folder, done)).items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        self.trainee.load_state_dict(parts["trainee"])
        moments: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, value in parts["optimizer"].items():
            index, _, moment = name.partition(".")
            moments[int(index)][moment] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(moments), "param_groups": groups})
        if self.average:
            self.average.load_state_dict(parts["average"])
        if self.scaler.is_enabled():
            scale = {key: value.item() for key, value in parts["scaler"].items()}
            self.scaler.load_state_dict({**self.scaler.state_dict(), **scale})
        self.stage, self.step = (int(parts["at"][key]) for key in ("stage", "step"))
        self.before = done - self.step
        return True


def learning_rate(train: TrainConfig, step: int) -> float:
    """The rate of step `step` (0-based).

    step: lr, a tenth of it from `decay_at` of the steps on (5/6: STCN decays at 250k of 300k, 125k
    of 150k);
    cosine: from lr to 5 % of it. Both rise linearly over the first `warmup` share of the steps.
    """
    progress = step / train.steps
    rising = min(1.0, (step + 1) / max(1.0, train.warmup * train.steps))
    if train.schedule == "cosine":
        return train.lr * rising * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))
    return train.lr * rising * (0.1 if progress >= train.decay_at else 1.0)


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
    BatchNorm is frozen: its statistics stay, its scale and shift are learnt.
    Raises Diverged before the optimizer moves on a loss or gradient that is not finite (in float16
    such a gradient only lowers the loss scale, until that reaches 1), and ValueError where workers
    do not divide the global batch.
    """
    share = share or Share()
    module = module or state.trainee
    device = device or next(state.trainee.parameters()).device
    parameters = [p for p in state.trainee.parameters() if p.requires_grad]
    if step.needs_teacher and teacher is None:
        raise ValueError("the loss has distillation terms, and there is no teacher")
    norms = (m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    assert not any(m.training for m in norms), "BatchNorm must be in eval mode: it is frozen"
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
        values = _backward(losses, share, state.scaler)
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, train.clip_norm or math.inf)
        overflow = state.scaler.is_enabled() and state.scaler.get_scale() > 1
        if not math.isfinite(values["total"]) or not (math.isfinite(float(norm)) or overflow):
            told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise Diverged(
                f"step {state.step + 1}: not finite: {told}, gradient norm {float(norm):.4g}; "
                f"try a lower train.lr (now {train.lr:g}) or train.clip_norm"
            )
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average:
            state.average.update_parameters(state.trainee.model)
        state.step += 1
        last = state.step == train.steps
        due = state.step % LOG_EVERY == 0 or last
        yield Progress(
            step=state.step,
            losses={**values, "grad_norm": float(norm)} if due else None,
            checkpoint=last or state.step % train.checkpoint_every == 0,
            evaluate=last or state.step % train.eval_every == 0,
        )


def _backward(losses: Losses, share: Share, scaler: torch.amp.GradScaler) -> dict[str, float]:
    """Gradient of sum over terms of weight * (sum over all workers) / (count over all workers).

    DDP averages gradients over the workers, so each one's part is multiplied by their number.
    """
    names = list(losses.sums)
    sums = torch.stack([losses.sums[name].float() for name in names])
    counts = torch.stack([torch.as_tensor(losses.counts[n], device=sums.device) for n in names])
    counts = share.add_up(counts.float()).clamp_min(1)
    weights = torch.tensor([losses.weights[name] for name in names], device=sums.device)
    scaler.scale((weights * sums / counts).sum() * share.world).backward()
    means = share.add_up(sums.detach()) / counts
    return {
        "total": float((weights * means).sum()),
        **dict(zip(names, means.tolist(), strict=True)),
    }


def _autocast(device: torch.device, amp: str) -> torch.autocast | nullcontext[None]:
    """float16 where it is asked for; bfloat16 on a GPU unless switched off: it needs no loss
    scaling."""
    if amp == "float16":
        return torch.autocast(device.type, dtype=torch.float16)
    if device.type == "cuda" and amp != "off":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
