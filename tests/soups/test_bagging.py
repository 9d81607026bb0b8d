"""Test bagging against its definition in plain Python, and from a pool to its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orchestrator.config.data import DataConfig
from orchestrator.tracking.events import Souped
from orchestrator.tracking.ledger import JobRecord
from soups import greedy as command
from soups import recipe, records
from soups.bagging import Bag, Bags, bagged
from soups.replay import replay
from soups.scoring import SetScorer
from soups.search import Decision, Ingredient, Rule, Soup, greedy
from soups.sources import from_experiment
from tests.conftest import write_davis
from tests.soups.test_recipe import Kitchen
from tests.soups.test_search import Kept
from tests.stores import WARNING
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore
from vosmodels.types import ScoredVideo

pytestmark = pytest.mark.filterwarnings(WARNING)

FILMS = {"ant": (0.0, 1), "bee": (1.5, 3), "cat": (-2.0, 2)}  # what w should be, and objects
NAMES = tuple(FILMS)
VALUES = st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=1, max_size=7, unique=True)


def score_of(w: float, name: str) -> float:
    return 1 - abs(w - FILMS[name][0]) / 16


def weighted(scores: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """The mean over objects, those of a film as often as it was drawn."""
    rows = [(counts.get(name, 0) * FILMS[name][1], scores[name]) for name in scores]
    return sum(n * score for n, score in rows) / sum(n for n, _ in rows)


class Films:
    """Sequences whose films count as often as a bag says; `asked` is shared by all bags."""

    def __init__(self, counts: Mapping[str, int], asked: list[str]) -> None:
        self.counts, self.asked = counts, asked
        self.names = tuple(name for name in NAMES if counts.get(name))

    def opened(self, weights: Mapping[str, Tensor]) -> Callable[[str], float]:
        def score(name: str) -> float:
            self.asked.append(name)
            return score_of(float(weights["w"]), name)

        return score

    def total(self, parts: Mapping[str, float]) -> float:
        return weighted({name: parts[name] for name in self.names}, self.counts)

    def at_most(self, parts: Mapping[str, float]) -> float:
        return weighted({name: parts.get(name, 1.0) for name in self.names}, self.counts)


class Table:
    """A pool of weights, and a soup of it by draws."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values, self.asked, self.kept = values, list[str](), Kept()
        self.pool = []
        for number, value in enumerate(values):
            weights = {"w": torch.tensor([value], dtype=torch.float64)}
            name = f"i{number:02}"
            self.pool.append(Ingredient(name, name, self.single(value), weights.copy, "stem"))

    def single(self, value: float, counts: Mapping[str, int] | None = None) -> float:
        counts = counts or dict.fromkeys(NAMES, 1)
        return weighted({n: score_of(value, n) for n in NAMES if counts.get(n)}, counts)

    def scorer(self, counts: Mapping[str, int]) -> SetScorer:
        return SetScorer(Films(counts, self.asked), self.kept)

    def soup(self, draws: Sequence[Mapping[str, int]], rule: Rule | None = None) -> Soup:
        bags = [
            Bag(
                {i.sha256: self.single(v, c) for i, v in zip(self.pool, self.values, strict=True)},
                self.scorer(c),
            )
            for c in draws
        ]
        return bagged(self.pool, self.scorer(dict.fromkeys(NAMES, 1)), bags, rule or Rule())

    def by_definition(self, draws: Sequence[Mapping[str, int]]) -> list[int]:
        """The picks of all bags, in plain numbers."""
        picks = []
        for counts in draws:

            def score(members: list[int], counts: Mapping[str, int] = counts) -> float:
                mean = sum(self.values[i] for i in members) / len(members)
                return self.single(mean, counts)

            first, *others = sorted(range(len(self.values)), key=lambda i: (-score([i]), i))
            kept = [first]
            for other in others:
                if score([*kept, other]) > score(kept):
                    kept.append(other)
            picks += kept
        return picks


