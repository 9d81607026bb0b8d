"""Average state dicts exactly, one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

WIDTH = 40  # bits of a slice: 2^13 slices of so many add up in the 53 bits of a float64
GRIDS = range(120, -161, -WIDTH)  # of which float32 needs 2^127 to 2^-149
BEYOND = min(GRIDS) - WIDTH  # where the rest of a float64 goes that is finer than all grids
ODD = max(GRIDS) + WIDTH  # where infinities and NaN go

Slices = Mapping[int, Tensor]  # float64, by the exponent of the grid that the values lie on


class NoMean(ValueError):
    """State dicts of which no mean exists: none at all, or not of one architecture."""


def average(
    state_dicts: Sequence[Mapping[str, Tensor]], names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """theta = 1/k sum_i theta_i      Model soups, arXiv:2203.05482, recipe 1

    Floating-point tensors are summed exactly in float64 (`Sum`) and cast back, so that neither the
    order of the state dicts nor where a sum begins changes the mean, and the mean of equal tensors
    is that tensor. Integer and boolean tensors cannot be averaged and must agree. names: what
    errors call the state dicts.
    Raises NoMean, a ValueError, for no state dicts, and for keys, shapes, dtypes or integers that
    differ, naming state dict and key.
    """
    return average_of([partial(dict, each) for each in state_dicts], names)


def average_of(
    loads: Sequence[Callable[[], Mapping[str, Tensor]]], names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Average state dicts as `average` does, to the bit, of which one at a time is in memory.

    loads: read one state dict each, once. Raises NoMean as `average`.
    """
    if not loads:
        raise NoMean("no state dicts to average; give at least one")
    names = names or [f"state dict {index}" for index in range(len(loads))]
    total = Sum.of(loads[0](), names[0])
    for name, load in zip(names[1:], loads[1:], strict=True):
        total = total.plus(load(), name)
    return total.mean()


@dataclass(frozen=True)
class Sum:
    """The exact sum of `count` state dicts, which another one can join.

    A value is cut into slices, multiples of 2^g below 2^(g + WIDTH) for each g of GRIDS, which
    float64 adds without rounding: the slices depend on the set of state dicts alone, not on their
    order. Demmel and Nguyen, Parallel Reproducible Summation, IEEE Trans. Computers 64(7), 2015,
    cut in the same way. That holds for 8192 tensors of float32 or shorter, and for what float64
    has between 2^-160 and 2^160; two or three slices hold the weights of a network.

    layout: the first one's integers, and shape and dtype of its other tensors; first: its name.
    """

    count: int
    first: str
    layout: Mapping[str, Tensor]
    slices: Mapping[str, Slices]

    @classmethod
    def of(cls, state_dict: Mapping[str, Tensor], name: str = "state dict 0") -> Sum:
        """Begin a sum with a state dict."""
        layout = {k: _layout(tensor) for k, tensor in state_dict.items()}
        return cls(1, name, layout, {k: _sliced(t) for k, t in state_dict.items() if _mean_of(t)})

    def plus(self, state_dict: Mapping[str, Tensor], name: str) -> Sum:
        """Return the sum with another state dict. Raises NoMean as `average`."""
        _check_keys(self.first, self.layout, name, state_dict)
        for key, tensor in state_dict.items():
            self._check(key, tensor, name)
        slices = {key: _added(own, _sliced(state_dict[key])) for key, own in self.slices.items()}
        return Sum(self.count + 1, self.first, self.layout, slices)

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of the state dicts."""
        return {key: self._mean(key, tensor) for key, tensor in self.layout.items()}

    def _mean(self, key: str, like: Tensor) -> Tensor:
        if not _mean_of(like):
            return like.clone()
        # From the coarsest on, a sum rounds only where it is too large to cancel with the rest.
        parts = [part for _, part in sorted(self.slices[key].items(), reverse=True)]
        if not parts:
            return torch.zeros(like.shape, dtype=like.dtype)
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        return total.div_(self.count).to(like.dtype)

    def _check(self, key: str, tensor: Tensor, name: str) -> None:
        like = self.layout[key]
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            raise NoMean(
                f"{name}: {key}: {tuple(tensor.shape)} {tensor.dtype}, but "
                f"{self.first} has {tuple(like.shape)} {like.dtype}"
            )
        if not _mean_of(like) and not torch.equal(tensor, like):
            raise NoMean(
                f"{name}: {key}: integers differ from those of {self.first}; "
                "they cannot be averaged and must agree"
            )


def _mean_of(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _layout(tensor: Tensor) -> Tensor:
    """Return an integer tensor, or one without memory of the same shape and dtype."""
    return torch.empty_like(tensor, device="meta") if _mean_of(tensor) else tensor.clone()


def _sliced(tensor: Tensor) -> Slices:
    """Cut values into slices, of which all that are zero throughout are left out."""
    rest, slices = tensor.to(torch.float64, copy=True), dict[int, Tensor]()
    largest = _largest(rest)
    if not math.isfinite(largest):
        finite = rest.isfinite()
        slices[ODD] = rest.where(~finite, 0)
        rest = rest.where(finite, 0)
        largest = _largest(rest)
    for grid in GRIDS:
        if largest >= 2.0**grid:
            slices[grid] = (rest * 2.0**-grid).trunc_().mul_(2.0**grid)
            rest -= slices[grid]
            largest = _largest(rest)
    if largest:
        slices[BEYOND] = rest
    return slices


def _largest(tensor: Tensor) -> float:
    if not tensor.numel():
        return 0.0
    low, high = torch.aminmax(tensor)
    return max(-float(low), float(high))  # NaN where one is


def _added(some: Slices, others: Slices) -> Slices:
    both = {grid: some[grid] + others[grid] for grid in some.keys() & others.keys()}
    return {**some, **others, **both}


def _check_keys(
    name: str, first: Mapping[str, Tensor], other_name: str, other: Mapping[str, Tensor]
) -> None:
    for key in sorted(first.keys() ^ other.keys()):
        has, lacks = (name, other_name) if key in first else (other_name, name)
        raise NoMean(f"{lacks}: {key}: missing, but {has} has it; not one architecture")
