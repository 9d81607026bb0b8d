"""Test the parallel search against the sequential one, with workers that die."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.execution.worker_pool import worker_pool
from soups.scoring import Answer
from soups.search import Ingredient, Soup, greedy
from soups.speculative import LOSSES, Try, ahead, one_by_one
from vosmodels.errors import InputError


class Unreliable:
    """Threads that take their time, and of which some die."""

    def __init__(self, threads: ThreadPoolExecutor, seed: int, losses: float = 0.0) -> None:
        self._threads, self._random, self._losses = threads, random.Random(seed), losses
        self.died = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        dies, wait_s = self._random.random() < self._losses, self._random.random() * 2e-4
        self.died += dies

        def run() -> Any:
            time.sleep(wait_s)
            if dies:
                raise BrokenExecutor("killed")
            return fn(*args)

        return self._threads.submit(run)


def pool_of(rng: random.Random) -> list[Ingredient]:
    """Up to 12 checkpoints with two weights near a target, which the best are nearer to."""
    pool = []
    for number in range(rng.randint(1, 12)):
        weights = {"w": torch.tensor([rng.gauss(0, 1), rng.gauss(0, 1)])}
        sha256 = f"{rng.random()}"
        pool.append(Ingredient(str(number), sha256, nearness(weights), weights.copy, "s"))
    return pool


def nearness(weights) -> float:
    return -float(weights["w"].double().square().sum())


def facts(soup: Soup) -> tuple[Any, ...]:
    names = [ingredient.name for ingredient in soup.ingredients]
    return names, soup.decisions, soup.score, soup.weights["w"].tolist()


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_the_soup_of_200_pools_is_that_of_one_worker_also_where_workers_die(threads):
    accepted = died = 0
    for seed in range(200):
        rng = random.Random(seed)
        pool = pool_of(rng)
        expected = greedy(pool, nearness)
        executor = Unreliable(threads, seed, losses=0.05 * (seed % 2))
        soup = greedy(pool, nearness, workers=rng.randint(2, 5), executor=executor)
        assert facts(soup) == facts(expected)
        accepted += len(soup.ingredients) - 1
        died += executor.died
    assert accepted > 100
    assert died > 20


@dataclass(frozen=True)
class Deadly:
    """Scores as `nearness`, but the first process to score dies, and leaves a file."""

    left: Path

    def __call__(self, weights) -> float:
        if not self.left.exists():
            self.left.touch()
            os._exit(1)
        return nearness(weights)


@pytest.mark.slow
def test_a_search_on_ray_scores_the_candidate_of_a_killed_process_again(tmp_path: Path):
    pool = pool_of(random.Random(5))
    assert len(pool) > 3
    with worker_pool(2) as executor:
        soup = greedy(pool, Deadly(tmp_path / "left"), workers=2, executor=executor)
    assert (tmp_path / "left").exists()
    assert facts(soup) == facts(greedy(pool, nearness))


def test_workers_are_threads_where_no_executor_is_given():
    pool = pool_of(random.Random(5))
    assert facts(greedy(pool, nearness, workers=3)) == facts(greedy(pool, nearness))


class Table:
    """Scores by the name of the last member; remembers which were asked for."""

    def __init__(self, scores: dict[str, float], known: tuple[str, ...] = ()) -> None:
        self.scores, self._known = scores, known
        self.asked = list[str]()

    def known(self, members, floor):
        return Answer.of(self.scores[members[-1]]) if members[-1] in self._known else None

    def answer(self, weights, members, floor):
        self.asked.append(members[-1])
        return Answer.of(self.scores[members[-1]])

    def tries(self, floor: float = 0.5) -> list[Try]:
        return [Try(name, ("first", name), floor, dict) for name in self.scores]


class Held:
    """Executor whose futures end when the test says so."""

    def __init__(self) -> None:
        self.futures = dict[str, Future[Answer]]()

    def submit(self, fn, /, weights, members, floor):
        future = self.futures[members[-1]] = Future()
        future.answer = lambda: future.set_result(fn(weights, members, floor))  # type: ignore
        return future

    def end(self, name: str) -> None:
        self.futures[name].answer()  # type: ignore


class Ending(Held):
    """Executor that ends everything as it is given."""

    def submit(self, fn, /, weights, members, floor):
        future = super().submit(fn, weights, members, floor)
        self.end(members[-1])
        return future


def test_a_winner_ends_what_comes_after_it():
    table = Table({"a": 0.1, "b": 0.9, "c": 0.2, "d": 0.9, "e": 0.1})
    answers = ahead(table, table.tries(), Ending(), 3)
    assert [next(answers).value for _ in range(2)] == [0.1, 0.9]
    assert table.asked == ["a", "b"]


def test_what_runs_after_a_winner_is_cancelled_and_before_it_waited_for():
    table, executor = Table({"a": 0.1, "b": 0.9, "c": 0.2, "d": 0.2}), Held()
    answers = ahead(table, table.tries(), executor, 3)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(next, answers)
        while len(executor.futures) < 3:
            time.sleep(1e-4)
        executor.end("b")
        while not executor.futures["c"].cancelled():
            time.sleep(1e-4)
        assert not executor.futures["a"].done()
        executor.end("a")
        assert first.result().value == 0.1
        assert next(answers).value == 0.9
    assert "d" not in executor.futures


def test_closing_the_answers_cancels_what_runs():
    table, executor = Table({"a": 0.1, "b": 0.1, "c": 0.2}), Held()
    answers = ahead(table, table.tries(), executor, 2)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(next, answers)
        while len(executor.futures) < 2:
            time.sleep(1e-4)
        executor.end("a")
        first.result()
    answers.close()
    assert executor.futures["b"].cancelled()


def test_what_is_known_is_neither_computed_nor_sent():
    table = Table({"a": 0.1, "b": 0.2, "c": 0.3}, known=("a", "c"))
    for run in (one_by_one(table, table.tries()), ahead(table, table.tries(), Ending(), 2)):
        table.asked.clear()
        assert [answer.value for answer in run] == [0.1, 0.2, 0.3]
        assert table.asked == ["b"]


def test_a_try_of_which_workers_die_again_and_again_is_named(threads):
    table, executor = Table({"a": 0.1, "b": 0.1}), Unreliable(threads, 0, losses=1.0)
    with pytest.raises(InputError, match=rf"a: {LOSSES} processes died .*\(killed\); .*fewer"):
        list(ahead(table, table.tries(), executor, 1))
    assert executor.died == LOSSES


def test_an_error_counts_only_where_the_search_comes_to_it(threads):
    """A sequential search would not score what comes after an acceptance."""

    class Failing(Table):
        def answer(self, weights, members, floor):
            if members[-1] == "c":
                raise InputError("c cannot be read")
            return super().answer(weights, members, floor)

    table = Failing({"a": 0.1, "b": 0.2, "c": 0.3})
    answers = ahead(table, table.tries(), Unreliable(threads, 0), 3)
    assert [next(answers).value for _ in range(2)] == [0.1, 0.2]
    with pytest.raises(InputError, match="c cannot be read"):
        next(answers)
