"""Test the mean of state dicts, against numpy and by its properties."""

from __future__ import annotations

import itertools
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soups import average as module
from soups.average import average, average_of


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(3, 2, generator=generator).to(dtype),
        "bn.num_batches_tracked": torch.tensor(7),
    }


def test_average_is_the_mean_that_numpy_computes_in_float64():
    states = [state(seed) for seed in range(5)]
    expected = np.mean([s["conv.weight"].numpy().astype(np.float64) for s in states], axis=0)
    mean = average(states)["conv.weight"]
    assert mean.dtype == torch.float32
    np.testing.assert_array_equal(mean.numpy(), expected.astype(np.float32))


def test_average_sums_in_float64():
    values = [torch.tensor([v]) for v in (1e8, 1.0, -1e8)]
    assert average([{"w": v} for v in values])["w"].item() == pytest.approx(1 / 3)


@given(st.integers(1, 9), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_average_of_equal_dicts_is_that_dict_bit_for_bit(count: int, dtype: torch.dtype):
    one = state(0, dtype)
    mean = average([one] * count)
    assert all(torch.equal(mean[key], one[key]) for key in one)


def test_average_does_not_depend_on_the_order_of_ingredients():
    values = [2.0**60, 1.0, -(2.0**60), 3.0]  # their sum in float64 depends on the order
    states = [{"w": torch.tensor([value])} for value in values]
    assert len({average([s])["w"].item() for s in states}) == 4
    assert len({average(order)["w"].item() for order in itertools.permutations(states)}) == 1


def test_average_leaves_its_inputs_alone_and_shares_no_memory_with_them():
    one = state(0)
    mean = average([one])
    mean["conv.weight"].zero_()
    mean["bn.num_batches_tracked"].zero_()
    assert one["conv.weight"].abs().sum() > 0
    assert one["bn.num_batches_tracked"] == 7


def test_average_refuses_integers_that_differ_naming_ingredient_and_key():
    other = state(1) | {"bn.num_batches_tracked": torch.tensor(8)}
    with pytest.raises(ValueError, match=r"second: bn\.num_batches_tracked: integers differ"):
        average([state(0), other], ["first", "second"])


def test_average_refuses_another_architecture_naming_who_lacks_the_key():
    smaller = {"conv.weight": state(1)["conv.weight"]}
    with pytest.raises(ValueError, match=r"second: bn\.num_batches_tracked: missing, but first"):
        average([state(0), smaller], ["first", "second"])
    with pytest.raises(ValueError, match=r"first: bn\.num_batches_tracked: missing, but second"):
        average([smaller, state(0)], ["first", "second"])


def test_average_refuses_other_shapes_and_dtypes():
    with pytest.raises(ValueError, match=r"state dict 1: w: \(1, 2\) torch.float32, but .* \(2,\)"):
        average([{"w": torch.zeros(2)}, {"w": torch.zeros(1, 2)}])
    with pytest.raises(ValueError, match=r"state dict 1: w: \(2,\) torch.float16"):
        average([{"w": torch.zeros(2)}, {"w": torch.zeros(2, dtype=torch.float16)}])


def test_average_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no state dicts"):
        average([])


def test_average_of_files_is_the_average_of_all_in_memory_bit_for_bit(monkeypatch):
    """A key at a time, and a few elements at a time."""
    rng = torch.Generator().manual_seed(0)
    states = [
        {
            "a": torch.randn(30, 7, generator=rng) * 10.0**exponent,
            "b": torch.tensor(3),
            "c": torch.randn(11, generator=rng).to(torch.bfloat16),
            "d": torch.zeros(0, 2),
        }
        for exponent in range(-6, 6)
    ]
    stacked = [torch.stack([state["a"].double() for state in states]).sort(dim=0).values]
    expected = {key: value.clone() for key, value in average(states).items()}
    assert torch.equal(expected["a"], (stacked[0].sum(0) / 12).float())
    reads = []
    monkeypatch.setattr(module, "ELEMENTS", 4)
    monkeypatch.setattr(module, "TOGETHER_MIB", 12 * 2 * 11 / 2**20)

    def load(n):
        reads.append(n)
        return states[n]

    names = [str(n) for n in range(len(states))]
    mean = average_of([partial(load, n) for n in range(len(states))], names)
    assert list(mean) == ["a", "b", "c", "d"]
    for key, value in mean.items():
        assert value.dtype == expected[key].dtype
        assert torch.equal(value, expected[key]), key
    assert len(reads) == 1 + 3 * len(states)  # the first for its keys, then all: a, then b, then c


def test_average_of_files_holds_few_of_them_at_a_time():
    """Of 200 of 4 MiB each, the first, the one that is read and parts are there at any time."""
    alive, most = weakref.WeakSet[torch.Tensor](), list[int]()

    def load(n):
        tensors = {str(key): torch.full((1 << 17,), float(n)) for key in range(8)}
        alive.update(tensors.values())
        most.append(len(alive))
        return tensors

    names = [str(n) for n in range(200)]
    mean = average_of([partial(load, n) for n in range(200)], names)
    assert mean["7"][0] == 99.5
    assert max(most) <= 3 * 8


def test_average_of_files_refuses_another_architecture_and_nothing():
    with pytest.raises(ValueError, match=r"b: w: missing, but a has it"):
        average_of([lambda: {"w": torch.zeros(1)}, dict], ["a", "b"])
    with pytest.raises(ValueError, match="no state dicts"):
        average_of([], [])
