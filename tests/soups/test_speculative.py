"""Test the parallel search against the sequential one, with workers that die."""

from __future__ import annotations

import os
import pickle
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.execution.worker_pool import worker_pool
from soups.scoring import Answer, Members, SetScorer
from soups.search import Ingredient, Soup, greedy
from soups.speculative import LOSSES, Try, _Mean, ahead, one_by_one
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
    """Scores of candidates by name, in one part or several; remembers which were asked for."""

    def __init__(self, scores: Mapping[str, Sequence[float]], known: Sequence[str] = ()) -> None:
        self.scores, self.known = scores, known
        self.asked = list[tuple[str, str]]()
        self.names = [str(n) for n in range(len(next(iter(scores.values()))))]
        self.scorer = SetScorer(self, self)

    def read(self, members: Members) -> dict[str, float]:
        return (
            dict(zip(self.names, self.scores[members[-1]], strict=True))
            if (members[-1] in self.known)
            else {}
        )

    def write(self, members: Members, parts: Mapping[str, float]) -> None:
        pass

    def opened(self, weights: Any) -> Callable[[str], float]:
        def score(name: str) -> float:
            self.asked.append((weights["name"], name))
            return self.scores[weights["name"]][int(name)]

        return score

    def total(self, parts: Mapping[str, float]) -> float:
        return sum(parts.values()) / len(self.names)

    def at_most(self, parts: Mapping[str, float]) -> float:
        return (sum(parts.values()) + len(self.names) - len(parts)) / len(self.names)

    def tries(self, floor: float = 0.5) -> list[Try]:
        names: Any = [{"name": name} for name in self.scores]
        return [Try(each["name"], ("first", each["name"]), floor, each.copy) for each in names]


def alone(**scores: float) -> Table:
    """A table of scores in one part."""
    return Table({name: [score] for name, score in scores.items()})


class Held:
    """Executor whose futures end when the test says so; SPARE more are begun than workers."""

    def __init__(self) -> None:
        self.begun = dict[str, Future[Any]]()
        self._runs = dict[str, Callable[[], Any]]()

    def submit(self, fn, /, sequences, mean, name):
        key = mean.weights()["name"] + ("" if len(sequences.names) == 1 else name)
        self._runs[key] = partial(fn, sequences, mean, name)
        future = self.begun[key] = Future[Any]()
        return future

    def end(self, *keys: str) -> None:
        for key in keys:
            self.begun[key].set_result(self._runs[key]())

    def wait_for(self, *keys: str) -> None:
        while not set(keys) <= set(self.begun):
            time.sleep(1e-4)

    @property
    def cancelled(self) -> set[str]:
        return {key for key, future in self.begun.items() if future.cancelled()}


class Ending(Held):
    """Executor that ends everything as it is given."""

    def submit(self, fn, /, sequences, mean, name):
        future = super().submit(fn, sequences, mean, name)
        self.end(*[key for key, each in self.begun.items() if each is future])
        return future


