"""Group a trainee's parameters by rate and weight decay, and make their optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import Trainee
from vosmodels.errors import InputError
from vosmodels.model import ParameterKind, VideoModel

CLASSES: Mapping[str, type[torch.optim.Adam]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def optimizer_of(trainee: Trainee, train: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer of the parameters that need a gradient.

    `adam` adds the decay to the gradient of every parameter. `adamw` takes it off the weights, and
    leaves out vectors (biases, norms) outside the encoder and what the model names undecayed, as
    AOT (arXiv:2106.02638, its code). A group's "encoder" says whose rate it has: `group_rate`.
    Raises InputError where train.encoder_lr is set and the model names no encoder.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for kind, parameter in _kinds(trainee):
        encoder = kind == "encoder" and train.encoder_lr < 1
        spared = kind == "undecayed" or (kind == "other" and parameter.ndim <= 1)
        decays = train.optimizer == "adam" or not spared
        groups.setdefault((encoder, decays), []).append(parameter)
    if train.encoder_lr < 1 and not any(encoder for encoder, _ in groups):
        raise InputError(
            f"train.encoder_lr {train.encoder_lr:g}: {getattr(trainee.model, 'name', 'the model')} "
            "names no parameters of an encoder that are trained; leave the key out"
        )
    device = next(trainee.parameters()).device
    # A fused optimizer skips a bad step on the device, so the loop need not wait for a GPU.
    return CLASSES[train.optimizer](
        [_group(train, members, *of) for of, members in groups.items()],
        lr=train.lr,
        weight_decay=train.weight_decay,
        fused=device.type == "cuda" or None,
    )


def group_rate(train: TrainConfig, rate: float, group: Mapping[str, Any]) -> float:
    """Return a group's rate where the schedule says `rate`.

    Of an encoder, (rate - lr_min) encoder_lr + lr_min, as AOT's code; lr_min is 0 where not given.
    """
    if not group.get("encoder", False):
        return rate
    lowest = train.lr_min or 0.0
    return (rate - lowest) * train.encoder_lr + lowest


def _kinds(trainee: Trainee) -> Iterator[tuple[ParameterKind, nn.Parameter]]:
    """Yield the parameters that need a gradient, in their order, with their kinds."""
    model = trainee.model
    kinds = model.parameter_kinds() if isinstance(model, VideoModel) else {}
    named = {f"model.{name}": kind for name, kind in kinds.items()}
    for name, parameter in trainee.named_parameters():
        if parameter.requires_grad:
            yield named.get(name, "other"), parameter


def _group(
    train: TrainConfig, members: list[nn.Parameter], encoder: bool, decays: bool
) -> dict[str, Any]:
    decay = train.weight_decay if decays else 0.0
    return {"params": members, "encoder": encoder, "weight_decay": decay}
