"""Test a search by Optuna with early stopping on Ray, killed in the middle."""

import os
import signal
import time

import pytest

from orchestrator.tracking.ledger import Ledger
from tests.integration.conftest import Sweep, answer
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

SEARCH = """
name: tiny
data: {select_height: 48, select_stride: 6, max_objects: 1}
student: {name: mobilevos_mobilenetv2_noaspp}
loss: {logit: 0.0, representation: 0.0, dice: 1.0}
stem: {steps: 2}
train: {steps: 3, checkpoint_every: 1, batch_size: 2, clip_length: 3, crop: 64}
sweep:
  parameters: {train.lr: {loguniform: [1.0e-6, 1.0e-2]}, loss.dice: [0.5, 1.0]}
  search: optuna
  scheduler: asha
  max_trials: 4
  reduction: 2
soup: {after_sweep: false}
cluster: {retries: 0, threads: 1}
"""


def trials(sweep):
    ledger = Ledger(sweep.storage)
    starts = [(job, job.started()) for job in ledger.jobs()]
    return {start.name: job for job, start in starts if start and start.role == "trial"}


def test_a_search_that_was_killed_goes_on_and_grows(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(SEARCH)
    sweep = Sweep(file, tmp_path / "results")
    with sweep.started() as process:
        ends = time.monotonic() + 300
        while not any(job.scores() for job in trials(sweep).values()):
            assert time.monotonic() < ends, sweep.told.read_text()
            assert process.poll() is None, sweep.told.read_text()
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
    first = set(trials(sweep))
    rows = answer(sweep.run("--json"))["rows"]
    assert first <= {row["name"] for row in rows}
    found = trials(sweep)
    assert len(found) == 4
    assert {job.state for job in found.values()} == {"done", "stopped"}
    for name, job in found.items():
        assert [step for step, _ in job.scores()] == list(range(1, len(job.scores()) + 1)), name
        if stopped := job.stopped():
            assert (stopped.at, stopped.why) == (job.scores()[-1][0], "asha")
            assert stopped.at < 3
    notes = {row["name"]: row["note"] for row in rows if row["role"] == "trial"}
    assert set(notes) == set(found)
    for name, job in found.items():
        assert notes[name].startswith("stopped by asha at step") is (job.state == "stopped")
    answer(sweep.run("--json", "sweep.max_trials=5"))
    assert set(found) < set(trials(sweep))
    assert len(trials(sweep)) == 5
