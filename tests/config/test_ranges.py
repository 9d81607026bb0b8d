"""Test what swept keys are drawn from: lists and ranges."""

import itertools

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.config.ranges import Choice, Range, places, read, whole_number

SPACE = {
    "loss.omega": {"uniform": [0, 1]},
    "loss.tau": {"loguniform": [0.01, 10]},
    "loss.sampling": ["boundary", "random", "all"],
    "loss.boundary_width": {"uniform": [1, 3]},
}


def drawn(count, space=SPACE, seed=0):
    return list(itertools.islice(places(RunConfig, space, "random", seed), count))


def test_more_draws_add_places_and_change_none():
    assert drawn(20)[:7] == drawn(7)


def test_a_further_key_changes_no_draw_of_the_others():
    fewer = {key: SPACE[key] for key in ("loss.omega", "loss.tau")}
    assert [{k: place[k] for k in fewer} for place in drawn(20)] == drawn(20, fewer)


def test_another_seed_draws_others():
    assert drawn(3, seed=1) != drawn(3)


def test_draws_fill_their_ranges_evenly_on_their_scales():
    all_of_them = drawn(2000)
    omega = np.array([place["loss.omega"] for place in all_of_them])
    tau = np.log10([place["loss.tau"] for place in all_of_them])
    for values, low, high in ((omega, 0, 1), (tau, -2, 1)):
        assert low <= values.min() < values.max() <= high
        counts, _ = np.histogram(values, bins=4, range=(low, high))
        assert counts.min() > 420  # of 500; 4 standard deviations below
    for key, options in (
        ("loss.sampling", {"boundary", "random", "all"}),
        ("loss.boundary_width", {1, 2, 3}),
    ):
        found = [place[key] for place in all_of_them]
        assert set(found) == options
        assert min(map(found.count, options)) > 580  # of 667


def test_numbers_have_three_digits_and_stay_within():
    of = Range("uniform", 0.12345, 0.9)
    assert of.at(0.0) == 0.12345
    assert of.at(0.5) == 0.512  # 0.511725
    assert Range("loguniform", 1e-4, 1e-2).at(0.5) == 1e-3


def test_a_space_of_choices_ends_when_all_are_drawn():
    space = {"loss.sampling": ["boundary", "all"], "loss.z": {"choice": ["pre_relu", "post_relu"]}}
    assert len(drawn(10, space)) == 4


def test_a_grid_goes_through_the_last_key_first():
    space = {"loss.omega": [0.0, 1.0], "loss.tau": [1.0, 2.0]}
    found = [tuple(place.values()) for place in places(RunConfig, space, "grid", 0)]
    assert found == [(0.0, 1.0), (0.0, 2.0), (1.0, 1.0), (1.0, 2.0)]


@pytest.mark.parametrize(
    ("key", "whole"),
    [
        ("loss.omega", False),
        ("train.steps", True),
        ("teacher.rows", True),
        ("student.options.queue", True),
        ("loss.sampling", False),
        ("stages.0.batch_size", True),
        ("stages.0.lr", False),
    ],
)
def test_whole_numbers_are_known_by_their_key(key, whole):
    assert whole_number(RunConfig, key) is whole


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"uniform": [1, 0]}, "low must be below high"),
        ({"uniform": [0]}, "two numbers"),
        ({"uniform": [0, "1"]}, "two numbers"),
        ({"uniform": [False, True]}, "two numbers"),
        ({"loguniform": [0, 1]}, "low must be above 0"),
        ({"normal": [0, 1]}, "'normal' is no range; write"),
        ({"uniform": [0, 1], "choice": [1]}, "no list and no range"),
        ({"choice": [1, 1]}, "1 is there twice"),
        ({"choice": []}, "at least one value"),
        (0.5, "no list and no range"),
    ],
)
def test_what_is_no_range_is_told(values, told):
    with pytest.raises(ValueError, match=told):
        read(RunConfig, "loss.tau", values)


def test_a_range_of_a_whole_number_has_whole_ends():
    with pytest.raises(ValueError, match=r"train\.steps is a whole number"):
        read(RunConfig, "train.steps", {"uniform": [1.5, 3]})
    assert read(RunConfig, "train.steps", {"uniform": [1, 3]}) == Range("uniform", 1, 3, whole=True)
    assert read(RunConfig, "train.steps", [1, 3]) == Choice((1, 3))
