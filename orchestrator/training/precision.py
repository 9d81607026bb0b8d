"""Choose the half type of a step, and prepare a model for half types."""

from __future__ import annotations

import torch
from torch import nn

from orchestrator.config.train import TrainConfig
from vosmodels.training_kernels import thin_strided_depthwise


def half_type(train: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Choose the type of convolutions and products; None means float32.

    `amp: auto` is bfloat16 on a GPU and float32 on a CPU, as not every CPU multiplies bfloat16.
    bfloat16 has the range of float32, so the loss needs no scaling as in float16.
    """
    if train.amp == "float16":
        return torch.float16
    if train.amp == "bfloat16" or (train.amp == "auto" and device.type == "cuda"):
        return torch.bfloat16
    return None


def autocast(train: TrainConfig, device: torch.device) -> torch.autocast:
    """Return the autocast context for the forward passes and losses of a step."""
    dtype = half_type(train, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def arrange(trainee: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Prepare a trainee and its optimizer for steps in a half type.

    Weights and moments become channels-last, and strided depthwise convolutions on a CPU become
    `Thinned`. Values and names of weights stay, but later sums run in another order, so a resumed
    run must be arranged as the uninterrupted run was.
    """
    trainee.to(memory_format=torch.channels_last)
    for moments in optimizer.state.values():
        for name, value in moments.items():
            if value.ndim == 4:
                moments[name] = value.contiguous(memory_format=torch.channels_last)
    thin_strided_depthwise(trainee)
