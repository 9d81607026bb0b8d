"""Test what a sweep says of trials that are new since its last run."""

import json
import os

import pytest

from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import resolve
from orchestrator.execution import last_run
from orchestrator.execution.last_run import new_trials
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.planning.test_plan import config

OMEGA = {"parameters": {"loss.omega": [0.0, 1.0]}}


def told(storage, /, threads=1, **sections):
    """Return what a run says; it then saves its record, as the sweep does."""
    made = located(resolve(config(**sections)))
    plan = plan_sweep(made, sweep_id(made), threads)
    line = new_trials(plan, made, storage)
    last_run.save(made, storage, plan.sweep, threads, plan.trials)
    return line


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path)


def test_a_first_run_and_the_same_run_again_say_nothing(storage):
    assert told(storage) is None
    assert told(storage) is None
    assert told(storage, data={"report": "test"}, cluster={"retries": 3}) is None


def test_a_changed_value_is_told_with_what_it_was(storage):
    told(storage)
    assert told(storage, train={"lr": 0.0005}) == (
        "2 trials are new (omega=0.0, omega=1.0): train.lr 0.0001 -> 0.0005 "
        "since the last run of this file"
    )


def test_what_shapes_no_trial_is_not_told_beside_what_does(storage):
    told(storage, storage="/a", cluster={"retries": 1}, stem={"steps": 5})
    line = told(storage, storage="/b", cluster={"retries": 2}, stem={"steps": 6})
    assert line is not None
    assert "): stem.steps 5 -> 6 since" in line


def test_the_rate_of_the_stem_is_told_where_it_is_not_the_trials(storage):
    told(storage, stem={}, train={"lr": 0.001})
    line = told(storage, stem={}, train={"lr": 0.002})
    assert line is not None
    assert "): train.lr 0.001 -> 0.002 since" in line
    line = told(storage, stem={"lr": 0.5}, train={"lr": 0.002})
    assert line is not None
    assert "): stem.lr 0.002 -> 0.5 since" in line


def test_a_longer_grid_tells_its_new_trials_alone(storage):
    told(storage)
    assert told(storage, sweep={"parameters": {"loss.omega": [0.0, 0.5, 1.0]}}) == (
        "1 trial is new (omega=0.5): sweep.parameters.loss.omega [0.0, 1.0] -> [0.0, 0.5, 1.0] "
        "since the last run of this file"
    )


def test_a_key_that_was_not_swept_before_is_told(storage):
    told(storage)
    line = told(storage, sweep={"parameters": {"loss.omega": [0.0], "loss.tau": [0.2]}})
    assert line is not None
    assert "sweep.parameters.loss.omega [0.0, 1.0] -> [0.0], " in line
    assert "sweep.parameters.loss.tau nothing -> [0.2] since" in line


def test_trials_that_waited_since_the_last_run_are_not_new(storage):
    """They have no line in the ledger, yet the last run planned them."""
    told(storage)
    line = told(storage, sweep={"parameters": {"loss.omega": [0.0, 1.0, 0.3]}})
    assert line is not None
    assert line.startswith("1 trial is new (omega=0.3)")


def test_another_number_of_threads_is_told(storage):
    told(storage)
    assert "): cluster.threads 1 -> 2 since" in str(told(storage, threads=2))


def test_new_keys_without_another_value_are_told_as_other_files(storage):
    told(storage)
    (path,) = storage.sweeps.glob("*.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "trials": {"f" * 16: "omega=0.0"}}))
    assert "no value has changed since the last run of this file; files of the data" in str(
        told(storage)
    )


def test_a_trial_that_another_sweep_trained_is_not_new(storage):
    told(storage)
    made = located(resolve(config(train={"lr": 0.0005})))
    plan = plan_sweep(made, sweep_id(made), 1)
    record = Ledger(storage.root).job(plan.trials[0].key)
    with record.claim():
        record.write(Started(role="trial", name="x", sweep="other", config={}))
    assert "1 trial is new (omega=1.0): train.lr" in str(told(storage, train={"lr": 0.0005}))


def test_the_same_sweep_counts_before_a_newer_one_of_the_name_and_that_before_others(storage):
    told(storage)
    told(storage, train={"lr": 0.5})
    told(storage, name="other", train={"lr": 0.7})
    longer = {"parameters": {"loss.omega": [0.0, 1.0, 0.3]}}
    assert "): sweep.parameters.loss.omega [0.0, 1.0] ->" in str(told(storage, sweep=longer))
    for path in storage.sweeps.glob("*.json"):
        record = json.loads(path.read_text())["config"]
        os.utime(path, (0, 100 if record["train"]["lr"] == 0.5 else 50))
    assert "): train.lr 0.5 -> 0.6 since" in str(told(storage, train={"lr": 0.6}))


def test_a_record_of_an_earlier_version_is_read_and_a_torn_one_is_passed_over(storage):
    told(storage)
    (path,) = storage.sweeps.glob("*.json")
    record = json.loads(path.read_text())
    del record["trials"], record["config"]["train"]["clip_norm"]
    path.write_text(json.dumps(record))
    assert told(storage, data={"report": "test"}) is None  # why they are new nobody can tell
    path.write_text(json.dumps(record))
    (storage.sweeps / "torn.json").write_text('{"threads": ')
    assert "): loss.tau 0.1 -> 0.3 since" in str(told(storage, loss={"tau": 0.3}))
