"""Attend to a window around each position of the previous frame, without gathering windows.

Axis letters: B clip, M attention head, N = BM, H, W rows and columns of the map, C channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

SMALL = 400  # positions of a map up to which all products are cheaper than those of the windows
BAND = {"cpu": 128, "cuda": 1024}  # queries of a band: fits a core's cache or fills a GPU


@overload
def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    *,
    size: tuple[int, int],
    radius: int = ...,
    value_bias: Tensor | None = ...,
    want_weights: Literal[False] = ...,
) -> Tensor: ...


@overload
def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    *,
    size: tuple[int, int],
    radius: int = ...,
    value_bias: Tensor | None = ...,
    want_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...


@overload
def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    *,
    size: tuple[int, int],
    radius: int = ...,
    value_bias: Tensor | None = ...,
    want_weights: bool = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...


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
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute the short-term attention of AOT and DeAOT.

        A[x, w] = softmax_w(q_x . k_(x+w) + b[x, w]),   y_x = sum_w A[x, w] (v_(x+w) + e_w)

    AOT, arXiv:2106.02638, section 4.2, with the relative terms b and e of its public code; DeAOT,
    arXiv:2210.09782, has no e. w runs over the (2 radius + 1)^2 offsets (dy, dx), row-major from
    (-radius, -radius); offsets that leave the map have weight 0.

    query q (B, M, HW, d), scaled already; key k (B, M, HW, d); value v (B, M, HW, C); bias b
    (B, M, HW, (2 radius + 1)^2); value_bias e (M, (2 radius + 1)^2, C); size (H, W), positions in
    row-major order. -> y (B, M, HW, C), and A (B, M, HW, (2 radius + 1)^2) with want_weights.
    Under autocast the products are of its type; the softmax is in float32 or wider.
    Raises ValueError on shapes that do not match.
    """
    _check(query, key, value, bias, value_bias, size, radius)
    device = query.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        half = torch.get_autocast_dtype(device)
        query, key, value = query.to(half), key.to(half), value.to(half)
        with torch.autocast(device, enabled=False):
            out, weights = _attend(query, key, value, bias, value_bias, size, radius)
    else:
        out, weights = _attend(query, key, value, bias, value_bias, size, radius)
    return (out, weights) if want_weights else out


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    value_bias: Tensor | None,
    size: tuple[int, int],
    radius: int,
) -> None:
    shapes = {"query": query, "key": key, "value": value, "bias": bias}
    given = ", ".join(f"{name} {tuple(x.shape)}" for name, x in shapes.items())
    if any(x.ndim != 4 for x in shapes.values()):
        raise ValueError(f"{given}; each must be (B, M, HW, channels)")
    b, m, hw, d = query.shape
    window = (2 * radius + 1) ** 2
    if radius < 0 or hw != size[0] * size[1]:
        raise ValueError(f"size {size}, radius {radius}; must be H * W = {hw} and at least 0")
    expected = {
        "key": (b, m, hw, d),
        "value": (b, m, hw, value.shape[3]),
        "bias": (b, m, hw, window),
    }
    wrong = {name: want for name, want in expected.items() if tuple(shapes[name].shape) != want}
    if wrong:
        raise ValueError(f"{given}; with radius {radius} {wrong} must be")
    if value_bias is not None and tuple(value_bias.shape) != (m, window, value.shape[3]):
        raise ValueError(
            f"value_bias {tuple(value_bias.shape)}; must be {(m, window, value.shape[3])}"
        )


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    value_bias: Tensor | None,
    size: tuple[int, int],
    radius: int,
) -> tuple[Tensor, Tensor]:
    bands = Bands(size, radius, BAND["cuda" if query.is_cuda else "cpu"])
    q, k, v = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)  # (N, HW, .)
    places = window_places(size, radius, query.device) if k.shape[1] <= SMALL else None
    if places is not None:
        products: Tensor = (q @ k.transpose(1, 2)).gather(2, places.expand(len(q), -1, -1))
    elif torch.is_grad_enabled():
        products = _WindowProducts.apply(q, k, bands)
    else:
        products = window_products(q, k, bands)
    wide = torch.promote_types(products.dtype, torch.float32)
    scores = products.view(bias.shape).to(wide) + bias  # (B, M, HW, window)
    outside = ~window_inside(size, radius, query.device)
    weights = scores.masked_fill(outside, -torch.inf).softmax(3).to(value.dtype)
    if places is not None:
        flat = weights.flatten(0, 1)
        spread = flat.new_zeros(len(flat), k.shape[1], k.shape[1])
        out: Tensor = spread.scatter_add(2, places.expand_as(flat), flat) @ v
    elif torch.is_grad_enabled():
        out = _WindowSums.apply(weights.flatten(0, 1), v, bands)
    else:
        out = window_sums(weights.flatten(0, 1), v, bands)
    out = out.view(value.shape)
    if value_bias is not None:
        out = out + weights @ value_bias.to(weights.dtype)
    return out, weights


