"""Test the commands that read a dataset on folders as people keep them."""

import pytest

from orchestrator.execution import forecast
from tests.fuzz import datasets
from tests.fuzz.runner import check

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("index", range(datasets.COUNT))
def test_a_folder_is_read_right_or_refused_in_words(index, tmp_path, tiny, capfd, monkeypatch):
    # The processes alone time real steps.
    monkeypatch.setattr(forecast, "step_seconds", lambda job, train: 0.1)
    monkeypatch.setattr(forecast, "pixel_seconds", lambda job: 1e-6)
    check(datasets.case(index, tmp_path, tiny), capfd)
