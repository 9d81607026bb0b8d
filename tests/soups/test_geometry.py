"""Test distances, angles and barriers by closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soups.geometry import Errors, angle, barrier, distance, measure
from soups.scoring import Weights
from soups.search import Ingredient


def at(*values: float) -> dict[str, torch.Tensor]:
    """Weights in two tensors, and an integer that is no place."""
    return {
        "a": torch.tensor(values[:1], dtype=torch.float32),
        "b": torch.tensor([values[1:]], dtype=torch.float32),
        "bn.num_batches_tracked": torch.tensor(7),
    }


def each(error: Callable[[Weights], float]) -> Errors:
    """Errors of weights, measured one after another."""
    return lambda weights: [error(one()) for one in weights]


def ingredient(name: str, *values: float) -> Ingredient:
    return Ingredient(name, f"sha of {name}", 0.5, lambda: at(*values), "stem")


def test_distance_is_that_of_pythagoras_over_all_tensors():
    assert distance(at(1, 2, 3), at(3, 5, 9)) == 7.0  # of 2, 3 and 6
    assert distance(at(1, 2, 3), at(1, 2, 3)) == 0.0


def test_distance_is_summed_in_float64():
    ours, theirs = {"w": torch.full((2, 2**20), 1e-4)}, {"w": torch.zeros(2, 2**20)}
    ours["w"][0, 0] = theirs["w"][0, 0] = 1e6
    exact = float(torch.tensor(1e-4).double()) * math.sqrt(2**21 - 1)
    assert distance(ours, theirs) == pytest.approx(exact, rel=1e-12)


@given(st.floats(0.1, 179.9), st.floats(0.1, 10), st.floats(0.1, 10))
def test_angle_is_that_between_the_ways_from_the_stem(degrees: float, ours: float, theirs: float):
    stem = at(3, -1, 2)
    x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    one, other = at(3 + ours, -1, 2), at(3 + theirs * x, -1 + theirs * y, 2)
    assert angle(one, other, stem) == pytest.approx(degrees, abs=0.02)


def test_angle_of_one_way_is_0_and_of_none_is_none():
    assert angle(at(1, 1, 0), at(2, 2, 0), at(0, 0, 0)) == pytest.approx(0, abs=1e-5)
    assert angle(at(1, 1, 0), at(0, 0, 0), at(0, 0, 0)) is None


def test_barrier_is_what_the_middle_loses_on_the_mean_of_its_ends():
    assert barrier(0.5, (0.1, 0.3)) == pytest.approx(0.3)
    assert barrier(0.2, (0.1, 0.3)) == pytest.approx(0.0)


def test_the_barrier_of_a_parabola_is_minus_its_curvature_times_a_quarter_of_the_square():
    """E = x^2: E((a + b) / 2) - (E(a) + E(b)) / 2 = -(a - b)^2 / 4."""
    found = measure(
        ingredient("best", 1, 0, 0),
        [(ingredient("in", 5, 0, 0), True), (ingredient("out", -3, 4, 0), False)],
        stem=lambda: at(0, 0, 0),
        errors=each(lambda weights: float(weights["a"][0]) ** 2),
    )
    assert (found["centre"], found["from_stem"]) == ("best", 1.0)
    inside, outside = found["places"]
    assert inside == {
        "name": "in",
        "sha256": "sha of in",
        "accepted": True,
        "distance": 4.0,
        "from_stem": 5.0,
        "angle": 0.0,
        "barrier": -4.0,
    }
    assert (outside["accepted"], outside["barrier"]) == (False, -4.0)
    assert outside["angle"] == pytest.approx(180 - math.degrees(math.atan(4 / 3)))


def test_without_a_stem_or_an_error_there_is_the_distance_alone():
    found = measure(ingredient("best", 1, 0, 0), [(ingredient("in", 1, 3, 4), True)])
    (place,) = found["places"]
    assert place["distance"] == 5.0
    assert (found["from_stem"], place["from_stem"], place["angle"], place["barrier"]) == (None,) * 4


def test_the_error_is_measured_once_of_the_centre_and_twice_of_each_other():
    calls: list[float] = []

    def error(weights: Weights) -> float:
        calls.append(float(weights["a"][0]))
        return 0.0

    others = [(ingredient("b", 2, 0, 0), True), (ingredient("c", 4, 0, 0), False)]
    measure(ingredient("a", 0, 0, 0), others, errors=each(error))
    assert calls == [0, 1, 2, 2, 4]
    calls.clear()
    measure(ingredient("a", 0, 0, 0), [], errors=each(error))
    assert calls == []
