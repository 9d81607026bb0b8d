"""Set the running statistics of new BatchNorm layers once, from data.

BatchNorm is frozen in every optimisation step, so statistics that were never set stay (0, 1). A
random MobileNetV2 with such statistics is dead: the standard deviation of its features shrinks to
4e-6.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from vosmodels.model import VideoModel
from vosmodels.types import Clip

logger = logging.getLogger(__name__)

Norm: TypeAlias = nn.BatchNorm2d | FrozenBatchNorm2d


class _Moments:
    """Count, sum and sum of squares per channel of all inputs of a BatchNorm layer."""

    def __init__(self, layer: Norm) -> None:
        self.layer = layer
        self.count = 0
        self.total = torch.zeros_like(layer.weight, dtype=torch.float64)
        self.squares = torch.zeros_like(self.total)

    def before_forward(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add the batch to the moments and make the layer normalise with its statistics.

        A batch of one value per channel (an image mean of one object) has no variance, so the
        layer normalises with the moments of all batches so far.
        """
        x = inputs[0].transpose(0, 1).flatten(1).to(torch.float64, copy=True)  # (C, values)
        total, squares, count = x.sum(1), x.square_().sum(1), x.shape[1]
        self.total += total
        self.squares += squares
        self.count += count
        if count > 1:
            self._set(total, squares, count)
        else:
            self.settle()

    def settle(self) -> None:
        """Set the layer's running statistics to the moments of all batches together."""
        self._set(self.total, self.squares, self.count)

    def _set(self, total: Tensor, squares: Tensor, count: int) -> None:
        layer = self.layer
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = total / max(count, 1)
        layer.running_mean.copy_(mean)
        if count > 1:  # one value has no variance: running_var keeps its value
            layer.running_var.copy_((squares / count - mean.square()).clamp_min(0))


def calibrate(
    model: VideoModel, clips: Iterable[Clip], *, loaded: Sequence[nn.Module] = ()
) -> None:
    """Set the running statistics of every BatchNorm outside the `loaded` modules.

    mean_c, var_c = moments of the layer's inputs over all frames of all clips together, while
    every layer normalises with the statistics of its own batch. The clips run through the whole
    network, with their true masks in the memory (predicted ones where a clip has no labels), so
    that value encoder and ASPP see their real inputs. Raises ValueError if there is a layer to
    set but no clip.
    """
    excluded = {module for part in loaded for module in part.modules()}
    layers = [m for m in model.modules() if isinstance(m, Norm) and m not in excluded]
    if not layers:
        return
    moments = [_Moments(layer) for layer in layers]
    hooks = [m.layer.register_forward_pre_hook(m.before_forward) for m in moments]
    count = 0
    try:
        with torch.no_grad():
            for clip in clips:
                model.roll(clip, given_masks=clip.labelled)
                count += 1
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        raise ValueError("no clips to calibrate from")
    with torch.no_grad():
        for m in moments:
            m.settle()
    logger.info("calibrated layers=%d clips=%d", len(layers), count)
