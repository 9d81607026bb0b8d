"""Test the hints: which key a person may have meant, and in which section."""

from __future__ import annotations

import pytest

from orchestrator.config import RunConfig
from orchestrator.config.document import with_keys
from orchestrator.config.errors import meant, section_at, unknown_key
from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig


def test_section_at_walks_down_the_schema():
    assert section_at(RunConfig, ()) is RunConfig
    assert section_at(RunConfig, ("loss",)) is LossConfig
    assert section_at(RunConfig, ("loss", "omega")) is None
    assert section_at(RunConfig, ("nothing",)) is None


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("train.stepz", "unknown key; did you mean 'steps'?"),
        ("train.LR", "unknown key; did you mean 'lr'?"),
        ("train.omega", "unknown key; did you mean 'loss.omega'?"),
        ("los.omega", "unknown key; did you mean 'loss'?"),
        ("train.lr.x", "unknown key; 'train.lr' is a value, not a section"),
        ("qqqqq", "unknown key"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_one(path: str, told: str):
    assert unknown_key(RunConfig, tuple(path.split("."))) == told


def test_nothing_near_is_no_hint():
    assert meant("zzz", TrainConfig.model_fields) == ""


def test_with_keys_sets_dotted_keys_in_a_copy():
    before = {"a": {"b": 1, "c": 2}, "d": 3}
    assert with_keys(before, {"a.b": 9, "e.f": 4, "d": {}}) == {
        "a": {"b": 9, "c": 2},
        "d": {},
        "e": {"f": 4},
    }
    assert before == {"a": {"b": 1, "c": 2}, "d": 3}
