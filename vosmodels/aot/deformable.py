"""Compute offsets from queries, and resample maps at offset places."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class OffsetNetwork(nn.Module):
    """Two convolutions from a query's parts to offsets in tokens, which start at zero."""

    def __init__(self, channels: int = 512, groups: int = 4) -> None:
        super().__init__()
        part = channels // groups
        self.groups = groups
        self.conv = nn.Conv2d(part, part, 5, padding=2, groups=groups)
        self.out = nn.Conv2d(part, 2, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.get_parameter("bias"))

    def forward(self, query: Tensor) -> Tensor:
        """Compute offsets (B, S, 2, H, W), columns first, of a query (B, C, H, W)."""
        parts = query.unflatten(1, (self.groups, -1)).flatten(0, 1)
        offsets: Tensor = self.out(functional.gelu(self.conv(parts)))
        return offsets.view(-1, self.groups, 2, *query.shape[2:])


def resample_frames(x: Tensor, offsets: Tensor) -> Tensor:
    """Resample maps x (B, T, C, H, W) of T frames at offsets (B, S, 2, H, W)."""
    b, t, c, h, w = x.shape
    s = offsets.shape[1]
    rows = torch.arange(h, device=x.device)[:, None]
    columns = torch.arange(w, device=x.device)
    across = (columns + offsets[:, :, 0]) * (2 / max(w - 1, 1)) - 1
    down = (rows + offsets[:, :, 1]) * (2 / max(h - 1, 1)) - 1
    grid = torch.stack([across, down], -1)[:, None].expand(b, t, s, h, w, 2)
    maps = x.reshape(b * t * s, c // s, h, w)
    sampled = functional.grid_sample(maps, grid.reshape(-1, h, w, 2).to(x), align_corners=True)
    return sampled.view(b, t, c, h, w)
