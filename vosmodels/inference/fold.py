"""Prepare a network for inference: fold BatchNorm, order memory, choose the type."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights
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


def for_inference(model: Model, *, dtype: torch.dtype = torch.float32) -> Model:
    """Return a faster copy of `model` for inference, equal up to rounding.

    A frozen BatchNorm is a scale and a shift per channel, so both are folded into the weights of
    the convolution before it. The copy cannot be trained. dtype: type of weights and features; keys
    are matched and objects aggregated in float32 for every dtype. Raises ValueError if a BatchNorm
    follows no convolution.
    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    for module in network.modules():
        for (name, layer), (norm_name, norm) in pairwise(module.named_children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, NORMS):
                setattr(module, name, _fused(layer, norm))
                setattr(module, norm_name, nn.Identity())
    for encoder in list(network.modules()):
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
    for name, value in constants.items():
        owner, _, buffer = name.rpartition(".")
        setattr(network.get_submodule(owner), buffer, value)
    return network


def _fused(layer: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> nn.Conv2d:
    """Return a convolution that does what it and the norm behind it did."""
    if isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(layer, norm)
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return layer


def _constants(model: VideoModel) -> dict[str, Tensor]:
    """Return the buffers that no weights file holds, such as the mean colour.

    They keep full precision.
    """
    stored = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name not in stored}
