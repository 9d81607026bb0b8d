"""Test paired differences, their signs, and the interval of their mean."""

import itertools

import numpy as np
import pytest

from vosmodels.evaluation.bootstrap import compare, interval


def rng(seed=0):
    return np.random.default_rng(seed)


def every_mean(gaps, weights):
    """Means of all equally likely draws of seeds and sequences, each with replacement."""
    seeds, sequences = gaps.shape
    return [
        np.average(gaps[np.ix_(rows, columns)].mean(0), weights=weights[list(columns)])
        for rows in itertools.product(range(seeds), repeat=seeds)
        for columns in itertools.product(range(sequences), repeat=sequences)
    ]


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_interval_has_the_quantiles_of_all_draws_there_are(seeds):
    gaps, weights = rng(1).normal(size=(seeds, 3)), np.array([1.0, 2.0, 5.0])
    low, high = interval(gaps, weights, rng(), level=0.7, resamples=40_000)
    means = np.sort(every_mean(gaps, weights))
    for found, share in ((low, 0.15), (high, 0.85)):
        below, above = np.quantile(means, [share - 0.015, share + 0.015])
        assert below - 1e-12 <= found <= above + 1e-12


def test_interval_covers_the_truth_as_often_as_it_says():
    """20 seeds and 30 sequences with effects of their own; the truth is their common mean."""
    draws, hits = rng(2), 0
    for _ in range(200):
        gaps = (
            0.3
            + draws.normal(0, 1, (20, 1))
            + draws.normal(0, 1, (1, 30))
            + draws.normal(0, 1, (20, 30))
        )
        low, high = interval(gaps, np.ones(30), draws, resamples=400)
        hits += low <= 0.3 <= high
    assert 178 <= hits <= 199  # 190 expected, less a little for the finite sample


def test_interval_is_not_narrower_for_seeds_that_repeat_each_other():
    """An effect of a sequence on all seeds is no noise that more seeds average away."""
    gaps = rng(3).normal(size=(1, 12))
    once = interval(gaps, np.ones(12), rng())
    assert interval(np.repeat(gaps, 5, 0), np.ones(12), rng()) == pytest.approx(once, abs=0.03)


def test_compare_is_the_mean_over_objects_of_what_seeds_gain_on_average():
    ours = [{"a": 0.5, "b": 0.6, "c": 0.7}, {"a": 0.7, "b": 0.6, "c": 0.5}]
    theirs = [{"a": 0.4, "b": 0.6, "c": 0.8}, {"c": 0.6, "b": 0.6, "a": 0.6}]
    found = compare(ours, theirs, {"a": 3, "b": 1, "c": 1}, rng())
    assert found.per_sequence == pytest.approx({"a": 0.1, "b": 0.0, "c": -0.1})
    assert found.signs == (1, 1, 1)
    assert found.mean == pytest.approx((3 * 0.1 - 0.1) / 5)
    assert found.low <= found.mean <= found.high
    assert found.seeds == 2


def test_compare_gives_the_same_interval_to_the_same_generator():
    rows = [{"a": 0.5, "b": 0.9}], [{"a": 0.3, "b": 0.8}]
    weights = {"a": 1.0, "b": 1.0}
    assert compare(*rows, weights, rng(7)) == compare(*rows, weights, rng(7))


def test_rows_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="not every row has: b"):
        compare([{"a": 1.0}], [{"a": 1.0, "b": 1.0}], {"a": 1.0}, rng())
    with pytest.raises(ValueError, match="0 and 0 seeds"):
        compare([], [], {"a": 1.0}, rng())
    with pytest.raises(ValueError, match="2 and 1 seeds"):
        compare([{"a": 1.0}] * 2, [{"a": 1.0}], {"a": 1.0}, rng())


def test_the_chance_of_being_better_is_the_share_of_all_draws_above_zero():
    gaps = {"a": 0.3, "b": -0.1, "c": -0.17}
    weights = {"a": 1.0, "b": 2.0, "c": 1.0}
    found = compare([gaps], [dict.fromkeys(gaps, 0.0)], weights, rng())
    means = every_mean(np.array([list(gaps.values())]), np.array(list(weights.values())))
    assert found.above == pytest.approx(np.mean(np.array(means) > 0), abs=0.015)


@pytest.mark.parametrize(("gap", "above"), [(0.25, 1.0), (-0.25, 0.0), (0.0, 0.5)])
def test_of_constant_gaps_the_interval_is_the_gap_and_the_chance_its_sign(gap, above):
    names = ["a", "b", "c"]
    ours, theirs = dict.fromkeys(names, 0.5 + gap), dict.fromkeys(names, 0.5)
    found = compare([ours], [theirs], dict.fromkeys(names, 2.0), rng())
    assert [found.mean, found.low, found.high] == pytest.approx([gap] * 3)
    assert found.above == above
