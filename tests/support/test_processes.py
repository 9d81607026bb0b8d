"""Test that helper processes end with the process they work for."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vosmodels.support.processes import helpers

PARENT = """
import os, sys, time
from vosmodels.support.processes import helpers
if __name__ == "__main__":
    with helpers(1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def gone(process: int, within: float = 20.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_process_leaves_no_helper_behind(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert gone(helper)


def test_an_error_does_not_wait_for_what_helpers_are_doing():
    with pytest.raises(KeyboardInterrupt), helpers(1) as pool:
        helper = pool.submit(os.getpid).result()
        busy = pool.submit(time.sleep, 600)
        while not busy.running():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert gone(helper)


def test_helpers_leave_an_interrupt_to_the_process_they_work_for():
    with helpers(1) as pool:
        helper = pool.submit(os.getpid).result()
        os.kill(helper, signal.SIGINT)
        assert pool.submit(os.getpid).result() == helper
    assert gone(helper)
