"""Test what a further trial costs the driver, in a sweep of many stubbed trials on Ray."""

import pytest

from tests.integration.conftest import answer, command

pytestmark = [pytest.mark.slow, pytest.mark.soak]

TRIALS = 60  # 200 were measured by the same program: 0.2 MiB each
BEGUN = 20  # trials after which all libraries are loaded
MIB = 1.0  # of memory that a further trial may keep
SLOWER = 3.0  # times the time of an earlier trial that a later one may take, on a machine in use


def test_memory_and_time_of_a_further_trial_do_not_grow_with_those_done(tmp_path):
    told = answer(command("tests.integration.many_trials", str(TRIALS), str(tmp_path), timeout=900))
    assert told["failures"] == 0
    assert not told["left"]
    middle = (BEGUN + TRIALS) // 2
    seconds, mib = {}, {}
    for done in (BEGUN, middle, TRIALS):
        seconds[done], _, mib[done], *_ = next(x for x in told["looks"] if x[1] >= done)
    end = told["looks"][-1]
    assert (end[2] - mib[BEGUN]) / (TRIALS - BEGUN) < MIB
    earlier, later = seconds[middle] - seconds[BEGUN], seconds[TRIALS] - seconds[middle]
    assert later < SLOWER * earlier
