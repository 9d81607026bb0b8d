"""Hold the resumable state of a training: model, optimizer, scaler, EMA, step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from orchestrator.config.train import TrainConfig
from orchestrator.training import resume
from orchestrator.training.distill_step import Trainee
from orchestrator.training.distributed import Workers
from orchestrator.training.optimizer import optimizer_of

SCALER = ("scale", "_growth_tracker")  # state of torch's loss scaler


def rising_decay(decay: float, update: int) -> float:
    """Return min(decay, (1 + n) / (10 + n)) of update n, counted from 1      AOT's code

    A long average of short training would hold mostly the weights before it.
    """
    return min(decay, (1 + update) / (10 + update))


class TrainingState:
    """Trainee, optimizer, loss scaler, weight average, stage and step of a run.

    A run has no other state: clips, pixels and learning rate are functions of the step.
    """

    def __init__(self, trainee: Trainee, train: TrainConfig) -> None:
        self.trainee = trainee
        self.stage = 0
        self.before = 0  # steps of all earlier stages
        self._begin(train)

    def next_stage(self, train: TrainConfig) -> None:
        """Start the next stage from the weights of this stage, with a new optimizer.

        STCN does so too: its stages are separate runs.
        """
        self.trainee.model.load_state_dict(self.model.state_dict())
        self.stage += 1
        self.before += self.step
        self._begin(train)

    def _begin(self, train: TrainConfig) -> None:
        self.step = 0  # of this stage
        device = next(self.trainee.parameters()).device
        self.optimizer = optimizer_of(self.trainee, train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.amp == "float16")
        self.average: AveragedModel | None = None
        if train.ema:
            mean = get_ema_multi_avg_fn(train.ema)
            if train.ema_warmup:
                mean = self._rising_average(train.ema)
            self.average = AveragedModel(self.trainee.model, multi_avg_fn=mean)
            if train.ema_warmup:
                self.average.n_averaged.fill_(1)  # the weights before the first step count too

    def _rising_average(self, decay: float) -> Callable[..., None]:
        """Return the update of an average whose decay rises with the steps of the stage."""

        def update(average: Sequence[Tensor], weights: Sequence[Tensor], _: Tensor | int) -> None:
            share = 1 - rising_decay(decay, self.step + 1)
            torch._foreach_lerp_(list(average), list(weights), share)

        return torch.no_grad()(update)

    @property
    def done(self) -> int:
        """Number of steps so far, over all stages."""
        return self.before + self.step

    @property
    def waits(self) -> bool:
        """True where `update` needs a finite gradient, which the loop must check first."""
        return self.scaler.is_enabled() or not self.optimizer.defaults["fused"]

    @property
    def model(self) -> nn.Module:
        """Model that is scored and saved: the average over steps if there is one."""
        return self.average.module if self.average else self.trainee.model

    def save(self, folder: Path) -> None:
        """Write the state of this step. Raises InputError where it cannot be written."""
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

    def restore(self, folder: Path, workers: Workers | None = None) -> bool:
        """Load the newest whole state in `folder`; return False where there is none.

        All workers load the state that rank 0 chooses, as each may see another newest file.
        Raises InputError in a worker that cannot read that state.
        """
        workers = workers or Workers()
        newest = resume.newest(folder) if workers.rank == 0 else None
        device = next(self.trainee.parameters()).device
        done = int(workers.all_reduce(torch.tensor(newest[0] if newest else 0, device=device)))
        if done == 0:
            return False
        parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for name, value in (newest[1] if newest else resume.read(folder, done)).items():
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

    def update(self, bad: Tensor) -> None:
        """Step the optimizer, clear the gradient and update the weight average.

        bad: 1 makes a fused optimizer skip the step. In float16 the loss scaler skips a step whose
        gradient is not finite.
        """
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            if self.optimizer.defaults["fused"]:
                self.optimizer.found_inf = bad  # type: ignore[attr-defined]  # as GradScaler does
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update_parameters(self.trainee.model)
