"""Average state dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

TOGETHER_MIB = 256  # of state dicts that `average_of` holds at a time
ELEMENTS = 1 << 16  # that are summed at a time


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


def average_of(
    loads: Sequence[Callable[[], Mapping[str, Tensor]]], names: Sequence[str]
) -> dict[str, Tensor]:
    """Average state dicts as `average` does, to the bit, that need not fit in memory together.

    loads: read one state dict each. A part of the keys is averaged at a time, each state dict being
    read once a part, so that TOGETHER_MIB of them are held. Raises ValueError as `average`.
    """
    if not loads:
        return average([])
    first, mean = loads[0](), dict[str, Tensor]()
    for part in _parts(first, len(loads)):
        held: list[dict[str, Tensor]] = []
        for name, load in zip(names, loads, strict=True):
            whole = load()
            _same_keys(names[0], first, name, whole)
            held.append({key: whole[key].clone() for key in part})
        mean |= average(held, names)
    return {key: mean[key] for key in first}


def _parts(state_dict: Mapping[str, Tensor], count: int) -> list[list[str]]:
    """Divide the keys so that the tensors of `count` state dicts fit, or one key's do."""
    parts, size = list[list[str]](), 0.0
    for key, tensor in state_dict.items():
        mib = tensor.numel() * tensor.element_size() * count / 2**20
        if not parts or size + mib > TOGETHER_MIB:
            parts.append([])
            size = 0.0
        parts[-1].append(key)
        size += mib
    return parts


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
    # Ascending order makes the rounding of the sum independent of the order of ingredients. So many
    # elements at a time: sorted, each takes 24 bytes of every ingredient.
    flat, slices = [tensor.flatten() for tensor in tensors], []
    for start in range(0, max(1, first.numel()), ELEMENTS):
        stack = torch.stack([tensor[start : start + ELEMENTS].double() for tensor in flat])
        slices.append(stack.sort(dim=0).values.sum(0) / len(tensors))
    return torch.cat(slices).to(first.dtype).reshape(first.shape)


def _same_keys(
    name: str, first: Mapping[str, Tensor], other_name: str, other: Mapping[str, Tensor]
) -> None:
    for key in sorted(first.keys() ^ other.keys()):
        has, lacks = (name, other_name) if key in first else (other_name, name)
        raise ValueError(f"{lacks}: {key}: missing, but {has} has it; not one architecture")
