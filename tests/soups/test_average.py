"""Test the mean of state dicts, against numpy and by its properties."""

from __future__ import annotations

import itertools
import subprocess
import sys
import weakref
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soups.average import Sum, average, average_of

TREE = Path(__file__).resolve().parents[2]


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


def test_average_of_files_is_the_average_of_all_in_memory_and_reads_each_once():
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
    expected, reads = average(states), list[int]()

    def load(n):
        reads.append(n)
        return states[n]

    mean = average_of([partial(load, n) for n in range(len(states))])
    assert list(mean) == ["a", "b", "c", "d"]
    for key, value in mean.items():
        assert value.dtype == expected[key].dtype
        assert torch.equal(value, expected[key]), key
    assert reads == [*range(len(states))]


def test_average_of_files_holds_one_of_them_at_a_time():
    """Of 12 of 4 MiB each: the one before, which is let go of next, and the one that is read."""
    alive, most = weakref.WeakSet[torch.Tensor](), list[int]()

    def load(n):
        tensors = {str(key): torch.full((1 << 17,), float(n)) for key in range(8)}
        alive.update(tensors.values())
        most.append(len(alive))
        return tensors

    mean = average_of([partial(load, n) for n in range(12)])
    assert mean["7"][0] == 5.5
    assert max(most) <= 2 * 8


EXPONENTS = st.integers(-149, 123)
FLOATS = st.builds(lambda m, e: float(np.float32(m * 2.0**e)), st.integers(-9, 9), EXPONENTS)


@given(st.lists(FLOATS, min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_a_sum_is_exact_whatever_the_order_and_wherever_it_begins(values: list[float], shuffle):
    """Against rational numbers, over the whole range of float32."""
    mean = float(sum(map(Fraction, values)) / len(values))
    states = [{"w": torch.tensor([value])} for value in values]
    expected = average(states)["w"]
    assert expected.item() == pytest.approx(float(np.float32(mean)), rel=1.2e-7, abs=1.5e-45)
    shuffle.shuffle(states)
    total = Sum.of(states[0], "0")
    for number, state in enumerate(states[1:]):
        total = total.plus(state, str(number))
    assert torch.equal(total.mean()["w"], expected)


@given(st.lists(st.floats(-(2.0**100), 2.0**100), min_size=2, max_size=4))
def test_a_mean_in_float64_does_not_depend_on_the_order(values: list[float]):
    states = [{"w": torch.tensor([value], dtype=torch.float64)} for value in values]
    means = {average(order)["w"].item() for order in itertools.permutations(states)}
    assert len(means) == 1


def test_a_sum_stays_as_it_is_when_another_state_dict_joins_it():
    """A search asks for the mean with one candidate after the other."""
    total = Sum.of(state(0), "0").plus(state(1), "1")
    before = total.mean()
    joined = total.plus(state(2), "2").mean()
    assert torch.equal(joined["conv.weight"], average([state(n) for n in range(3)])["conv.weight"])
    assert torch.equal(total.mean()["conv.weight"], before["conv.weight"])


def test_infinities_stay_and_those_of_two_signs_are_no_number():
    inf = float("inf")
    mean = average([{"w": torch.tensor([-inf, inf, 2.0])}, {"w": torch.tensor([-inf, -inf, 3.0])}])
    assert mean["w"][0] == -inf
    assert mean["w"][1].isnan()
    assert mean["w"][2] == 2.5


MANY = """
import re, sys, torch
from functools import partial
from pathlib import Path
from soups.average import average_of
from soups.search import Ingredient, greedy

def load(n):
    return {str(k): torch.full((1 << 18,), n / 3) for k in range(10)}  # 10 MiB

count = int(sys.argv[1])
pool = [Ingredient(str(n), str(n), -float(n), partial(load, n), "stem") for n in range(count)]
calls = iter(range(1, 10 * count))
soup = greedy(pool, lambda weights: float(n) if (n := next(calls)) % 10 == 0 else -1000.0)
average_of([each.load for each in pool])
# Not getrusage's ru_maxrss, which begins with what the parent had when it forked.
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
print(len(soup.ingredients), int(peak[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc, which tells the peak")
def test_a_search_and_a_mean_hold_one_checkpoint_at_a_time():
    """40 of 10 MiB in a process of its own, which takes 1.1 GB if it holds all of them."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, "40"], capture_output=True, text=True, check=True, cwd=TREE
    )
    taken, most = map(int, done.stdout.split())
    assert taken == 4
    assert most < 0.8e9


def test_average_of_files_refuses_another_architecture_and_nothing():
    with pytest.raises(ValueError, match=r"b: w: missing, but a has it"):
        average_of([lambda: {"w": torch.zeros(1)}, dict], ["a", "b"])
    with pytest.raises(ValueError, match="no state dicts"):
        average_of([], [])
