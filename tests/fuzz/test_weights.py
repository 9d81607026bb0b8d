"""Test the commands that read weights on files of every kind, sound and damaged."""

import pytest

from tests.fuzz import weights
from tests.fuzz.runner import cases, check
from tests.stores import WARNING, empty_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]


@pytest.mark.usefixtures("quick_forecast")
@cases(weights.COUNT)
def test_weights_are_loaded_right_or_refused_in_words(index, tmp_path, capfd):
    case = weights.case(index, tmp_path)
    empty_store(case.work / "results")  # making one takes seconds
    check(case, capfd)
