"""Average state dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def average(
    state_dicts: Sequence[Mapping[str, Tensor]], names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """theta = 1/k sum_i theta_i      Model soups, arXiv:2203.05482, recipe 1

    Floating-point tensors are averaged in float64 and cast back, so that the mean of equal
    tensors is that tensor. The values of each element are added in ascending order, so that the
    order of the state dicts does not change the mean. Integer and boolean tensors cannot be
    averaged and must agree. names: what errors call the state dicts.
    Raises ValueError for no state dicts, and for keys, shapes, dtypes or integers that differ,
    naming state dict and key.
    """
    if not state_dicts:
        raise ValueError("no state dicts to average; give at least one")
    names = names or [f"state dict {index}" for index in range(len(state_dicts))]
    first = state_dicts[0]
    for name, other in zip(names[1:], state_dicts[1:], strict=True):
        _same_keys(names[0], first, name, other)
    return {key: _mean(key, [d[key] for d in state_dicts], names) for key in first}


def _mean(key: str, tensors: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    first = tensors[0]
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.shape != first.shape or tensor.dtype != first.dtype:
            raise ValueError(
                f"{name}: {key}: {tuple(tensor.shape)} {tensor.dtype}, but "
                f"{names[0]} has {tuple(first.shape)} {first.dtype}"
            )
        if not first.is_floating_point() and not torch.equal(tensor, first):
            raise ValueError(
                f"{name}: {key}: integers differ from those of {names[0]}; "
                "they cannot be averaged and must agree"
            )
    if not first.is_floating_point():
        return first.clone()
    # Ascending order makes the rounding of the sum independent of the order of ingredients.
    stack = torch.stack([tensor.double() for tensor in tensors]).sort(dim=0).values
    return (stack.sum(0) / len(tensors)).to(first.dtype)


def _same_keys(
    name: str, first: Mapping[str, Tensor], other_name: str, other: Mapping[str, Tensor]
) -> None:
    for key in sorted(first.keys() ^ other.keys()):
        has, lacks = (name, other_name) if key in first else (other_name, name)
        raise ValueError(f"{lacks}: {key}: missing, but {has} has it; not one architecture")