@given(VALUES, st.integers(1, 4), st.integers(0, 99))
def test_a_soup_of_bags_is_the_mean_of_all_picks_of_the_definition(
    values: list[float], count: int, seed: int
):
    table, draws = Table(values), Bags(count, seed).draw(NAMES)
    soup, picks = table.soup(draws), table.by_definition(draws)
    assert [int(i.name[1:]) for i in soup.ingredients] == picks
    mean = sum(values[i] for i in picks) / len(picks)
    assert soup.weights["w"].item() == mean
    assert soup.score == table.single(mean)
    assert {d.bag for d in soup.decisions} == set(range(1, count + 1))
    accepted = [(d.bag or 0, int(d.name[1:])) for d in soup.decisions if d.accepted]
    assert [i for _, i in accepted] == picks
    assert [bag for bag, _ in accepted] == sorted(bag for bag, _ in accepted)


@given(VALUES)
def test_bags_that_have_every_sequence_once_take_what_greedy_takes(values: list[float]):
    table, every = Table(values), dict.fromkeys(NAMES, 1)
    expected, soup = greedy(table.pool, table.scorer(every)), table.soup([every] * 3)
    names = [i.name for i in expected.ingredients]
    assert [i.name for i in soup.ingredients] == names * 3
    assert torch.equal(soup.weights["w"], expected.weights["w"])
    assert soup.score == expected.score
    for number in (1, 2, 3):
        own = tuple(replace(d, bag=None) for d in soup.decisions if d.bag == number)
        assert own == expected.decisions


@given(VALUES, st.integers(0, 99))
def test_bags_share_the_parts_of_a_set_so_that_none_is_scored_twice(values: list[float], seed: int):
    table = Table(values)
    table.soup(Bags(5, seed).draw(NAMES))
    assert len(table.asked) == sum(len(parts) for parts in table.kept.parts.values())


def test_a_bag_stops_early_and_decides_as_if_it_had_not():
    """Score the hopeless one on the first of a bag of two films alone."""
    table = Table([0.0, 0.25, -5.0])
    soup = table.soup([{"ant": 2, "cat": 1}])
    last = soup.decisions[-1]
    assert (last.name, last.accepted, last.score_with) == ("i02", False, None)
    assert [int(i.name[1:]) for i in soup.ingredients] == table.by_definition(
        [{"ant": 2, "cat": 1}]
    )


@pytest.mark.parametrize("seed", range(8))
def test_workers_make_the_soup_of_one(seed: int):
    values = [float(v) for v in torch.randn(9, generator=torch.Generator().manual_seed(seed))]
    draws = Bags(3, seed).draw(NAMES)
    one, many = Table(values).soup(draws), Table(values).soup(draws, Rule(workers=3))
    assert (one.decisions, one.score) == (many.decisions, many.score)
    assert torch.equal(one.weights["w"], many.weights["w"])


def test_decisions_of_all_bags_are_told_with_how_many_there_are_and_will_be():
    told = list[tuple[Decision, int, int]]()
    rule = Rule(on_decision=lambda *each: told.append(each))
    soup = Table([0.5, -0.4, 2.0, -3.0]).soup(Bags(3, 1).draw(NAMES), rule)
    further = [d for d in soup.decisions if d.score_before is not None]
    assert told == [(d, n, 9) for n, d in enumerate(further, 1)]


def test_a_bag_has_as_many_draws_as_names_and_a_further_bag_changes_none():
    draws = Bags(2000, 7).draw(NAMES)
    assert {sum(counts.values()) for counts in draws} == {3}
    assert Bags(20, 7).draw(NAMES) == draws[:20]
    assert Bags(20, 8).draw(NAMES) != draws[:20]
    for name in NAMES:
        never = sum(not counts[name] for counts in draws) / len(draws)
        assert never == pytest.approx((2 / 3) ** 3, abs=0.04)


