"""Attend to a window around each token, by gathering the window."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    *,
    size: tuple[int, int],
    radius: int = 7,
    value_bias: Tensor | None = None,
    want_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute softmax(Q K^T + bias) V over the window of each token.

    query, key (B, M, HW, d), value (B, M, HW, C), bias (B, M, HW, W) of the W places of the window,
    row by row; value_bias (M, W, C) is added to the values there -> (B, M, HW, C), and on request
    the weights (B, M, HW, W).
    """
    b, m, n = query.shape[:3]
    side = 2 * radius + 1

    def windows(x: Tensor) -> Tensor:
        channels = x.shape[3]
        maps = x.transpose(2, 3).reshape(b * m, channels, *size)
        return functional.unfold(maps, side, padding=radius).view(b, m, channels, side**2, n)

    scores = torch.einsum("bmnd,bmdwn->bmnw", query, windows(key)) + bias
    inside = functional.unfold(query.new_ones(1, 1, *size), side, padding=radius)[0].T > 0
    weights = scores.float().masked_fill(~inside, float("-inf")).softmax(-1).to(value.dtype)
    out = torch.einsum("bmnw,bmcwn->bmnc", weights, windows(value))
    if value_bias is not None:
        out = out + weights @ value_bias
    return out, weights if want_weights else None
