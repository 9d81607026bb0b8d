"""Shift the keys and values of an attention to where offsets, learnt from the query, point.

Axis letters: B clip, S group of channels, T memory frame, C channel, H, W rows and columns.
Offsets are (x, y), in feature pixels: x to the right, y downwards.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class OffsetNetwork(nn.Module):
    """The network of deformable attention that finds offsets in the query.

        Delta_i = conv1x1(GELU(conv5x5(Q_i))),   i = 1..S

    Deformable attention for video objects, arXiv:2401.13937, section 3.1 and appendix A.2. All
    groups Q_i share the weights; the 5x5 convolution is divided into S groups itself. The last
    convolution starts at zero, so that training starts at undeformed attention. Offsets have no
    bound.

    channels: of the query; groups: S. Raises ValueError where channels cannot be divided twice.
    """

    def __init__(self, channels: int = 512, groups: int = 4) -> None:
        super().__init__()
        if groups < 1 or channels % groups or channels // groups % groups:
            raise ValueError(
                f"channels {channels}, groups {groups}; channels must be a multiple of groups^2"
            )
        self.channels, self.groups = channels, groups
        width = channels // groups
        self.local = nn.Conv2d(width, width, 5, padding=2, groups=groups)
        self.out = nn.Conv2d(width, 2, 1)
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)

    def forward(self, query: Tensor) -> Tensor:
        """Find offsets: query (B, channels, H, W) -> (B, S, 2, H, W)."""
        if query.ndim != 4 or query.shape[1] != self.channels:
            raise ValueError(f"query {tuple(query.shape)}; must be (B, {self.channels}, H, W)")
        parts = query.unflatten(1, (self.groups, -1)).flatten(0, 1)  # (BS, channels / S, H, W)
        offsets: Tensor = self.out(functional.gelu(self.local(parts)))  # (BS, 2, H, W)
        return offsets.view(-1, self.groups, *offsets.shape[1:])


def locations(offsets: Tensor) -> Tensor:
    """p = r + delta, the point that each position r is sampled at.

    offsets (B, S, 2, H, W) -> (B, S, 2, H, W), (x, y) in feature pixels, (0, 0) the centre of the
    first. In float32 or wider.
    """
    h, w = offsets.shape[3:]
    wide = torch.promote_types(offsets.dtype, torch.float32)
    y = torch.arange(h, device=offsets.device, dtype=wide)
    x = torch.arange(w, device=offsets.device, dtype=wide)
    reference = torch.stack([x.expand(h, w), y[:, None].expand(h, w)])  # (2, H, W)
    return reference + offsets


def resample(x: Tensor, offsets: Tensor) -> Tensor:
    """Sample a map at its positions plus offsets, bilinearly.

        X~_i(r) = sum_q I(r + delta_(i, r), q) X_i(q)
        I(p, q) = max(0, 1 - |p_x - q_x|) max(0, 1 - |p_y - q_y|)

    arXiv:2401.13937, eq. 3 and 4, where q runs over the pixels of the map: all outside is 0. X_i is
    the i-th of S groups of channels, as in deformable attention transformers, arXiv:2201.00520.
    Offsets of 0 give x to the bit. There the slope by an offset is that to the right or downwards.

    x (B, C, H, W), offsets (B, S, 2, H, W) -> (B, C, H, W), of the type of x; computed in float32
    or wider. Raises ValueError on shapes that do not match.
    """
    return resample_frames(x.unsqueeze(1), offsets).squeeze(1)


def resample_frames(frames: Tensor, offsets: Tensor) -> Tensor:
    """Compute `resample` of several memory frames, all at the same offsets, in one call.

    The points are repeated for each frame: 2 S numbers a position, where a frame has C.
    frames (B, T, C, H, W), offsets (B, S, 2, H, W) -> (B, T, C, H, W).
    """
    if frames.ndim != 5 or offsets.ndim != 5:
        raise ValueError(
            f"frames {tuple(frames.shape)}, offsets {tuple(offsets.shape)}; must be "
            "(B, T, C, H, W) and (B, S, 2, H, W)"
        )
    b, t, c, h, w = frames.shape
    groups = offsets.shape[1]
    if tuple(offsets.shape) != (b, groups, 2, h, w) or c % groups:
        raise ValueError(
            f"offsets {tuple(offsets.shape)} for maps (B, C, H, W) of {(b, c, h, w)}; must be "
            f"{(b, groups, 2, h, w)}, with C a multiple of the {groups} groups"
        )
    height, width = _exact(h), _exact(w)
    x, y = locations(offsets).unbind(2)  # (B, S, H, W), in pixels
    grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], 4)
    wide = torch.promote_types(grid.dtype, frames.dtype)
    grid = grid.unsqueeze(1).expand(b, t, -1, -1, -1, -1).flatten(0, 2).to(wide)
    maps = frames.unflatten(2, (groups, -1)).flatten(0, 2).to(wide)  # (BTS, C / S, H, W)
    maps = functional.pad(maps, (0, width - w, 0, height - h))
    sampled = functional.grid_sample(maps, grid, "bilinear", "zeros", align_corners=True)
    return sampled.view(b, t, c, h, w).to(frames.dtype)


def _exact(length: int) -> int:
    """Return the least 2^n + 1 >= length, the size to which a side is padded with zeros.

    grid_sample takes points from -1 to 1. Of such a side, -1 and 1 and all pixels between have
    coordinates without rounding, and zeros beyond the map are what lies there anyway.
    """
    return (1 << max(0, length - 2).bit_length()) + 1
