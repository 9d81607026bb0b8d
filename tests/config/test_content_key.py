"""Test what content keys depend on, and which values have none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import canonical, digest, sweep_id
from orchestrator.config.models import StudentConfig

GRID = {"loss.omega": [0.0, 1.0]}


def sweep(**changes: Any) -> SweepConfig:
    return SweepConfig.model_validate({"name": "s", "sweep": {"parameters": GRID}, **changes})


def test_a_sweep_is_known_by_what_it_learns_not_by_what_varies_or_where_it_runs():
    same = sweep_id(sweep())
    for changes in (
        {"sweep": {"parameters": {"loss.omega": [0.0, 0.5, 1.0]}}},
        {"sweep": {"parameters": GRID, "seeds": 2}},
        {"cluster": {"threads": 1}},
        {"storage": "/elsewhere"},
        {"tracking": {"uri": "sqlite:////x.db"}},
        {"stem": {"lr": 1e-4}},  # what null means here
    ):
        assert sweep_id(sweep(**changes)) == same, changes
    for other in (
        {"seed": 1},
        {"loss": {"tau": 0.2}},
        {"data": {"select_stride": 1}},
        {"name": "other"},
    ):
        assert sweep_id(sweep(**other)) != same, other


def test_canonical_text_does_not_depend_on_the_order_of_keys():
    assert canonical({"b": 1, "a": [1.0, None]}) == '{"a":[1.0,null],"b":1}'
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({"a": 2}) != digest({"a": 2.5})
    assert len(digest("")) == 16
    assert canonical(StudentConfig()) == canonical(StudentConfig().model_dump())


def test_canonical_refuses_what_has_no_one_text():
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(math.nan)
    with pytest.raises(TypeError, match=r"set \{1\}"):
        canonical({1})
