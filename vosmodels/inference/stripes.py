"""Run a chain of convolutions on a few rows at a time, so that maps stay in cache.

The first blocks of a MobileNetV2 expand a 480p frame to 40 MB between two convolutions; on a CPU
the memory traffic of these maps takes several times as long as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import InvertedResidual

STRIPE_BYTES = 4 * 2**20  # size of a stripe of the largest map between two convolutions
SMALL_BYTES = 6 * 2**20  # chains whose largest map is at most this size are run whole
FRONT = 3  # blocks of a MobileNetV2 up to stride 4: stem, and two without a shortcut


class Stripes(nn.Module):
    """A chain of layers that is run in stripes of rows.

    layers: convolutions, element-wise activations, and max pooling of values that are not negative;
    residual: add a shortcut around the chain. The result equals, up to rounding, that of the layers
    run one after the other on the whole map: rows that neighbouring stripes share are computed
    twice, and the map's border is padded as usual.
    """

    def __init__(self, layers: Iterable[nn.Module], *, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers on (B, C, H, W); the shape of the result is the last layer's."""
        heights, widest = self._sizes(x)
        rows = max(1, heights[-1] * STRIPE_BYTES // max(1, widest))
        if widest <= SMALL_BYTES or x.is_cuda:
            rows = heights[-1]
        if rows == heights[-1]:
            out = x
            for layer in self.layers:
                out = layer(out)
            return out + x if self.residual else out
        parts = [
            self._rows(x, heights, start, min(start + rows, heights[-1]))
            for start in range(0, heights[-1], rows)
        ]
        out = torch.cat(parts, 2)
        return out + x if self.residual else out

    def _sizes(self, x: Tensor) -> tuple[list[int], int]:
        """Return the rows of x and after each layer, and the bytes of the largest map."""
        channels, height, width = x.shape[1:]
        heights, widest = [height], 0
        for layer in self.layers:
            if (window := _window(layer)) is not None:
                channels = getattr(layer, "out_channels", channels)
                height, width = (
                    (n + 2 * pad - kernel) // stride + 1
                    for n, (kernel, stride, pad) in zip((height, width), window, strict=True)
                )
                widest = max(widest, len(x) * channels * height * width * x.element_size())
            heights.append(height)
        return heights, widest

    def _rows(self, x: Tensor, heights: Sequence[int], start: int, end: int) -> Tensor:
        """Compute rows start..end of the result."""
        spans = []  # per layer, last first: first and last row read, rows of zeros above and below
        for layer, height in zip(reversed(self.layers), reversed(heights[:-1]), strict=True):
            above = below = 0
            if (window := _window(layer)) is not None:
                kernel, stride, pad = window[0]
                start, end = start * stride - pad, (end - 1) * stride + kernel - pad
                above, below = max(0, -start), max(0, end - height)
                start, end = start + above, end - below
            spans.append((start, end, above, below))
        first, last = spans[-1][:2]
        y = x[:, :, first:last]
        for layer, (_, _, above, below) in zip(self.layers, reversed(spans), strict=True):
            if above or below:
                y = functional.pad(y, (0, 0, above, below))
            y = _without_row_padding(layer, y)
        return y


def _window(layer: nn.Module) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return (kernel, stride, padding) by row and by column; None for an activation."""
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        return None
    kernel, stride, pad = (_pair(n) for n in (layer.kernel_size, layer.stride, layer.padding))
    return (kernel[0], stride[0], pad[0]), (kernel[1], stride[1], pad[1])


def _pair(n: Any) -> tuple[int, int]:
    return (n, n) if isinstance(n, int) else (int(n[0]), int(n[1]))


def _without_row_padding(layer: nn.Module, y: Tensor) -> Tensor:
    """Run a layer on rows that are already padded above and below."""
    if isinstance(layer, nn.Conv2d):
        sides = (0, _pair(layer.padding)[1])
        return functional.conv2d(y, layer.weight, layer.bias, layer.stride, sides, 1, layer.groups)
    if isinstance(layer, nn.MaxPool2d):
        sides = (0, _pair(layer.padding)[1])
        return functional.max_pool2d(y, layer.kernel_size, layer.stride, sides)
    answer: Tensor = layer(y)
    return answer


def in_stripes(features: nn.Sequential) -> nn.Sequential:
    """Wrap the blocks of a folded MobileNetV2's `features` to run in stripes.

    The result has as many entries as `features`, so that indices of blocks stay valid.
    """
    blocks = list(features)
    stripes: list[nn.Module] = [Stripes(_layers(blocks[:FRONT]))]
    stripes += [nn.Identity()] * (FRONT - 1)
    for block in blocks[FRONT:]:
        assert isinstance(block, InvertedResidual)
        stripes.append(Stripes(_layers([block]), residual=block.use_res_connect))
    return nn.Sequential(*stripes)


def _layers(blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """List the convolutions and activations inside the blocks, in order."""
    inner = [m for block in blocks for m in block.modules() if not list(m.children())]
    return [m for m in inner if not isinstance(m, nn.Identity)]
