"""Make what the cases share: a checkpoint of the smallest student."""

from __future__ import annotations

import pytest

from tests.fuzz.tiny_checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Write the checkpoint that the cases segment with."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")
