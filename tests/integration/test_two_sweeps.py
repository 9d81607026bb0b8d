"""Test two sweeps that run at once in one storage and need the same teacher and stem."""

import os
import shutil
import signal
import time

import pytest

from orchestrator.tracking.events import Started
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.integration.conftest import Sweep, jobs, make_sweep
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

FAST = ("soup.after_sweep=false", "data.report=null", "train.steps=2", "train.checkpoint_every=2")


def wait_until(true, what):
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within 300 s"
        time.sleep(0.1)


def test_the_second_waits_for_what_the_first_trains_and_trains_none_of_it(tmp_path):
    one = make_sweep(tmp_path / "two at once")
    two = Sweep(one.file.with_name("two.yaml"), one.storage)
    shutil.copy(one.file, two.file)
    with one.started("sweep.parameters={train.lr: [1.0e-6]}", *FAST) as first:
        wait_until(lambda: jobs(one, "teacher"), "a teacher")
        (teacher,) = jobs(one, "teacher")
        holder = teacher.holder
        os.kill(holder, signal.SIGSTOP)  # the second sweep has time to start
        line = f"waits for sweep {teacher.started().sweep}, which trains it (process {holder} on "
        words = ("sweep.parameters={train.lr: [2.0e-6]}", "name=second", *FAST)
        with two.started(*words) as second:
            try:
                wait_until(lambda: line in two.told.read_text() or second.poll(), line)
            finally:
                os.kill(holder, signal.SIGCONT)
            assert second.wait(timeout=300) == 0, two.told.read_text()
        assert first.wait(timeout=300) == 0, one.told.read_text()
    assert line in two.told.read_text()
    for role, count in (("teacher", 1), ("stem", 1), ("trial", 2)):
        records = jobs(one, role)
        assert len(records) == count
        for record in records:
            assert record.state == "done"
            assert len(record.of(Started)) == 1
    client = Connection(locate(one.store, one.storage), create=False).client
    (tiny,) = client.search_experiments(filter_string="name = 'tiny'")
    keys = [run.data.tags.get("vos.key") for run in client.search_runs([tiny.experiment_id])]
    assert keys.count(teacher.key) == 1
