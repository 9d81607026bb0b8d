"""Encode frames up to stride 16 as AOT does: dilated MobileNetV2, or ResNet-50 to layer3.

BatchNorm is frozen: its scale, shift and statistics are buffers. The stem and the stage of stride 4
are not trained (1B.6 of public AOT code: freeze_at 2).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from vosmodels.backbones import MOBILENET_CHANNELS, MOBILENET_TAPS, RESNET_CHANNELS, KeyEncoder
from vosmodels.types import Features

DILATED_FROM = 14  # torchvision's stage of stride 32, which keeps stride 16 here
TOP = 18  # torchvision's last layer, 1x1


@dataclass(frozen=True)
class Pyramid(Features):
    """A frame's features, and the map (B, C, h, w) at stride 16 that objects are matched by."""

    top: Tensor


@dataclass(frozen=True)
class Encoded:
    """The encoding of frames: features, and tokens (B, hw, C) that are propagated to."""

    features: Pyramid
    projected: Tensor  # (B, C, h, w)

    @property
    def size(self) -> tuple[int, int]:
        """Return (h, w)."""
        return (self.projected.shape[2], self.projected.shape[3])

    def frame(self, clips: int, index: int) -> Encoded:
        """Return frame `index` of each clip, for a batch that is (clips, T) flattened."""

        def pick(x: Tensor) -> Tensor:
            return x.view(clips, -1, *x.shape[1:])[:, index]

        f = self.features
        pyramid = Pyramid(pick(f.s4), pick(f.s8), pick(f.s16), pick(f.top))
        return Encoded(pyramid, pick(self.projected))


class AOTEncoder(KeyEncoder):
    """An encoder of normalised frames (M, 3, H, W), sides 16 k + 1, to a Pyramid.

    A map at stride s has (H - 1) / s + 1 rows. top_channels: width of `Pyramid.top`.
    """

    top_channels: int

    @abstractmethod
    def forward(self, frames: Tensor) -> Pyramid:
        """Encode normalised frames (M, 3, H, W)."""


class DilatedMobileNetV2(AOTEncoder):
    """torchvision's MobileNetV2, its last stages dilated in place of their stride."""

    top_channels = 1280

    def __init__(self) -> None:
        super().__init__()
        self.architecture = "mobilenet_v2"
        self.channels = MOBILENET_CHANNELS
        net = torchvision.models.mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d)
        self.features = net.features
        self._depthwise(DILATED_FROM).stride = (1, 1)
        for index in range(DILATED_FROM + 1, TOP):
            layer = self._depthwise(index)
            layer.dilation = layer.padding = (2, 2)
        self.features[: MOBILENET_TAPS[0] + 1].requires_grad_(False)

    def _depthwise(self, index: int) -> nn.Conv2d:
        return cast(nn.Conv2d, self.features[index].get_submodule("conv.1.0"))

    def forward(self, frames: Tensor) -> Pyramid:
        """Encode normalised frames (M, 3, H, W)."""
        maps, x, start = [], frames, 0
        for tap in (*MOBILENET_TAPS, TOP):
            x = self.features[start : tap + 1](x)
            maps.append(x)
            start = tap + 1
        return Pyramid(*maps)


class ResNet50(AOTEncoder):
    """torchvision's ResNet-50 through layer3; its stride-16 map is also the top."""

    channels = RESNET_CHANNELS["resnet50"]
    top_channels = channels[2]

    def __init__(self) -> None:
        super().__init__()
        self.architecture = "resnet50"
        net = torchvision.models.resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.relu, self.maxpool = net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3
        self.conv1.requires_grad_(False)
        self.layer1.requires_grad_(False)

    def forward(self, frames: Tensor) -> Pyramid:
        """Encode normalised frames (M, 3, H, W)."""
        s4 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(frames)))))
        s8 = self.layer2(s4)
        s16 = self.layer3(s8)
        return Pyramid(s4, s8, s16, s16)
