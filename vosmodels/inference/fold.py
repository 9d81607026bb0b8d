"""Prepare a network for inference: fold BatchNorm, order memory, choose the type."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from vosmodels.aot.encoder import DILATED_FROM, DilatedMobileNetV2, ResNet50
from vosmodels.backbones import (
    MobileNetV2Encoder,
    MobileNetV2ValueEncoder,
    ResNet18ValueEncoder,
    ResNetEncoder,
)
from vosmodels.inference.stripes import Stripes, in_stripes
from vosmodels.model import VideoModel

Model = TypeVar("Model", bound=VideoModel)
NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)
# Weight decay takes what learns nothing towards 0, and never there. Below 1e-38 a float32 has fewer
# digits, and an x86 processor takes many times as long for it: a student of 2,800 steps had 44,244
# such weights of 2.6 M, and a frame of 240x432 took 0.76 s instead of 0.11 s. Weights below this
# bound are 0 in an inference network: beside values of any use they change no sum.
SMALLEST = 1e-20


def for_inference(
    model: Model, *, dtype: torch.dtype = torch.float32, stripes: bool = True
) -> Model:
    """Return a faster copy of `model` for inference, equal up to rounding.

    A frozen BatchNorm is a scale and a shift per channel, so both are folded into the weights of
    the convolution before it; weights below SMALLEST are 0. The copy cannot be trained. dtype:
    type of weights and features; keys are matched and objects aggregated in float32 for every
    dtype. stripes: run wide maps a few rows at a time, which suits a CPU and no exported graph.
    Raises ValueError if a BatchNorm follows no convolution.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    for module in network.modules():
        for (_, layer), (name, norm) in pairwise(module.named_children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, NORMS):
                _fold(layer, norm)
                setattr(module, name, nn.Identity())
    for encoder in list(network.modules()) if stripes else []:
        if isinstance(encoder, MobileNetV2Encoder | MobileNetV2ValueEncoder):
            encoder.features = in_stripes(encoder.features)
        if isinstance(encoder, DilatedMobileNetV2):
            small = encoder.features[:DILATED_FROM]
            encoder.features = nn.Sequential(*in_stripes(small), *encoder.features[DILATED_FROM:])
        if isinstance(encoder, ResNetEncoder | ResNet18ValueEncoder | ResNet50):
            encoder.conv1 = Stripes([encoder.conv1, encoder.relu, encoder.maxpool])
            encoder.relu, encoder.maxpool = nn.Identity(), nn.Identity()
    unfolded = [name for name, module in network.named_modules() if isinstance(module, NORMS)]
    if unfolded:
        raise ValueError(f"BatchNorm that follows no convolution: {unfolded}")
    constants = _constants(model)
    network.to(dtype)
    network.to(memory_format=torch.channels_last)
    for parameter in network.parameters():
        parameter.masked_fill_(parameter.abs() < SMALLEST, 0)
    for name, value in constants.items():
        owner, _, buffer = name.rpartition(".")
        setattr(network.get_submodule(owner), buffer, value)
    return network


def _fold(layer: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> None:
    """Let a convolution do what it and the norm behind it did."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )


def _constants(model: VideoModel) -> dict[str, Tensor]:
    """Return the buffers that no weights file holds, such as the mean colour.

    They keep full precision.
    """
    stored = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name not in stored}
