"""Test two sweeps that run at once in one storage and need the same teacher and stem."""

import time

import pytest

from orchestrator.tracking.events import Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.integration.conftest import answer, make_sweep
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

FAST = ("soup.after_sweep=false", "data.report=null", "train.steps=2", "train.checkpoint_every=2")


def of(role, ledger):
    return [record for record in ledger.jobs() if record.of(Started)[0].role == role]


def test_the_second_waits_for_what_the_first_trains_and_trains_none_of_it(tmp_path):
    sweep = make_sweep(tmp_path / "two at once")
    ledger = Ledger(sweep.storage)
    with sweep.started("sweep.parameters={train.lr: [1.0e-6]}", *FAST) as first:
        deadline = time.monotonic() + 300
        while not of("teacher", ledger):
            assert time.monotonic() < deadline, "no teacher in 300 s"
            time.sleep(0.1)
        (teacher,) = of("teacher", ledger)
        assert teacher.claimed
        # It trains until the other has started Ray, however slow the machine is.
        done = sweep.run("sweep.parameters={train.lr: [2.0e-6]}", "name=second", *FAST, "--json")
        results = answer(done)
        assert first.wait(timeout=300) == 0, sweep.told.read_text()
    assert "lr=2e-06" in [row["name"] for row in results["rows"]]
    holder = f"waits for sweep {teacher.started().sweep}, which trains it (process "
    assert [line for line in done.stderr.splitlines() if holder in line]
    for role, jobs in (("teacher", 1), ("stem", 1), ("trial", 2)):
        records = of(role, ledger)
        assert len(records) == jobs
        for record in records:
            assert record.state == "done"
            assert len(record.of(Started)) == 1
            assert len(record.checkpoints()) == len({e.sha256 for e in record.checkpoints()})
    client = Connection(locate(sweep.store, sweep.storage), create=False).client
    (tiny,) = client.search_experiments(filter_string="name = 'tiny'")
    keys = [run.data.tags.get("vos.key") for run in client.search_runs([tiny.experiment_id])]
    assert keys.count(teacher.key) == 1
