"""Test the orders in which ingredients are tried."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from soups.order import Order


@dataclass(frozen=True)
class Item:
    sha256: str
    score: float = 0.5
    step: int = 10


def names(order: Order, *items: Item) -> list[str]:
    return [item.sha256 for item in order.sort(items)]


def test_the_best_and_the_latest_come_first_and_ties_go_by_sha256():
    items = Item("d", 0.4, 30), Item("c", 0.5, 10), Item("b", 0.5, 10), Item("a", 0.3, 30)
    assert names(Order("score"), *items) == ["b", "c", "d", "a"]
    assert names(Order("step"), *items) == ["d", "a", "b", "c"]


def test_a_random_order_depends_on_the_seed_and_not_on_the_pool():
    items = [Item(str(n)) for n in range(9)]
    order = names(Order("random", 3), *items)
    assert names(Order("random", 3), *reversed(items)) == order
    assert names(Order("random", 4), *items) != order
    assert names(Order("random", 3), *items[::2]) == [name for name in order if int(name) % 2 == 0]


@pytest.mark.parametrize("text", ["score", "step", "random:0", "random:12"])
def test_an_order_reads_what_it_writes(text: str):
    assert str(Order.of(text)) == text


def test_random_is_that_of_seed_0():
    assert Order.of("random") == Order("random", 0)


@pytest.mark.parametrize("text", ["", "best", "score:1", "random:", "random:-1", "random:x"])
def test_other_words_are_refused_with_those_that_are_known(text: str):
    with pytest.raises(ValueError, match="score, step, random or random:SEED"):
        Order.of(text)
