"""Make what the cases share: a checkpoint of the smallest student."""

from __future__ import annotations

from unittest.mock import create_autospec

import pytest

from orchestrator.execution import forecast
from tests.fuzz.tiny_checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Write the checkpoint that the cases segment with."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture
def quick_forecast(monkeypatch):
    """Let a dry run time nothing: only the cases that are processes take real steps."""
    for name, seconds in (("step_seconds", 0.1), ("pixel_seconds", 1e-6)):
        probe = create_autospec(getattr(forecast, name), return_value=seconds)
        monkeypatch.setattr(forecast, name, probe)
