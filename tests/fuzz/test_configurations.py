"""Test sweep and train --dry-run on files that were edited by hand, well and badly."""

import pytest

from tests.fuzz import configurations
from tests.fuzz.runner import cases, check

pytestmark = pytest.mark.slow


def name_of(index):
    kinds = {"huge": configurations.is_huge, "process": configurations.is_process}
    return "-".join([str(index), *(kind for kind, is_one in kinds.items() if is_one(index))])


@pytest.mark.usefixtures("quick_forecast")
@cases(configurations.COUNT, name_of)
def test_a_dry_run_plans_or_says_in_words_what_is_wrong(index, tmp_path, capfd):
    check(configurations.case(index, tmp_path), capfd)
