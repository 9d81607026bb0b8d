"""Test the commands that read a dataset on folders as people keep them."""

import pytest

from tests.fuzz import datasets
from tests.fuzz.runner import cases, check

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("quick_forecast")
@cases(datasets.COUNT)
def test_a_folder_is_read_right_or_refused_in_words(index, tmp_path, tiny, capfd):
    check(datasets.case(index, tmp_path, tiny), capfd)
