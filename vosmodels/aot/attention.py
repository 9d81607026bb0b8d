"""Attend to the tokens of other frames: the attention modules of AOT and DeAOT.

Tokens are rows (B, n, C), n = HW positions of a frame at stride 16 or T HW of a memory of T frames;
with M heads (B, M, n, C / M). Every module returns the attended values before its output
projection too, which other models are taught by, and on request the weights of its softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.aot.deformable import OffsetNetwork, resample_frames
from vosmodels.aot.local_attention import local_attention

Size = tuple[int, int]  # (H, W) of a frame's tokens
RADIUS = 7  # of the short-term window, in tokens
WINDOW = (2 * RADIUS + 1) ** 2
DEPTHWISE = 5  # kernel
CHUNK = 2**22  # scores that are computed at a time at inference


@dataclass(frozen=True)
class Attended:
    """Values gathered by an attention.

    projected (B, HW, C'): the module's result; values (B, HW, C): before gate and projection;
    weights (B, M HW, keys): of the softmax, None where they were not asked for; offsets
    (B, S, 2, H, W): of the keys and values in tokens, None where attention is not deformable.
    """

    projected: Tensor
    values: Tensor
    weights: Tensor | None
    offsets: Tensor | None = None


def to_map(tokens: Tensor, size: Size) -> Tensor:
    """Arrange tokens (B, HW, C) as a map (B, C, H, W)."""
    return tokens.transpose(1, 2).reshape(*tokens.shape[::2], *size)


def to_tokens(x: Tensor) -> Tensor:
    """Arrange a map (B, C, H, W) as tokens (B, HW, C)."""
    return x.flatten(2).transpose(1, 2)


def to_heads(tokens: Tensor, heads: int) -> Tensor:
    """Split the channels of tokens (B, n, C) among heads -> (B, M, n, C / M)."""
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(1, 2)


def from_heads(x: Tensor) -> Tensor:
    """Join the channels of heads (B, M, n, C) -> (B, n, M C)."""
    return x.transpose(1, 2).flatten(2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None = None,
    want_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Compute softmax(Q K^T / sqrt(d) + b) V of every head.

    query (B, M, HW, d), key (B, M, n, d), value (B, M, n, C), bias b (n,) or None for 0
    -> (B, M, HW, C), and on request the weights (B, M, HW, n). Without gradient the queries are
    taken in chunks, so that a long memory needs no matrix of all scores at once.
    """
    query = query * query.shape[-1] ** -0.5
    rows, per_row = query.shape[2], query.shape[0] * query.shape[1] * key.shape[2]
    if want_weights or query.requires_grad or rows * per_row <= CHUNK:
        weights = _weights(query, key, bias)
        return weights @ value, weights if want_weights else None
    step = max(1, CHUNK // per_row)
    parts = [_weights(part, key, bias) @ value for part in query.split(step, 2)]
    return torch.cat(parts, 2), None


def _weights(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Return softmax(Q K^T + b), computed in float32."""
    scores = (query @ key.transpose(2, 3)).float()
    return (scores if bias is None else scores + bias).softmax(-1).to(key.dtype)


class Offsets(nn.Module):
    """Offsets of keys and values from a query W_q X      arXiv:2401.13937, section 3.2 and A.3

    in_channels: of X, projected to `channels` = C_Q for the offsets alone; None takes the queries
    of the attention, which then have `channels` channels themselves.
    """

    def __init__(self, in_channels: int | None, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.projection = nn.Linear(in_channels, channels) if in_channels else None
        self.network = OffsetNetwork(channels, groups)

    def forward(self, source: Tensor, size: Size) -> Tensor:
        """Compute offsets (B, S, 2, H, W) in tokens from X or queries (B, HW, C)."""
        query = source if self.projection is None else self.projection(source)
        offsets: Tensor = self.network(to_map(query, size))
        return offsets


def moved(tokens: Tensor, offsets: Tensor, size: Size, *, parts: int = 1) -> Tensor:
    """Resample the tokens (B, T HW, C) of T frames at offset places, equation 3.

    offsets (B, S, 2, H, W), the same for every frame. parts: maps that the channels hold side by
    side, each of which is partitioned into the S groups.
    """
    b, n, channels = tokens.shape
    frames = n // (size[0] * size[1])
    x = tokens.view(b, frames, -1, parts, channels // parts).permute(0, 1, 3, 4, 2)
    x = resample_frames(x.reshape(b, frames * parts, -1, *size), offsets)  # (B, T P, C / P, H, W)
    x = x.reshape(b, frames, parts, channels // parts, -1).permute(0, 1, 4, 2, 3)
    return x.reshape(b, n, channels)


class Depthwise(nn.Module):
    """A depth-wise 5x5 convolution of tokens without bias, and channel dropout."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels, channels, DEPTHWISE, padding=DEPTHWISE // 2, groups=channels, bias=False
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """Convolve tokens (B, HW, C)."""
        return to_tokens(self.dropout(self.conv(to_map(tokens, size))))


class MultiheadLongTerm(nn.Module):
    """AOT's attention to a memory of past frames, and its output projection."""

    def __init__(self, width: int, heads: int, offsets: Offsets | None) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(width, width)
        self.offsets = offsets

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        source: Tensor,
        size: Size,
        *,
        bias: Tensor | None,
        want_weights: bool,
    ) -> Attended:
        """Attend from query (B, HW, C) to key and value (B, T HW, C).

        source (B, HW, C): X, of which offsets are computed; bias (T HW,): added to scores.
        """
        offsets = None
        if self.offsets is not None:
            offsets = self.offsets(source if self.offsets.projection else query, size)
            key, value = moved(key, offsets, size), moved(value, offsets, size)
        tokens = (query, key, value)
        return _multihead(*tokens, self.heads, self.projection, want_weights, offsets, bias)


class MultiheadSelf(nn.Module):
    """AOT's self-attention: queries and keys see the positions, values do not."""

    def __init__(self, width: int, heads: int, offsets: Offsets | None) -> None:
        super().__init__()
        self.heads = heads
        self.linear_Q = nn.Linear(width, width)
        self.linear_K = nn.Linear(width, width)
        self.linear_V = nn.Linear(width, width)
        self.projection = nn.Linear(width, width)
        self.offsets = offsets

    def forward(self, x: Tensor, positions: Tensor, size: Size, *, want_weights: bool) -> Attended:
        """Attend among the tokens x (B, HW, C); positions (1, HW, C)."""
        placed, source = x + positions, x
        query, seen, offsets = self.linear_Q(placed), placed, None
        if self.offsets is not None:
            offsets = self.offsets(placed if self.offsets.projection else query, size)
            seen, source = moved(placed, offsets, size), moved(x, offsets, size)
        key, value = self.linear_K(seen), self.linear_V(source)
        return _multihead(query, key, value, self.heads, self.projection, want_weights, offsets)


def _multihead(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    projection: nn.Linear,
    want: bool,
    offsets: Tensor | None,
    bias: Tensor | None = None,
) -> Attended:
    parts = (to_heads(x, heads) for x in (query, key, value))
    gathered, weights = attend(*parts, bias=bias, want_weights=want)
    values = from_heads(gathered)
    rows = None if weights is None else weights.flatten(1, 2)
    return Attended(projection(values), values, rows, offsets)


class MultiheadShortTerm(nn.Module):
    """AOT's attention to a window of the previous frame, with relative positions.

    relative_emb_k: scores of the unscaled queries for each place of the window; relative_emb_v:
    added to the values there.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_emb_v = nn.Parameter(torch.zeros(heads, width // heads, WINDOW))
        self.relative_emb_k = nn.Conv2d(width, heads * WINDOW, 1, groups=heads)
        self.projection = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, size: Size) -> Tensor:
        """Attend from query to key and value, all (B, HW, C) -> (B, HW, C)."""
        bias = self.relative_emb_k(to_map(query, size)).flatten(2)  # (B, M 225, HW)
        q, k, v = (to_heads(x, self.heads) for x in (query, key, value))
        gathered = local_attention(
            q * q.shape[-1] ** -0.5,
            k,
            v,
            bias.unflatten(1, (self.heads, WINDOW)).transpose(2, 3),
            size=size,
            radius=RADIUS,
            value_bias=self.relative_emb_v.transpose(1, 2),
        )
        projected: Tensor = self.projection(from_heads(gathered))
        return projected


class Gated(nn.Module):
    """The end of DeAOT's attentions: gate, depth-wise convolution and projection.

    GatedAtt = (softmax(Q K^T / sqrt(d)) V * gate) -> 5x5 -> linear      DeAOT, equation 5
    """

    def __init__(self, channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.dw_conv = Depthwise(channels, dropout)
        self.projection = nn.Linear(channels, out_channels)

    def finish(self, values: Tensor, gate: Tensor, size: Size) -> Tensor:
        """Gate and project values (B, HW, C) -> (B, HW, C')."""
        projected: Tensor = self.projection(self.dw_conv(values * gate, size))
        return projected


class GatedLongTerm(Gated):
    """DeAOT's attention to a memory of past frames, one matrix of weights for both branches."""

    def __init__(
        self, channels: int, out_channels: int, dropout: float, offsets: Offsets | None
    ) -> None:
        super().__init__(channels, out_channels, dropout)
        self.offsets = offsets

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        gate: Tensor,
        source: Tensor,
        size: Size,
        *,
        bias: Tensor | None,
        want_weights: bool,
    ) -> Attended:
        """Attend from query (B, HW, d) to key (B, T HW, d) and value (B, T HW, C).

        gate (B, HW, C); source (B, HW, C_x): X, of which offsets are computed; bias (T HW,): added
        to scores.
        """
        offsets = None
        if self.offsets is not None:
            offsets = self.offsets(source if self.offsets.projection else query, size)
            key, value = moved(key, offsets, size), moved(value, offsets, size, parts=2)
        gathered, weights = attend(
            query.unsqueeze(1),
            key.unsqueeze(1),
            value.unsqueeze(1),
            bias=bias,
            want_weights=want_weights,
        )
        values = gathered.squeeze(1)
        rows = None if weights is None else weights.squeeze(1)
        return Attended(self.finish(values, gate, size), values, rows, offsets)


class GatedShortTerm(Gated):
    """DeAOT's attention to a window of the previous frame, with relative positions."""

    def __init__(
        self, score_channels: int, channels: int, out_channels: int, dropout: float
    ) -> None:
        super().__init__(channels, out_channels, dropout)
        self.relative_emb_k = nn.Conv2d(score_channels, WINDOW, 1)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, gate: Tensor, size: Size
    ) -> Tensor:
        """Attend from query to key (B, HW, d) and value (B, HW, C) -> (B, HW, C')."""
        bias = self.relative_emb_k(to_map(query, size)).flatten(2)  # (B, 225, HW)
        gathered = local_attention(
            (query * query.shape[-1] ** -0.5).unsqueeze(1),
            key.unsqueeze(1),
            value.unsqueeze(1),
            bias.unsqueeze(1).transpose(2, 3),
            size=size,
            radius=RADIUS,
        )
        return self.finish(gathered.squeeze(1), gate, size)


class GatedSelf(Gated):
    """DeAOT's self-propagation: both branches attend among the tokens of the frame."""

    def __init__(
        self, width: int, score_channels: int, dropout: float, offsets: Offsets | None
    ) -> None:
        super().__init__(4 * width, 2 * width, dropout)
        self.linear_QK = nn.Linear(2 * width, score_channels)
        self.linear_V1 = nn.Linear(width, 2 * width)
        self.linear_V2 = nn.Linear(width, 2 * width)
        self.linear_U1 = nn.Linear(width, 2 * width)
        self.linear_U2 = nn.Linear(width, 2 * width)
        self.offsets = offsets

    def forward(
        self, visual: Tensor, identity: Tensor, size: Size, *, want_weights: bool
    ) -> Attended:
        """Attend among the tokens of both branches, each (B, HW, width)."""
        both = torch.cat([visual, identity], 2)
        query = key = self.linear_QK(both)
        gate = functional.silu(torch.cat([self.linear_U1(visual), self.linear_U2(identity)], 2))
        offsets = None
        if self.offsets is not None:
            offsets = self.offsets(both if self.offsets.projection else query, size)
            both = moved(both, offsets, size)
            key = self.linear_QK(both)
            visual, identity = both.chunk(2, 2)
        value = functional.silu(torch.cat([self.linear_V1(visual), self.linear_V2(identity)], 2))
        gathered, weights = attend(
            query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), want_weights=want_weights
        )
        values = gathered.squeeze(1)
        rows = None if weights is None else weights.squeeze(1)
        return Attended(self.finish(values, gate, size), values, rows, offsets)