def window_inside(size: tuple[int, int], radius: int, device: torch.device) -> Tensor:
    """Mark the offsets that stay on the map; returns (HW, (2 radius + 1)^2) bool."""
    offsets = torch.arange(-radius, radius + 1, device=device)

    def along(length: int) -> Tensor:
        places = torch.arange(length, device=device)[:, None] + offsets
        return (places >= 0) & (places < length)  # (length, 2 radius + 1)

    rows, columns = along(size[0]), along(size[1])
    inside = rows[:, None, :, None] & columns[None, :, None, :]  # (H, W, dy, dx)
    return inside.flatten(0, 1).flatten(1)


def window_places(size: tuple[int, int], radius: int, device: torch.device) -> Tensor:
    """Index the positions of every window: (HW, (2 radius + 1)^2), any position if outside."""
    offsets = torch.arange(-radius, radius + 1, device=device)

    def along(length: int) -> Tensor:
        places = torch.arange(length, device=device)[:, None] + offsets
        return places.clamp(0, length - 1)  # (length, 2 radius + 1)

    rows, columns = along(size[0]), along(size[1])
    flat = rows[:, None, :, None] * size[1] + columns[None, :, None, :]  # (H, W, dy, dx)
    return flat.flatten(0, 1).flatten(1)


@dataclass(frozen=True)
class Band:
    """Some lines of queries, and the flat indices of all entries in their windows.

    first, lines: of the queries; start: of the entries in a padded map; queries L, entries P.
    """

    first: int
    lines: int
    start: int
    queries: int
    entries: int


