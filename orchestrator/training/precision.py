"""Choose the half type of a step, and prepare a model for half types."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.config.sections import TrainConfig


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


class Thinned(nn.Conv2d):
    """A strided depthwise convolution, trained at stride 1 and subsampled.

    Weights and result are those of the strided convolution, up to rounding. torch on a CPU has no
    fast bfloat16 kernel for the gradient of a strided depthwise convolution: a layer takes ten
    times as long as at stride 1, and those of a MobileNetV2 together a fifth of a whole step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve as nn.Conv2d does; without gradient the result is equal to the bit."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        dense = functional.conv2d(x, self.weight, self.bias, 1, self.padding, 1, self.groups)
        return dense[..., :: self.stride[0], :: self.stride[1]]


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
    for layer in trainee.modules():
        if type(layer) is nn.Conv2d and layer.groups > 1 and max(layer.stride) > 1:
            assert set(layer.dilation) == {1}
            if layer.weight.device.type == "cpu":
                layer.__class__ = Thinned
