"""Test a sweep whose MLflow is a server that is killed: at the end it has everything once."""

import time

import pytest

from orchestrator.tracking.delivery import WAIT_S
from orchestrator.tracking.events import Role
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from orchestrator.tracking.mlflow_writer import Tracker
from tests.integration.conftest import answer, command, jobs, make_sweep
from tests.integration.test_sweep import ONE_TRIAL, wait_for_a_checkpoint
from tests.mlflow_server import Server
from tests.stores import WARNING, contents

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

ROLES: tuple[Role, ...] = ("teacher", "stem", "trial", "soup")
LR = "lr=1e-06"


@pytest.fixture
def server(tmp_path):
    """A server that answers; whatever is left of it at the end is killed."""
    with Server(tmp_path / "server") as server:
        yield server


def wait_for(condition, what):
    deadline = time.monotonic() + 600
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} in 600 s"
        time.sleep(0.05)
    return value


def wait_for_a_trial(sweep):
    """Wait until a trial has a checkpoint: teacher and stem are done by then."""
    (record,) = wait_for(lambda: jobs(sweep, "trial"), "trial")
    wait_for_a_checkpoint(record)
    return record


def shown(store):
    """What a store has of the sweep, and its checkpoints' files, which are checked as they are
    read. Times of the whole run are left out: the runs that are compared are not of one time."""
    connection = Connection(store, create=False)
    everything = contents(Tracker(connection), "tiny")
    (parent,) = (
        run for run in everything.values() if run.get("tags", {}).get("vos.role") == "sweep"
    )
    parent["artifacts"] = set(parent["artifacts"])
    reader = MlflowReader(connection)
    records = reader.checkpoints("tiny", roles=ROLES)
    assert {str(model["status"]) for model in everything["models"].values()} == {"READY"}
    assert len(records) == len(everything["models"])
    return everything, {
        (r.name, r.step, r.sha256): reader.download(r).stat().st_size for r in records
    }


def copied_anew(sweep, folder, *words):
    """What a store has that is given all of a sweep in one go, by the same command."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    done = answer(sweep.run(*words, "--json", "--tracking-uri", uri))
    assert done["placement"] == "nothing was left to train"
    return locate(uri, folder)


def test_a_server_killed_and_started_again_has_at_the_end_all_that_an_unbroken_run_shows(
    finished, server, tmp_path
):
    sweep = make_sweep(tmp_path / "broken")
    with sweep.started(ONE_TRIAL, "--tracking-uri", server.uri) as process:
        wait_for(lambda: [job for job in jobs(sweep, "teacher") if job.losses()], "step")
        server.kill()
        wait_for_a_trial(sweep)  # training goes on
        server.start()
        assert process.wait(timeout=600) == 0, sweep.told.read_text()[-3000:]
    told = sweep.told.read_text()
    assert told.count("MLflow cannot be reached") == 1
    assert "Traceback" not in told
    assert not list(sweep.storage.glob("sweeps/*-waiting.json"))
    broken = shown(server.store)
    assert broken == shown(copied_anew(sweep, tmp_path / "other", ONE_TRIAL))
    # And that of a run with another store all along, up to what is measured in seconds.
    unbroken = shown(locate(finished[0].store, tmp_path))
    assert broken[1] == unbroken[1]
    for name, run in broken[0].items():
        if name != "models" and run["tags"]["vos.role"] != "sweep":
            other = unbroken[0][name]
            for kind in ("status", "outputs", "artifacts"):
                assert run[kind] == other[kind], (name, kind)
            for metric in (m for m in run["history"] if m.startswith(("train/", "select/"))):
                assert run["history"][metric] == other["history"][metric], (name, metric)


@pytest.mark.soak
def test_what_a_server_that_stays_away_lacks_is_told_and_delivered_by_report_and_soup(
    server, tmp_path
):
    words = (ONE_TRIAL, "soup.after_sweep=false", "data.report=null")
    sweep = make_sweep(tmp_path / "left alone")
    with sweep.started(*words, "--tracking-uri", server.uri) as process:
        record = wait_for_a_trial(sweep)
        server.kill()
        wait_for(lambda: record.state == "done", "end")
        began = time.monotonic()
        code = process.wait(timeout=600)
        waited = time.monotonic() - began
    told = sweep.told.read_text()
    assert code == 1, told
    assert f"waiting up to {WAIT_S:.0f} s for it" in told
    assert WAIT_S < waited < 5 * WAIT_S  # scoring and figures included
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if line.startswith("failed: ")]
    assert line == told.splitlines()[-1]
    assert f"failed: MLflow at {server.uri} cannot be reached (" in line
    report = f"python -m orchestrator.report mlflow:tiny --tracking-uri {server.uri}"
    assert (
        f"wait in {sweep.storage}: when it answers, run the same command again, or {report}" in line
    )
    uri = ("--tracking-uri", server.uri)
    for module, *said in (
        ("orchestrator.report", "mlflow:tiny"),
        ("soups.greedy", "--runs", "mlflow:tiny"),
    ):
        away = command(module, *said, *uri)
        assert away.returncode == 1
        (line,) = away.stderr.splitlines()
        assert f"tracking uri {server.uri}: no answer (" in line
    server.start()
    server.wait()
    soup = answer(command("soups.greedy", "--runs", "mlflow:tiny", *uri, "--json"))
    steps = [made.step for made in record.checkpoints()]
    assert sorted(int(d["name"].rpartition(" ")[2]) for d in soup["decisions"]) == steps
    assert list(sweep.storage.glob("sweeps/*-waiting.json"))  # the table still waits
    results = answer(command("orchestrator.report", "mlflow:tiny", *uri, "--json"))
    assert LR in [row["name"] for row in results["rows"]]
    assert not list(sweep.storage.glob("sweeps/*-waiting.json"))
    other = copied_anew(sweep, tmp_path / "other", *words)
    again = ("--runs", "mlflow:tiny", "--tracking-uri", other.uri, "--json")
    assert answer(command("soups.greedy", *again))["existing"]
    assert shown(server.store) == shown(other)
    assert len(Ledger(sweep.storage).jobs()) == 4  # teacher, stem, trial, soup
    best_first(server)


def best_first(server):
    """Assert that the server sorts checkpoints by their score, which its page does not."""
    client = Connection(server.store).client
    experiment = client.get_experiment_by_name("tiny").experiment_id
    for best in (True, False):
        order = [{"field_name": "metrics.select/jf", "ascending": not best}]
        models = client.search_logged_models([experiment], order_by=order)
        scores = [next(m.value for m in x.metrics if m.key == "select/jf") for x in models]
        assert len(scores) == 6  # of the teacher, stem (2), trial (2) and the soup
        assert scores == sorted(scores, reverse=best)