@dataclass(frozen=True)
class Bands:
    """Cut a map into bands of lines, whose windows are slices of the flattened map.

    Lines run along the shorter side of the map (turned: they are its columns), so that few entries
    lie between the first and the last of a window. At flat indices an offset (dy, dx) is
    dy * width + dx for every query: row n of a band's (L, P) products holds its window from column
    n on, and every reordering between windows and products is a change of strides. Windows wrap
    around the ends of lines; what they find there is masked as outside the map.
    A short line is padded to 2 radius + 1 places, so that a window's lines do not overlap.
    """

    size: tuple[int, int]
    radius: int
    queries: int  # wished for in a band

    @property
    def turned(self) -> bool:
        return self.size[1] > self.size[0]

    @property
    def side(self) -> int:
        """Offsets along one side of a window."""
        return 2 * self.radius + 1

    @property
    def width(self) -> int:
        """Places of a line, with padding."""
        return max(min(self.size), self.side)

    def __iter__(self) -> Iterator[Band]:
        step = max(1, self.queries // self.width)
        reach = self.radius * self.width + self.radius
        for first in range(0, max(self.size), step):
            lines = min(step, max(self.size) - first)
            # A padded map has radius + 1 lines before its first.
            start = (first + self.radius + 1) * self.width - reach
            queries = lines * self.width
            yield Band(first, lines, start, queries, queries + 2 * reach)

    def lines(self, flat: Tensor) -> Tensor:
        """View a map (N, HW, C) as (N, lines, places, C)."""
        grid: Tensor = flat.unflatten(1, self.size)
        return grid.transpose(1, 2) if self.turned else grid

    def windows(self, flat: Tensor) -> Tensor:
        """View windows (N, HW, side^2) as (N, lines, places, side, side)."""
        grid: Tensor = flat.unflatten(2, (self.side, self.side)).unflatten(1, self.size)
        return grid.permute(0, 2, 1, 4, 3) if self.turned else grid

    def padded(self, flat: Tensor) -> Tensor:
        """Pad a map (N, HW, C) with zeros on all sides and flatten its lines again."""
        margin = self.radius + 1
        places = self.width - min(self.size)
        return functional.pad(self.lines(flat), (0, 0, 0, places, margin, margin)).flatten(1, 2)

    def unpadded(self, flat: Tensor) -> Tensor:
        """Undo `padded`."""
        margin = self.radius + 1
        grid: Tensor = flat.unflatten(1, (-1, self.width))[:, margin:-margin, : min(self.size)]
        return (grid.transpose(1, 2) if self.turned else grid).flatten(1, 2)

    def rows(self, grid: Tensor, band: Band, *, more: int = 0) -> Tensor:
        """Return a band of lines (N, lines, places, C) as (N, L + more, C), the rest zeros."""
        lines = grid[:, band.first : band.first + band.lines]
        lines = functional.pad(lines, (0, 0, 0, self.width - min(self.size)))
        return functional.pad(lines.flatten(1, 2), (0, 0, 0, more))

    def spread(self, windows: Tensor, band: Band) -> Tensor:
        """Write a band of `windows` into zeros (N, L, P), row n from column n on.

        Rows of P + 1 numbers, read as rows of P, are shifted by one each.
        """
        n, _, places = windows.shape[:3]
        out = windows.new_zeros(n, band.lines, self.width, band.entries + 1)
        lines = out[:, :, :places, : self.side * self.width].unflatten(3, (self.side, self.width))
        lines[..., : self.side] = windows[:, band.first : band.first + band.lines]
        flat = out.flatten(1)[:, : band.queries * band.entries]
        return flat.view(n, band.queries, band.entries)

    def collect(self, products: Tensor, band: Band) -> Tensor:
        """View the windows in products (N, L + 1, P); `spread` backwards.

        The row more gives the last one its P + 1 numbers. Returns (N, lines, places, side, side).
        """
        flat = products.flatten(1)[:, : band.queries * (band.entries + 1)]
        rows = flat.unflatten(1, (band.lines, self.width, band.entries + 1))
        flat = rows[:, :, : min(self.size), : self.side * self.width]
        windows: Tensor = flat.unflatten(3, (self.side, self.width))[..., : self.side]
        return windows


def window_products(query: Tensor, key: Tensor, bands: Bands) -> Tensor:
    """s[x, w] = q_x . k_(x+w), with any numbers where x + w is outside the map.

    query, key (N, HW, d) -> (N, HW, (2 radius + 1)^2).
    """
    keys = bands.padded(key).transpose(1, 2)  # (N, d, entries)
    queries = bands.lines(query)
    out = query.new_empty(*query.shape[:2], bands.side**2)
    windows = bands.windows(out)
    for band in bands:
        entries = keys[:, :, band.start : band.start + band.entries]
        products = torch.bmm(bands.rows(queries, band, more=1), entries)
        windows[:, band.first : band.first + band.lines] = bands.collect(products, band)
    return out


def window_sums(weights: Tensor, value: Tensor, bands: Bands) -> Tensor:
    """y_x = sum_w A[x, w] v_(x+w)

    A must be 0 where x + w is outside the map. weights (N, HW, (2 radius + 1)^2), value
    (N, HW, C) -> (N, HW, C).
    """
    out = torch.empty_like(value, memory_format=torch.contiguous_format)
    lines, windows, values = bands.lines(out), bands.windows(weights), bands.padded(value)
    for band in bands:
        entries = values[:, band.start : band.start + band.entries]
        sums = torch.bmm(bands.spread(windows, band), entries)
        sums = sums.unflatten(1, (band.lines, bands.width))[:, :, : min(bands.size)]
        lines[:, band.first : band.first + band.lines] = sums
    return out


def window_spread(weights: Tensor, rows: Tensor, bands: Bands) -> Tensor:
    """z_u = sum_{x, w: x + w = u} A[x, w] r_x: the transpose of `window_sums`.

    weights (N, HW, (2 radius + 1)^2), rows r (N, HW, C) -> (N, HW, C).
    """
    windows, lines, out = bands.windows(weights), bands.lines(rows), bands.padded(rows).zero_()
    for band in bands:
        entries = out[:, band.start : band.start + band.entries]
        entries += torch.bmm(bands.spread(windows, band).transpose(1, 2), bands.rows(lines, band))
    return bands.unpadded(out)


class _WindowProducts(torch.autograd.Function):
    """`window_products`, keeping no more than its arguments for the gradient."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, bands: Bands) -> Tensor:
        ctx.save_for_backward(query, key)
        ctx.bands = bands
        return window_products(query, key, bands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        query, key = ctx.saved_tensors
        of_query, of_key, _ = ctx.needs_input_grad
        return (
            window_sums(upstream, key, ctx.bands) if of_query else None,
            window_spread(upstream, query, ctx.bands) if of_key else None,
            None,
        )


class _WindowSums(torch.autograd.Function):
    """`window_sums`, keeping no more than its arguments for the gradient."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, value: Tensor, bands: Bands) -> Tensor:
        ctx.save_for_backward(weights, value)
        ctx.bands = bands
        return window_sums(weights, value, bands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, value = ctx.saved_tensors
        of_weights, of_value, _ = ctx.needs_input_grad
        return (
            window_products(upstream, value, ctx.bands) if of_weights else None,
            window_spread(weights, upstream, ctx.bands) if of_value else None,
            None,
        )
