"""Test what is said of a finished sweep, on the terminal and in MLflow."""

import shlex

import pytest

from orchestrator import outcome
from orchestrator.tracking.delivery import waiting
from orchestrator.tracking.mlflow_store import locate
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from tests.published import publish_omega, row
from tests.stores import WARNING, contents, empty_tracker, sweep_config


def test_a_stem_that_scores_higher_than_every_trial_is_named_with_its_file(tmp_path):
    config = sweep_config(tmp_path)
    trial, copy = row("omega=1.0", "trial", 0.5, "t"), row("first-frame copy", "anchor", 0.9)
    lower, higher = (row("stem: distilled", "anchor", jf, "s") for jf in (0.4, 0.6))
    best = "best on val: omega=1.0 J&F .500; "
    assert outcome.best_line([copy, lower, trial], config) == best + "+.100 over the stem"
    assert outcome.best_line([copy, higher, trial], config) == (
        f"{best}no trial beat 'stem: distilled', J&F .600: "
        f"--checkpoint {Storage(tmp_path).checkpoint('s')}"
    )
    assert outcome.best_line([copy, higher], config) == ""


def test_the_next_lines_name_the_store_where_it_is_not_found_without(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Makefile").touch()
    page = "#/experiments/1/runs?workflowType=machine_learning"
    default = locate(None, tmp_path / "results")
    ui, soup, segment = outcome.following("omega", default, page)
    assert ui == f"make ui  http://127.0.0.1:5000/{page}"
    assert soup == "python -m soups.greedy --runs mlflow:omega"
    assert "--tracking-uri" not in segment
    store = locate(None, tmp_path / "st #3 [b]")
    ui, *lines = outcome.following("omega", store, page)
    assert shlex.split(ui)[:3] == ["python", "-m", "orchestrator.ui"]
    for line in (ui, *lines):
        words = shlex.split(line)
        assert locate(words[words.index("--tracking-uri") + 1], tmp_path) == store
    server = locate("http://h:5000", tmp_path)
    assert outcome.following("omega", server, page)[0] == f"http://h:5000/{page}"


@pytest.mark.filterwarnings(WARNING)
def test_the_run_of_a_sweep_says_what_was_asked_and_what_came_out(tracker, ledger):
    assert publish_omega(tracker, ledger) == []
    (parent,) = tracker.connection.sweeps("1", "s1")
    assert parent.info.run_name == "omega: generated, best omega=1.0 J&F .681"
    assert parent.data.tags["vos.best"] == "omega=1.0"
    assert parent.data.metrics["best/jf"] == 0.681
    note = parent.data.tags["mlflow.note.content"]
    first = next(line for line in note.splitlines() if line.startswith("| [omega"))
    child = next(r for r in tracker.connection.runs("1", "") if r.info.run_name == "omega=1.0")
    assert first.startswith(f"| [omega=1.0](#/experiments/1/runs/{child.info.run_id}?")
    assert "Trained by another sweep, not anew: [omega=0.0](" in note
    assert f"--tracking-uri {shlex.quote(tracker.store.uri)}" in note
    picture = f"get-artifact?run_uuid={parent.info.run_id}&path=table/s1-response.png"
    assert f"![response]({picture})" in note
    logged = [f.path for f in tracker.connection.client.list_artifacts(parent.info.run_id, "table")]
    assert "table/s1-response.png" in logged


@pytest.mark.filterwarnings(WARNING)
def test_what_the_store_does_not_take_is_told_on_a_line_and_delivered_later_whole(
    tracker, ledger, reader, tmp_path, monkeypatch
):
    def away(*args):
        raise ConnectionError("no answer\nand more")

    config, storage = sweep_config(ledger.storage), Storage(ledger.storage)
    for name, jobs in (
        ("project", "what 2 of 2 jobs recorded, the table"),
        ("log_best", "; the table"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(tracker, name, away)
            (line,) = publish_omega(tracker, ledger)
        assert line.startswith(f"MLflow at {tracker.store.uri} cannot be reached (no answer); ")
        assert jobs in line
        assert f"and how the sweep ended wait in {storage.root}: when it answers, run the" in line
        report = line.partition("same command again, or python -m ")[2]
        assert shlex.split(report) == [
            *("orchestrator.report", "mlflow:omega", "--tracking-uri", tracker.store.uri)
        ]
    waits = waiting(storage, "s1")
    assert waits is not None
    (parent,) = tracker.connection.sweeps("1", "s1")
    assert parent.info.status == "RUNNING"
    outcome.deliver_waiting(reader, "omega", "s1")
    assert waiting(storage, "s1") is None
    other = empty_tracker(tmp_path / "other")
    other.open_sweep(config, "s1")
    assert outcome.deliver(waits, storage, other) == []
    assert contents(Tracker(reader.connection)) == contents(other)
    assert contents(other)["omega: generated, best omega=1.0 J&F .681"]["status"] == "FINISHED"