@contextmanager
def asking(answers: Generator[Answer]) -> Iterator[Future[Answer]]:
    """Ask for the next answer while the test goes on."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(next, answers)


def test_a_winner_ends_what_comes_after_it():
    table = alone(a=0.1, b=0.9, c=0.2, d=0.9, e=0.1)
    answers = ahead(table.scorer, table.tries(), Ending(), 3)
    assert [answer.value for answer in answers] == [0.1, 0.9]
    assert [name for name, _ in table.asked] == ["a", "b"]


def test_what_runs_after_a_winner_is_cancelled_and_before_it_waited_for():
    table, executor = alone(a=0.1, b=0.9, c=0.2, d=0.2), Held()
    answers = ahead(table.scorer, table.tries(), executor, 2)
    with asking(answers) as first:
        executor.wait_for("a", "b", "c")
        executor.end("b")
        while not executor.cancelled:
            time.sleep(1e-4)
        assert executor.cancelled == {"c"}
        executor.end("a")
        assert first.result().value == 0.1
        assert next(answers).value == 0.9
    assert "d" not in executor.begun


def test_the_parts_of_a_try_are_scored_at_the_same_time_and_before_those_of_the_next():
    table, executor = Table({"a": [0.1, 0.2, 0.3], "b": [0.1, 0.1, 0.1]}), Held()
    answers = ahead(table.scorer, table.tries(floor=0.0), executor, 1)
    with asking(answers) as first:
        executor.wait_for("a0", "a1")
        assert list(executor.begun) == ["a0", "a1"]
        executor.end("a1")
        executor.wait_for("a2")
        executor.end("a2")
        executor.wait_for("b0")
        assert list(executor.begun) == ["a0", "a1", "a2", "b0"]
        executor.end("a0")
        assert first.result().value == pytest.approx(0.2)
    answers.close()
    assert "b0" in executor.cancelled


def test_parts_after_the_one_that_stops_a_try_are_cancelled_and_change_no_answer():
    """With part 1 at 0.1 the mean of three is at most 0.7, whatever part 0 is: it decides first."""
    table, executor = Table({"a": [0.9, 0.1, 0.0], "b": [1.0, 1.0, 1.0]}), Held()
    (expected, _) = one_by_one(table.scorer, table.tries(floor=0.7))
    answers = ahead(table.scorer, table.tries(floor=0.7), executor, 2)
    with asking(answers) as first:
        executor.wait_for("a0", "a1", "a2")
        executor.end("a1")
        assert not first.done()
        executor.end("a0")
        assert first.result() == expected == Answer(None, 2.0 / 3)
        assert executor.cancelled == {"a2"}
    answers.close()


def test_the_soup_of_parts_in_any_order_is_that_of_one_worker(threads):
    """200 tables of up to six parts, floors that stop early, and workers that die."""
    stopped = 0
    for seed in range(200):
        rng = random.Random(seed)
        count, best = rng.randint(1, 6), rng.random()
        table = Table({n: [rng.random() for _ in range(count)] for n in "abcdefgh"}, ("c", "f"))
        expected = won(one_by_one(table.scorer, table.tries(best)), best)
        executor = Unreliable(threads, seed, losses=0.02 * (seed % 2))
        assert won(ahead(table.scorer, table.tries(best), executor, rng.randint(2, 9)), best) == (
            expected
        )
        stopped += sum(answer.value is None for answer in expected)
    assert stopped > 100


def won(answers: Generator[Answer], floor: float) -> list[Answer]:
    """Take answers up to the first that wins, as the search does."""
    found = list[Answer]()
    with closing(answers):
        for answer in answers:
            found.append(answer)
            if answer.above(floor):
                break
    return found


def test_closing_the_answers_cancels_what_runs():
    table, executor = alone(a=0.1, b=0.1, c=0.2), Held()
    answers = ahead(table.scorer, table.tries(), executor, 1)
    with asking(answers) as first:
        executor.wait_for("a", "b")
        executor.end("a")
        first.result()
    answers.close()
    assert "b" in executor.cancelled


def test_what_is_known_is_neither_computed_nor_sent():
    table = Table({"a": [0.1], "b": [0.2], "c": [0.3]}, known=("a", "c"))
    tries = table.tries()
    for run in (one_by_one(table.scorer, tries), ahead(table.scorer, tries, Ending(), 2)):
        table.asked.clear()
        assert [answer.value for answer in run] == [0.1, 0.2, 0.3]
        assert table.asked == [("b", "0")]


def test_a_worker_opens_weights_once_for_all_parts_that_it_scores():
    opened = []

    class Counting(Table):
        def opened(self, weights):
            opened.append(weights["name"])
            return super().opened(weights)

    table = Counting({"a": [0.1, 0.2, 0.3], "b": [0.1, 0.1, 0.1]})
    with ThreadPoolExecutor(1) as thread:
        assert len(list(ahead(table.scorer, table.tries(floor=0.3), thread, 2))) == 2
    assert opened == ["a", "b"]


def test_weights_arrive_at_workers_as_they_were():
    weights = {
        "w": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.randn(3).bfloat16(),
        "bn.num_batches_tracked": torch.tensor(7),
        "none": torch.empty(0),
    }
    mean = _Mean(weights)
    read = pickle.loads(pickle.dumps(mean))
    assert read.key == mean.key
    assert read.weights().keys() == weights.keys()
    for key, tensor in read.weights().items():
        assert tensor.dtype == weights[key].dtype
        assert torch.equal(tensor, weights[key])
    assert read._weights is None  # they are held by what was opened with them alone


def test_a_try_of_which_workers_die_again_and_again_is_named(threads):
    table, executor = alone(a=0.1), Unreliable(threads, 0, losses=1.0)
    with pytest.raises(InputError, match=rf"a: {LOSSES} processes died .*\(killed\); .*fewer"):
        list(ahead(table.scorer, table.tries(), executor, 1))
    assert executor.died == LOSSES


class Failing(Table):
    """A table that cannot read what it is told."""

    def opened(self, weights):
        score = super().opened(weights)

        def fails(name: str) -> float:
            if weights["name"] + name in self.bad:
                raise InputError(f"{weights['name'] + name} cannot be read")
            return score(name)

        return fails

    bad: tuple[str, ...] = ("c0",)


def test_an_error_counts_only_where_the_search_comes_to_it(threads):
    """A sequential search would not score what comes after an acceptance."""
    table = Failing({"a": [0.1], "b": [0.2], "c": [0.3]})
    answers = ahead(table.scorer, table.tries(), Unreliable(threads, 0), 3)
    assert [next(answers).value for _ in range(2)] == [0.1, 0.2]
    with pytest.raises(InputError, match="c0 cannot be read"):
        next(answers)


@pytest.mark.parametrize(("bad", "told"), [("a2", False), ("a1", True)])
def test_an_error_of_a_part_counts_only_where_one_worker_would_score_it(threads, bad, told):
    """Stop one worker at the second of three parts."""
    table = Failing({"a": [0.1, 0.1, 0.9]})
    table.bad = (bad,)
    answers = ahead(table.scorer, table.tries(floor=0.5), Unreliable(threads, 0), 3)
    if told:
        with pytest.raises(InputError, match="a1 cannot be read"):
            next(answers)
    else:
        assert next(answers) == Answer(None, table.at_most({"0": 0.1, "1": 0.1}))
