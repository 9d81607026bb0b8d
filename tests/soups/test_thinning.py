"""Test which checkpoints stay in a pool that is thinned."""

from __future__ import annotations

import logging

import pytest
import torch

from soups import thinning
from soups.geometry import distance
from soups.search import Ingredient
from soups.thinning import Thinning
from vosmodels.errors import InputError


def ingredient(name: str, *values: float, score: float = 0.5, step: int = 10) -> Ingredient:
    weights = {"w": torch.tensor(values), "n": torch.tensor(7)}
    return Ingredient(name, name, score, lambda: weights, "stem", step)


def names(thin: Thinning, pool: list[Ingredient]) -> list[str]:
    return [each.name for each in thin.thin(pool)]


def test_without_rules_all_stay():
    pool = [ingredient("a", 1.0), ingredient("b", 1.0)]
    assert names(Thinning(), pool) == ["a", "b"]


def test_steps_and_scores_choose_in_the_order_of_the_pool():
    pool = [
        ingredient("a", 1.0, score=0.1, step=20),
        ingredient("b", 2.0, score=0.9, step=30),
        ingredient("c", 3.0, score=0.5, step=40),
        ingredient("d", 4.0, score=0.5, step=60),
    ]
    assert names(Thinning(every=20), pool) == ["a", "c", "d"]
    assert names(Thinning(best=2), pool) == ["b", "c"]  # d scores as c; ties go by sha256
    assert names(Thinning(every=20, best=1), pool) == ["c"]


def test_a_near_duplicate_of_a_better_one_is_left_out(monkeypatch: pytest.MonkeyPatch):
    """Norm 5: b is 0.1 away, which is 0.02 of it; c lies near b, but b does not stay."""
    pool = [
        ingredient("a", 3.0, 4.0, score=0.9),
        ingredient("b", 3.0, 4.1, score=0.8),
        ingredient("c", 3.0, 4.2, score=0.7),
        ingredient("d", 3.0, 6.0, score=0.6),
    ]
    for held in (thinning.HELD, 0):
        monkeypatch.setattr(thinning, "HELD", held)
        assert names(Thinning(apart=0.03), pool) == ["a", "c", "d"]
        assert names(Thinning(apart=0.3), pool) == ["a", "d"]
        assert names(Thinning(apart=0.0), [*pool, ingredient("e", 3.0, 4.0)]) == list("abcd")


def test_the_distance_is_that_of_all_floating_point_weights():
    ours = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[0.0]]), "n": torch.tensor(1)}
    theirs = {"a": torch.tensor([1.0, 5.0]), "b": torch.tensor([[4.0]]), "n": torch.tensor(9)}
    assert distance(ours, theirs) == 5.0


def test_each_rule_says_how_many_stay_and_none_is_an_error(caplog: pytest.LogCaptureFixture):
    pool = [ingredient("a", 1.0, step=10), ingredient("b", 1.0, step=15)]
    with caplog.at_level(logging.INFO, "soups"):
        Thinning(every=10).thin(pool)
    assert caplog.messages == ["--every 10: 1 of 2 checkpoints stay"]
    with pytest.raises(InputError, match=r"--every 7: none of 2 .*steps: 10, 15"):
        Thinning(every=7).thin(pool)
