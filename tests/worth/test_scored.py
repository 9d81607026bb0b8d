"""Test that rows are scored as their networks are, once, and their cost is measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.config.data import DataConfig
from orchestrator.config.models import StudentConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer
from orchestrator.tracking.storage import Storage
from soups.average import NoMean
from soups.worth import scored
from soups.worth.entrants import Entrant
from soups.worth.scored import RowScorer
from tests.conftest import write_davis
from tests.model_tools import any_filled
from vosmodels import checkpoint
from vosmodels.errors import InputError
from vosmodels.evaluation.runner import evaluate
from vosmodels.inference.ensemble import View
from vosmodels.model import VideoModel

STUDENT = StudentConfig(name="mobilevos_mobilenetv2")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RowScorer:
    """Copies one network for every row: building one takes several times as long."""
    prototype = any_filled(STUDENT.name)

    def copied(config: StudentConfig, weights: Mapping[str, Tensor]) -> VideoModel:
        network = copy.deepcopy(prototype)
        network.load_state_dict(dict(weights))
        return network

    monkeypatch.setattr(scored, "student_of", copied)
    data = DataConfig(root=str(write_davis(tmp_path / "davis", 2016)), select_height=32)
    return RowScorer(
        Scorer(Storage(tmp_path / "storage"), ScoringProtocol.for_select(data)), STUDENT, threads=1
    )


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the evaluations that are run for rows."""
    counted: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        counted.append(1)
        return evaluate(*args, **options)

    monkeypatch.setattr(scored, "evaluate", counting)
    return counted


def test_a_row_of_the_content_of_a_checkpoint_takes_its_scores(rows: RowScorer, runs: list[int]):
    network = any_filled(STUDENT.name)
    own = network.state_dict()
    info = checkpoint.CheckpointInfo.of(network, ancestor="stem", step=1)
    _, sha256 = checkpoint.write(rows.scorer.storage.checkpoints, own, info)
    single = rows.score(Entrant("best", "best", [lambda: own], sha256=sha256))
    assert single == rows.scorer.known(sha256)
    assert rows.score(Entrant("uniform", "same weights", [lambda: own])) == single
    assert runs == []  # the scorer ran the checkpoint, and nothing ran for its twin


@pytest.mark.slow
def test_other_weights_and_views_are_known_by_their_content(rows: RowScorer, runs: list[int]):
    own = any_filled(STUDENT.name).state_dict()
    single = rows.score(Entrant("best", "best", [lambda: own]))
    runs.clear()
    other = {
        key: value + 0.01 if value.is_floating_point() else value for key, value in own.items()
    }
    mean = Entrant("uniform", "other weights", [lambda: other])
    first = rows.score(mean)
    assert len(runs) == 1
    assert rows.score(mean).jf == first.jf
    assert len(runs) == 1
    flip = Entrant("flip", "", [lambda: own], views=(View(), View(flipped=True)))
    twins = Entrant("all", "", [lambda: own, lambda: own])
    assert rows.score(twins).jf == pytest.approx(single.jf, abs=1e-3)
    assert rows.score(flip).jf != rows.score(twins).jf
    assert len(runs) == 3


def test_rows_are_scored_and_timed_on_the_threads_that_are_given(
    rows: RowScorer, monkeypatch: pytest.MonkeyPatch
):
    ran: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        ran.append(torch.get_num_threads())
        return evaluate(*args, **options)

    monkeypatch.setattr(scored, "evaluate", counting)
    three = RowScorer(rows.scorer, STUDENT, threads=3)
    load = any_filled(STUDENT.name).state_dict
    flip = Entrant("flip", "", [load], views=(View(), View(flipped=True)))
    three.score(flip)
    torch.set_num_threads(1)
    three.cost(flip)
    assert ran == [3, 3, 3]  # a row, then it and a single network on a few frames


@pytest.mark.slow
def test_the_cost_of_two_networks_is_about_that_of_two(rows: RowScorer, runs: list[int]):
    own = any_filled(STUDENT.name).state_dict()
    cost = rows.cost(Entrant("all", "", [lambda: own] * 3))
    assert 1.2 < cost < 10  # 3, on a quiet machine
    assert len(runs) == 2


def test_averages_that_cannot_be_made_are_named(rows: RowScorer):
    def fails() -> dict[str, torch.Tensor]:
        raise NoMean("seed 3: w: integers differ")

    with pytest.raises(InputError, match="the uniform soup: cannot be averaged: seed 3: w"):
        rows.score(Entrant("uniform", "the uniform soup", [fails]))
