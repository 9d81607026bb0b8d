"""The same network for running only: BatchNorm folded away, channels last, bfloat16 if wanted."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vosmodels.spacetime import SpaceTimeNetwork


def for_inference(
    model: SpaceTimeNetwork, *, dtype: torch.dtype = torch.float32
) -> SpaceTimeNetwork:
    """A copy that answers as `model` does, up to rounding, in less time; it is not to be trained.

    A frozen BatchNorm is a scale and a shift per channel, so it goes into the weights of the
    convolution before it. dtype: of the weights and features; keys are matched and objects
    aggregated in float32 whatever it is. Raises ValueError where a BatchNorm follows no
    convolution, as nothing could be folded into.
    """
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for module in made.modules():
        for (name, layer), (norm_name, norm) in pairwise(module.named_children()):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(layer, norm))
                setattr(module, norm_name, nn.Identity())
    left = [name for name, module in made.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        raise ValueError(f"BatchNorm that follows no convolution: {left}")
    made.to(dtype)
    made.to(memory_format=torch.channels_last)
    made.mean, made.std = model.mean, model.std  # frames are normalised in full precision
    return made
