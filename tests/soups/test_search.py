"""Test greedy search against a second implementation and hand-made pools."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from soups.order import Order
from soups.scoring import SetScorer
from soups.search import Ingredient, greedy, mean_of, ranked
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


def test_fewer_than_one_worker_is_refused():
    with pytest.raises(InputError, match=r"workers 0: .*1 or more"):
        greedy(pool_for([1.0], 0.0), near(0.0), workers=0)


def test_the_soup_starts_from_the_best_whatever_the_order():
    steps = {"i00": 30, "i01": 10, "i02": 20}
    pool = [replace(i, step=steps[i.name]) for i in pool_for([3.0, -1.0, 2.0], target=0.0)]
    shuffled = Order("random", 1)
    for order, names in (
        (Order(), ["i01", "i02", "i00"]),
        (Order("step"), ["i01", "i00", "i02"]),
        (shuffled, ["i01", *(i.name for i in shuffled.sort([pool[0], pool[2]]))]),
    ):
        soup = greedy(pool, near(0.0), order=order)
        assert [d.name for d in soup.decisions] == names


def test_with_replacement_one_that_is_taken_again_weighs_more():
    """Of 0 and 1 the mean comes nearest to a third as 0, 0, 1; without replacement it is a half."""
    pool = pool_for([0.0, 1.0], target=0.34)
    once = greedy(pool, near(0.34))
    assert once.weights["w"].item() == 0.5
    again = greedy(pool, near(0.34), replacement=True)
    assert sorted(i.name for i in again.ingredients) == ["i00", "i00", "i01"]
    assert again.weights["w"].item() == pytest.approx(1 / 3)
    assert again.score > once.score


def test_with_replacement_the_search_ends_after_a_pass_that_takes_none():
    soup = greedy(pool_for([0.0, 1.0, 5.0], target=0.5), near(0.5), replacement=True)
    assert [d.name for d in soup.decisions] == ["i00", "i01", "i02", "i00", "i01", "i02"]


def test_each_decision_is_told_with_how_many_there_are_and_will_be():
    told = []
    pool = pool_for([0.5, -0.4, 2.0, -3.0], target=0.05)
    soup = greedy(pool, near(0.05), on_decision=lambda d, done, of: told.append((d, done, of)))
    assert told == [(d, n, 3) for n, d in enumerate(soup.decisions[1:], 1)]


class Halves:
    """Sequences `a` and `b`: how near w is to a target, each between 0 and 1."""

    names = ("a", "b")

    def __init__(self, target: float) -> None:
        self.target, self.asked = target, list[str]()

    def opened(self, weights: Mapping[str, Tensor]):
        def score(name: str) -> float:
            self.asked.append(name)
            return max(0.0, 1 - abs(float(weights["w"]) - self.target) / (8 if name == "a" else 4))

        return score

    def total(self, parts: Mapping[str, float]) -> float:
        return (parts["a"] + parts["b"]) / 2

    def at_most(self, parts: Mapping[str, float]) -> float:
        return (parts.get("a", 1.0) + parts.get("b", 1.0)) / 2


class Kept:
    """Parts in memory."""

    def __init__(self) -> None:
        self.parts = dict[tuple[str, ...], dict[str, float]]()

    def read(self, members):
        return dict(self.parts.get(members, {}))

    def write(self, members, parts):
        self.parts[members] = dict(parts)


def halved(pool: list[Ingredient], target: float) -> list[Ingredient]:
    """The pool with the scores that `Halves` gives."""
    of = Halves(target)
    return [
        replace(i, score=of.total({name: of.opened(i.load())(name) for name in of.names}))
        for i in pool
    ]


VALUES = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=8, unique=True)


@given(VALUES, st.integers(-40, 40).map(lambda n: n / 8), st.sampled_from([0.0, 0.03]))
def test_stopping_early_changes_no_decision(values: list[float], target: float, min_delta: float):
    pool = halved(pool_for(values, target), target)
    whole = Halves(target)

    def score(weights: Mapping[str, Tensor]) -> float:
        one = whole.opened(weights)
        return whole.total({name: one(name) for name in whole.names})

    expected = greedy(pool, score, min_delta=min_delta)
    sequences = Halves(target)
    soup = greedy(pool, SetScorer(sequences, Kept()), min_delta=min_delta)
    assert torch.equal(soup.weights["w"], expected.weights["w"])
    assert soup.score == expected.score
    for own, other in zip(soup.decisions, expected.decisions, strict=True):
        assert (own.name, own.accepted, own.score_before) == (
            other.name,
            other.accepted,
            other.score_before,
        )
        assert own.score_with in (None, other.score_with)
        if own.score_with is None:
            told = (other.score_with, own.at_most, own.score_before)
            value, most, before = (number or 0.0 for number in told)
            assert value <= most <= before + min_delta
    stopped = sum(d.score_with is None for d in soup.decisions)
    assert len(sequences.asked) == 2 * (len(pool) - 1) - stopped


def test_a_search_again_and_one_of_a_larger_pool_score_only_what_is_new():
    target, kept = 0.05, Kept()
    pool = halved(pool_for([0.5, -0.4, 2.0, -3.0, 0.1], target), target)
    first = greedy(pool[:4], SetScorer(Halves(target), kept))
    again = Halves(target)
    assert greedy(pool[:4], SetScorer(again, kept)).decisions == first.decisions
    assert again.asked == []
    worse = halved([*pool_for([0.5, -0.4, 2.0, -3.0, 9.0], target)], target)
    extended = Halves(target)
    greedy(worse, SetScorer(extended, kept))
    assert extended.asked == ["a"]  # of the last, which cannot win after it


def test_a_search_that_finds_all_scores_reads_no_candidate():
    target, kept = 0.0, Kept()
    pool = halved(pool_for([1.0, 2.0, 3.0, 4.0], target), target)
    greedy(pool, SetScorer(Halves(target), kept))
    read = list[str]()

    def load(one: Ingredient) -> Mapping[str, Tensor]:
        read.append(one.name)
        return one.load()

    watched = [replace(one, load=partial(load, one)) for one in pool]
    greedy(watched, SetScorer(Halves(target), kept))
    assert read == ["i00"]  # which the soup is of


def test_means_of_several_are_settled_before_they_are_scored_and_a_checkpoint_alone_is_not():
    """Ten is added to each mean, and the target is there: 0 and 1 come nearest as 0, 0, 1."""
    pool, scored = pool_for([0.0, 1.0], target=0.34), list[float]()

    def settle(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"w": weights["w"] + 10}

    def score(weights: Mapping[str, Tensor]) -> float:
        scored.append(float(weights["w"]))
        return -abs(scored[-1] - 10.34)

    soup = greedy(pool, score, replacement=True, settle=settle)
    assert sorted(i.name for i in soup.ingredients) == ["i00", "i00", "i01"]
    assert soup.weights["w"].item() == pytest.approx(10 + 1 / 3)
    assert min(scored) > 10
    assert mean_of([pool[0], pool[0]], settle)["w"].item() == 0.0
    assert greedy(pool[:1], score, settle=settle).weights["w"].item() == 0.0