def test_one_sequence_is_refused_as_all_bags_of_it_are_the_same():
    with pytest.raises(InputError, match=r"--bag 4: 1 select video, .* leave --bag out"):
        Bags(4).draw(["ant"])


class ByVideo:
    """Scores a video by how near the weight is to a target of its own; counts what it scores."""

    def __init__(self) -> None:
        self.scored = list[tuple[float, str]]()

    def __call__(self, weights: Mapping[str, Tensor]) -> Callable[[ScoredVideo], Scores]:
        w = float(weights["w"])

        def score(video: ScoredVideo) -> Scores:
            self.scored.append((w, video.name))
            value = 1 - abs(w - (sum(map(ord, video.name)) % 7) / 6) / 8
            objects = dict.fromkeys(video.begins, ObjectScore((value,), (value,)))
            return Scores((SequenceScore(video.name, objects),))

        return score


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def cook(
    kitchen: Kitchen,
    score: ByVideo,
    bags: Bags,
    project: Callable[[JobRecord], object] | None = None,
) -> recipe.SoupResult:
    pool = replace(from_experiment(kitchen.reader, "omega"), scored=False)
    assert pool.config is not None
    return recipe.make_soup(
        pool,
        pool.config,
        storage=kitchen.storage,
        project=project or (lambda job: None),
        search=recipe.Search(bags=bags),
        opening=score,
    )


def test_the_record_of_bags_names_picks_as_often_as_they_count_and_is_replayed(
    kitchen: Kitchen, capsys: pytest.CaptureFixture[str]
):
    made = cook(kitchen, ByVideo(), Bags(5), kitchen.tracker.project)
    job = kitchen.ledger.job(made.key)
    (souped,) = job.of(Souped)
    assert (souped.search["bag"], souped.search["bag_seed"]) == (5, 0)
    record = records.find(str(made.path), None)
    times = Counter(member.name for member in record.members)
    assert sum(times.values()) == len(made.ingredients) >= 5
    assert max(times.values()) > 1
    assert len(record.pool) == 3
    accepted = [turn for turn in made.decisions if turn["accepted"]]
    assert [turn["name"] for turn in accepted] == list(made.ingredients)
    assert {turn["bag"] for turn in made.decisions} == {1, 2, 3, 4, 5}
    assert any("it may score below the best single checkpoint" in text for text in made.warnings)
    sound = made.path.read_bytes()
    made.path.unlink()
    assert replay(record).path.read_bytes() == sound
    arguments = [
        "--runs",
        "mlflow:omega",
        "--bag",
        "5",
        "--tracking-uri",
        kitchen.tracker.store.uri,
    ]
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    for text in ("has a soup already", "bag 5: omega=0.0 step 10", "(--bag 5): no search has seen"):
        assert text in out, text


def test_other_bags_are_another_soup(kitchen: Kitchen):
    score = ByVideo()
    keys = {cook(kitchen, score, bags).key for bags in (Bags(2), Bags(3), Bags(2, 1))}
    assert len(keys) == 3
    assert cook(kitchen, score, Bags(2)).existing


def test_bags_of_one_select_video_are_refused_before_it_is_scored(kitchen: Kitchen, tmp_path: Path):
    davis = write_davis(tmp_path / "davis", 2016)  # whose val has one
    pool = replace(from_experiment(kitchen.reader, "omega"), scored=False)
    assert pool.config is not None
    config = pool.config.model_copy(update={"data": DataConfig(root=str(davis))})
    score, before = ByVideo(), len(kitchen.ledger.jobs())
    with pytest.raises(InputError, match="--bag 3: 1 select video"):
        recipe.make_soup(
            pool,
            config,
            storage=kitchen.storage,
            search=recipe.Search(bags=Bags(3)),
            opening=score,
        )
    assert (score.scored, len(kitchen.ledger.jobs())) == ([], before)
