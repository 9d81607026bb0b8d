"""Which steps compute in a half type, and how a model is arranged for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrator.config.sections import TrainConfig


def half_type(train: TrainConfig, device: torch.device) -> torch.dtype | None:
    """The type of a step's convolutions and products; None: as the weights are, float32.

    auto is bfloat16 on a GPU and float32 on a CPU, where not every processor multiplies bfloat16.
    It has float32's range, so the loss needs no scaling, as float16's does.
    """
    if train.amp == "float16":
        return torch.float16
    if train.amp == "bfloat16" or (train.amp == "auto" and device.type == "cuda"):
        return torch.bfloat16
    return None


def autocast(train: TrainConfig, device: torch.device) -> torch.autocast:
    """Around a step's forward passes and losses."""
    dtype = half_type(train, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class Thinned(nn.Conv2d):
    """A strided depthwise convolution, trained as the one of stride 1 of which every so many rows
    and columns are kept: the same weights, the same answer up to rounding.

    torch's CPU library has no fast kernel in bfloat16 for the strided one's gradient: a layer's
    takes ten times that of stride 1, and a MobileNetV2's together a fifth of a whole step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Conv2d; where no gradient is wanted, to the bit."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        dense = functional.conv2d(x, self.weight, self.bias, 1, self.padding, 1, self.groups)
        return dense[..., :: self.stride[0], :: self.stride[1]]


def arrange(trainee: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Make ready for steps in a half type: weights and moments with a pixel's channels side by
    side, as convolutions then want them, and on a CPU its strided depthwise ones `Thinned`.

    No value changes; but sums run in another order from here on, so that a resumed run must be
    arranged as the unbroken one was. Weights keep their names.
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
