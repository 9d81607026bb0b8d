"""Decode propagated embeddings to logits at stride 4 by a feature pyramid.

Bilinear resizing aligns corners, as everywhere in models whose sides are 16 k + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.types import Features

GROUPS = 8  # of GroupNorm


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly to (H', W') with aligned corners."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


class NormedConv(nn.Module):
    """A convolution, GroupNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
        self.gn = nn.GroupNorm(GROUPS, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W) -> (B, C', H, W)."""
        return functional.relu(self.gn(self.conv(x)))


class FPNDecoder(nn.Module):
    """A decoder of tokens at stride 16 and features at strides 16, 8 and 4.

    in_channels: of the tokens; classes: of the logits; channels: of the features (s4, s8, s16).
    """

    def __init__(self, in_channels: int, classes: int, channels: tuple[int, int, int]) -> None:
        super().__init__()
        s4, s8, s16 = channels
        width, half = 256, 128
        self.conv_in = NormedConv(in_channels, width, 1)
        self.conv_16x = NormedConv(width, width, 3)
        self.conv_8x = NormedConv(width, half, 3)
        self.conv_4x = NormedConv(half, half, 3)
        self.adapter_16x = nn.Conv2d(s16, width, 1)
        self.adapter_8x = nn.Conv2d(s8, width, 1)
        self.adapter_4x = nn.Conv2d(s4, half, 1)
        self.conv_out = nn.Conv2d(half, classes, 1)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, maps: Sequence[Tensor], features: Features) -> tuple[Tensor, Tensor]:
        """Decode to logits (B, classes, H/4, W/4) and the map (B, 128, H/4, W/4) before them.

        maps: of stride 16, (B, C_i, h, w), whose channels are concatenated.
        """
        x = self.conv_in(torch.cat(list(maps), 1))
        x = self.conv_16x(self.adapter_16x(features.s16) + x)
        x = self.conv_8x(self.adapter_8x(features.s8) + resized(x, features.s8.shape[-2:]))
        z: Tensor = self.conv_4x(self.adapter_4x(features.s4) + resized(x, features.s4.shape[-2:]))
        logits: Tensor = self.conv_out(z)
        return logits, z
