"""Test greedy search against a second implementation and hand-made pools."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from soups.search import Ingredient, greedy, ranked
from vosmodels.errors import InputError


def ingredient(
    name: str, value: float, score: float, ancestor: str | None = "stem", sha256: str = ""
) -> Ingredient:
    weights = {"w": torch.tensor([value], dtype=torch.float64)}
    return Ingredient(name, sha256 or name, score, lambda: weights, ancestor)


def near(target: float):
    """Score of weights: minus the distance of w to the target."""
    return lambda weights: -abs(float(weights["w"]) - target)


def pool_for(values: list[float], target: float) -> list[Ingredient]:
    score = near(target)
    return [
        ingredient(f"i{index:02}", value, score({"w": torch.tensor([value], dtype=torch.float64)}))
        for index, value in enumerate(values)
    ]


def plain_greedy(values: list[float], target: float) -> set[int]:
    """The recipe again, on numbers: indices that stay."""
    order = sorted(range(len(values)), key=lambda i: (abs(values[i] - target), f"i{i:02}"))
    kept = [order[0]]
    best = -abs(values[order[0]] - target)
    for index in order[1:]:
        trial = sorted(values[i] for i in [*kept, index])
        score = -abs(sum(trial) / len(trial) - target)
        if score > best:
            kept, best = [*kept, index], score
    return set(kept)


@given(
    st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=8, unique=True),
    st.integers(-40, 40).map(lambda n: n / 8),
)
def test_greedy_keeps_what_the_plain_recipe_keeps(values: list[float], target: float):
    soup = greedy(pool_for(values, target), near(target))
    assert {int(i.name[1:]) for i in soup.ingredients} == plain_greedy(values, target)
    assert soup.score >= max(-abs(value - target) for value in values)
    assert soup.score == pytest.approx(near(target)(soup.weights))


def test_greedy_starts_from_the_best_and_records_every_decision():
    pool = pool_for([3.0, -1.0, 0.5], target=0.0)
    soup = greedy(pool, near(0.0))
    told = [(d.name, d.score_before, d.score_with, d.accepted) for d in soup.decisions]
    assert told == [
        ("i02", None, -0.5, True),
        ("i01", -0.5, -0.25, True),
        ("i00", -0.25, pytest.approx(-2.5 / 3), False),
    ]
    assert soup.weights["w"].item() == -0.25


def test_greedy_rejects_an_ingredient_that_adds_nothing():
    twins = [ingredient("a", 1.0, -1.0), ingredient("b", 1.0, -1.0)]
    assert [i.name for i in greedy(twins, near(0.0)).ingredients] == ["a"]


def test_greedy_asks_for_more_than_min_delta():
    pool = pool_for([1.0, -0.5], target=0.0)  # the mean 0.25 gains 0.25 on -0.5
    assert len(greedy(pool, near(0.0), min_delta=0.24).ingredients) == 2
    assert len(greedy(pool, near(0.0), min_delta=0.25).ingredients) == 1


def test_greedy_scores_each_further_ingredient_once():
    calls = []

    def score(weights: Mapping[str, Tensor]) -> float:
        calls.append(weights)
        return 0.0

    greedy(pool_for([1.0, 2.0, 3.0, 4.0], target=0.0), score)
    assert len(calls) == 3


def test_greedy_gives_the_same_soup_for_any_order_of_the_pool():
    pool = pool_for([0.5, -0.4, 2.0, -3.0, 0.1], target=0.05)
    expected = greedy(pool, near(0.05))
    random.Random(0).shuffle(pool)
    again = greedy(pool, near(0.05))
    assert again.decisions == expected.decisions
    assert torch.equal(again.weights["w"], expected.weights["w"])


def test_greedy_hands_back_the_whole_scores_of_the_soup():
    class Both:
        def __init__(self, jf: float) -> None:
            self.jf = jf

    pool = pool_for([1.0, -1.0], target=0.0)
    soup = greedy(pool, lambda weights: Both(near(0.0)(weights)))
    assert isinstance(soup.scored, Both)
    assert soup.scored.jf == soup.score == 0.0


def test_ties_go_by_sha256():
    pool = [ingredient("x", 1.0, 0.5, sha256="b"), ingredient("y", 1.0, 0.5, sha256="a")]
    assert [i.name for i in ranked(pool)] == ["y", "x"]


def test_the_same_file_twice_is_one_ingredient():
    pool = [ingredient("x", 1.0, 0.5, sha256="a"), ingredient("y", 1.0, 0.5, sha256="a")]
    assert len(ranked(pool)) == 1


def test_mixed_ancestors_are_refused_by_name():
    pool = [ingredient("x", 1.0, 0.5), ingredient("y", 1.0, 0.5, ancestor="other")]
    with pytest.raises(InputError, match=r"2 ancestors \(other: y; stem: x\)"):
        greedy(pool, near(0.0))


def test_an_empty_pool_is_refused():
    with pytest.raises(InputError, match="no checkpoints"):
        greedy([], near(0.0))


def test_a_parallel_search_is_refused_as_not_built():
    with pytest.raises(InputError, match=r"workers 4: .* not built yet"):
        greedy(pool_for([1.0], 0.0), near(0.0), workers=4)
