"""Test the search by Optuna: what it asks, what an interruption changes, and whether it finds."""

import math
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import SweepConfig
from orchestrator.planning.search import Study
from orchestrator.planning.trials import places

SPACE: dict[str, Any] = {
    "loss.omega": {"uniform": [0, 1]},
    "loss.tau": {"loguniform": [0.01, 10]},
    "loss.sampling": ["boundary", "random", "all"],
}


def config(most=20, space=SPACE, search="optuna", seed=0):
    section = {"parameters": space, "search": search, "max_trials": most}
    return SweepConfig.model_validate({"name": "s", "seed": seed, "sweep": section})


def hill(values):
    """A score of at most 1, at omega 0.7, tau 0.3 and `all`."""
    far = (values["loss.omega"] - 0.7) ** 2 + (math.log10(values["loss.tau"] / 0.3) / 3) ** 2
    return 1 - far - 0.2 * (values["loss.sampling"] != "all")


def searched(study, count):
    found = []
    for _ in range(count):
        asked = study.ask()
        study.tell(asked.number, hill(asked.values))
        found.append(hill(asked.values))
    return found


def test_an_interrupted_search_asks_what_an_unbroken_one_asks(tmp_path: Path):
    unbroken = Study(tmp_path / "a", config())
    searched(unbroken, 12)
    for _ in range(4):  # the process ends after every third trial
        searched(Study(tmp_path / "b", config()), 3)
    other = Study(tmp_path / "b", config())
    assert [asked.values for asked in other.asked] == [asked.values for asked in unbroken.asked]


def test_a_place_without_an_answer_is_known_after_a_restart(tmp_path: Path):
    study = Study(tmp_path / "a", config())
    searched(study, 2)
    lost = study.ask()
    again = Study(tmp_path / "a", config())
    assert [asked.answered for asked in again.asked] == [True, True, False]
    assert again.asked[-1].values == lost.values
    again.tell(lost.number, 0.5)
    assert all(asked.answered for asked in again.asked)


def test_values_lie_in_their_ranges_and_choices_come_back_as_they_were_written(tmp_path: Path):
    space = {**SPACE, "loss.attention_pairs": [None, [[1, 1, 1.0]]], "loss.boundary_width": [1, 2]}
    space["train.batch_size"] = {"uniform": [1, 4]}
    study = Study(tmp_path / "a", config(space=space))
    for _ in range(10):
        values = study.ask().values
        assert 0 <= values["loss.omega"] <= 1
        assert 0.01 <= values["loss.tau"] <= 10
        assert values["loss.attention_pairs"] in (None, [[1, 1, 1.0]])
        assert values["train.batch_size"] in (1, 2, 3, 4)
        assert type(values["train.batch_size"]) is int


def test_a_stopped_trial_is_answered_and_may_still_come_to_its_end(tmp_path: Path):
    study = Study(tmp_path / "a", config())
    asked = study.ask()
    study.tell_stopped(asked.number, [(10, 0.3), (20, 0.4)])
    study.tell_stopped(asked.number, [(10, 0.3), (20, 0.4)])
    assert study.asked[0].answered
    study.tell(asked.number, 0.9)


def test_a_refused_place_is_none_that_was_asked_for(tmp_path: Path):
    study = Study(tmp_path / "a", config())
    study.refuse(study.ask().number)
    assert study.asked == []
    assert study.ask().number == 1


def test_other_ranges_are_another_search(tmp_path: Path):
    searched(Study(tmp_path / "a", config()), 2)
    narrow = {**SPACE, "loss.omega": {"uniform": [0.5, 1]}}
    assert Study(tmp_path / "a", config(space=narrow)).asked == []
    assert len(Study(tmp_path / "a", config(most=50)).asked) == 2  # a larger budget is the same


def test_looking_at_a_search_begins_none_and_writes_nothing(tmp_path: Path):
    path = tmp_path / "a"
    assert Study.begun(path, config()) is None
    assert not path.exists()
    searched(Study(path, config()), 2)
    before = path.read_bytes()
    seen = Study.begun(path, config(most=50))
    assert seen is not None
    assert len(seen.asked) == 2
    narrow = {**SPACE, "loss.omega": {"uniform": [0.5, 1]}}
    assert Study.begun(path, config(space=narrow)) is None
    assert path.read_bytes() == before


@pytest.mark.slow
def test_it_finds_more_than_random_draws_of_the_same_number(tmp_path: Path):
    """Means over 20 seeds; fixed seeds, so the figures are the same on every machine."""
    best: dict[str, list[float]] = {"optuna": [], "random": []}
    for seed in range(20):
        study = Study(tmp_path / f"{seed}", config(most=30, seed=seed))
        best["optuna"].append(max(searched(study, 30)))
        drawn = places(config(most=30, search="random", seed=seed))
        best["random"].append(max(map(hill, drawn)))
    shortfall = {name: 1 - sum(found) / 20 for name, found in best.items()}
    assert shortfall["optuna"] < 0.5 * shortfall["random"], shortfall
