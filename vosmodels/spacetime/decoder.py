"""Decode a memory readout to mask logits; the value encoder shares some blocks.

Submodule names are those of STCN's public weights, so that its files load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def upsample(x: Tensor, factor: int) -> Tensor:
    """Upsample (B, C, H, W) -> (B, C, factor*H, factor*W) bilinearly.

    align_corners is False.
    """
    return functional.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ResBlock(nn.Module):
    """Pre-activation residual block: conv(relu(conv(relu(x)))) + shortcut(x), no norm.

    The shortcut is a 3x3 convolution of the un-activated x if the widths differ, else the identity.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in, H, W) -> (B, out, H, W)."""
        inner = functional.relu(self.conv1(functional.relu(x)), inplace=True)
        residual: Tensor = self.conv2(inner)
        shortcut: Tensor = self.downsample(x)
        return residual.add_(shortcut)  # in place: a convolution's gradient needs no output


class ChannelGate(nn.Module):
    """x * sigmoid(MLP(pixel mean) + MLP(pixel max))      CBAM, arXiv:1807.06521, eq. 2"""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate the channels of (B, C, H, W)."""
        gate = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))  # (B, C)
        return x * torch.sigmoid(gate)[:, :, None, None]


class SpatialGate(nn.Module):
    """x * sigmoid(conv7x7([channel max, channel mean])), no norm      CBAM, eq. 3"""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential()
        self.spatial.add_module("conv", nn.Conv2d(2, 1, 7, padding=3))

    def forward(self, x: Tensor) -> Tensor:
        """Gate the pixels of (B, C, H, W)."""
        pooled = torch.stack([x.amax(1), x.mean(1)], 1)  # (B, 2, H, W)
        return x * torch.sigmoid(self.spatial(pooled))


class CBAM(nn.Module):
    """CBAM attention (arXiv:1807.06521): a channel gate, then a spatial gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        """Gate the channels, then the pixels of (B, C, H, W)."""
        gated: Tensor = self.SpatialGate(self.ChannelGate(x))
        return gated


class Fuser(nn.Module):
    """The module that fuses mask features and key features to the memory value.

    y = block1([value, key]);  out = block2(y + CBAM(y))      STCN, section 3.2 and public code
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block1 = ResBlock(in_channels, out_channels)
        self.attention = CBAM(out_channels)
        self.block2 = ResBlock(out_channels, out_channels)

    def forward(self, value: Tensor, key: Tensor) -> Tensor:
        """Fuse value (M, C_v, h, w) and key (M, C_16, h, w) -> (M, out, h, w)."""
        y = self.block1(torch.cat([value, key], 1))
        fused: Tensor = self.block2(y + self.attention(y))
        return fused


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling      DeepLabv3, arXiv:1706.05587, section 3.3

    Branches of `width` channels: a 1x1 convolution, one dilated 3x3 convolution per rate, and the
    image mean. A 1x1 projection leads back to `channels`. Batch norm and ReLU follow each
    convolution.
    """

    def __init__(self, channels: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_conv_norm(channels, width, 1)])
        self.branches.extend(_conv_norm(channels, width, rate, kernel=3) for rate in rates)
        self.pool = _conv_norm(channels, width, 1)
        self.project = _conv_norm(width * (len(rates) + 2), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (M, C, h, w) -> (M, C, h, w)."""
        mean = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        projected: Tensor = self.project(
            torch.cat([*(branch(x) for branch in self.branches), mean], 1)
        )
        return projected


def _conv_norm(channels: int, width: int, rate: int, *, kernel: int = 1) -> nn.Sequential:
    padding = rate * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=padding, dilation=rate, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


class UpsampleBlock(nn.Module):
    """out_conv(skip_conv(skip) + upsample(x)): doubles the resolution of N objects."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, in_channels, 3, padding=1)
        self.out_conv = ResBlock(in_channels, out_channels)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Upsample x (B*N, C, H, W) -> (B*N, out, 2H, 2W) with the frame's skip features.

        skip (B, C_s, 2H, 2W). The skip convolution does not depend on objects, so it runs once per
        frame and its result is added to each object's map.
        """
        side = self.skip_conv(skip).unsqueeze(1)  # (B, 1, C, 2H, 2W)
        up = upsample(x, 2)
        up = up.view(skip.shape[0], -1, *up.shape[1:])  # (B, N, C, 2H, 2W)
        out: Tensor = self.out_conv(up.add_(side).flatten(0, 1))
        return out


class Decoder(nn.Module):
    """A decoder of readout and key features at stride 16 to a logit per pixel.

    in_channels: width of [readout, thin key features]; skips: channels of (s4, s8);
    widths: channels after (compress, up_16_8, up_8_4); pred_kernel: 3 in STCN, 1 in MobileVOS,
    whose paper calls the prediction point-wise; aspp: applied first, to the stride-16 input.
    """

    def __init__(
        self,
        in_channels: int,
        skips: tuple[int, int],
        widths: tuple[int, int, int],
        *,
        pred_kernel: int,
        aspp: ASPP | None = None,
    ) -> None:
        super().__init__()
        skip4, skip8 = skips
        width16, width8, width4 = widths
        self.aspp: nn.Module = nn.Identity() if aspp is None else aspp
        self.compress = ResBlock(in_channels, width16)
        self.up_16_8 = UpsampleBlock(skip8, width16, width8)
        self.up_8_4 = UpsampleBlock(skip4, width8, width4)
        self.pred = nn.Conv2d(width4, 1, pred_kernel, padding=pred_kernel // 2)

    def forward(self, x: Tensor, s8: Tensor, s4: Tensor) -> tuple[Tensor, Tensor]:
        """Decode x (B, N, in, h, w) and skips s8, s4 (B, C, ...) to logits and z.

        Returns logits (B, N, H, W) and z (B, N, C_z, H/4, W/4). z is the output of up_8_4, before
        the ReLU in front of `pred`; a gradient of the logits passes through z.
        """
        y = self.compress(self.aspp(x.flatten(0, 1)))
        z = self.up_8_4(s4, self.up_16_8(s8, y)).unflatten(0, x.shape[:2])
        mask = self.pred(functional.relu(z.flatten(0, 1)))  # (B*N, 1, H/4, W/4)
        return upsample(mask.float(), 4).squeeze(1).unflatten(0, x.shape[:2]), z
