"""Test the soup that ends a sweep, and what a dry run tells of data."""

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import one_job, outcome, pipeline, sweep
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import run_of
from orchestrator.execution import driver
from orchestrator.execution.progress import ProgressWatcher
from orchestrator.planning.plan import Plan
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from soups import recipe, select_scores
from tests.stores import WARNING, empty_store, finished_trial, sweep_config
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore
from vosmodels.support import cli


def quick_memory(*args):
    """In place of a forecast, which traces a step."""
    return SimpleNamespace(check=lambda: None)


class Table:
    """Rows as their checkpoint and note."""

    def soup(self, sha256, note, on_frames):
        return sha256, note


def test_the_soup_of_a_sweep_is_made_while_mlflow_is_away(tmp_path, monkeypatch, caplog):
    config = sweep_config(tmp_path)
    objects = {1: ObjectScore((0.2,), (0.2,))}
    monkeypatch.setattr(select_scores, "mean_of", lambda ingredients, settle: {})
    monkeypatch.setattr("vosmodels.checkpoint.read_tensors", lambda path, sha256: {})

    def score(video):
        return Scores((SequenceScore(video.name, objects),))

    monkeypatch.setattr(recipe, "Network", lambda student, protocol: lambda weights: score)
    monkeypatch.setattr("soups.probe.measured", lambda *_: {})
    table: Any = Table()
    table.plan = Plan(sweep_id(config), None, (), ())
    ledger = Ledger(tmp_path)
    finished_trial(ledger, config, 0, "k", [0.1, 0.15])
    counted = []

    def away(record):
        raise ConnectionError("no answer")

    tracker: Any = None  # it is asked for files that are gone alone
    caplog.set_level(logging.WARNING, "orchestrator")
    with ProgressWatcher([], ledger, away) as watch:
        monkeypatch.setattr(
            watch, "count", lambda name, unit: lambda *said: counted.append((name, unit, *said))
        )
        row: Any = pipeline._soup(run_of(config), Storage(tmp_path), tracker, table, watch)
        watch._copier.copy()
    assert counted == [
        ("soup", "candidates", 0, 1, None),
        ("soup", "candidates", 1, 1, pytest.approx(0.2)),
    ]
    (soup,) = [job for job in ledger.jobs() if job.key != "k"]
    assert soup.state == "done"
    row, key = row
    assert key == soup.key
    assert row == (soup.checkpoints()[0].sha256, "2 of 2 checkpoints; all of them: J&F 0.200")
    assert "MLflow cannot be reached (no answer)" in caplog.text


@pytest.mark.filterwarnings(WARNING)
@pytest.mark.parametrize("where", ["rows", "publish"])
def test_a_sweep_that_is_interrupted_while_it_scores_is_not_finished(tmp_path, monkeypatch, where):
    ends = []

    class Quiet:
        def __init__(self, connection):
            pass

        def __getattr__(self, name):
            return lambda *args, **named: ends.append(named) if name == "close_sweep" else None

    class Unscored:
        def __init__(self, plan, config, storage):
            self.plan = plan

        def rows(self, on_frames):
            if where == "rows":
                raise KeyboardInterrupt
            return []

    def interrupted(*args, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "Tracker", Quiet)
    monkeypatch.setattr(pipeline, "SweepTable", Unscored)
    monkeypatch.setattr(outcome, "publish", interrupted)
    monkeypatch.setattr(driver, "execute", lambda *a, **k: driver.Outcome((), "none"))
    monkeypatch.setattr(driver, "memory_of", quick_memory)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(sweep_config(tmp_path), text="", command="", tracking_uri=None, quiet=True)
    assert ends == [{"status": "KILLED"}]


@pytest.mark.filterwarnings(WARNING)
def test_a_job_alone_of_which_the_store_lacks_something_fails_with_a_line(
    tmp_path, monkeypatch, capsys
):
    def away(*args):
        raise ConnectionError("no answer")

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = empty_store(tmp_path)
    monkeypatch.setattr(one_job, "copy_jobs", away)
    monkeypatch.setattr(driver, "execute", lambda *a, **k: driver.Outcome((), "none"))
    monkeypatch.setattr(driver, "memory_of", quick_memory)
    with pytest.raises(cli.CommandFailed) as failed:
        one_job.run(sweep_config(tmp_path), "omega=0.0", tracking_uri=None, quiet=True)
    result: Any = failed.value.result
    assert result["state"] == "new"
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "mlflow.store" not in line] == [  # which made its tables
        f"failed: MLflow at {store.uri} cannot be reached (no answer); run the same command again "
        "to show there what was recorded"
    ]


def test_a_dry_run_tells_absent_data_and_fails_on_data_that_cannot_be_used(
    davis_root, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text("sweep: {parameters: {loss.omega: [0.0]}}\n")
    words = ["sweep.yaml", "--dry-run", "storage=st", "student.options.aspp_rates=[2]"]
    assert sweep.main([*words, "data.root=/no/such [folder]"]) == 0
    out, err = capsys.readouterr()
    assert "missing here: data.select 'val': /no/such [folder]: no such folder" in out
    assert err == ""
    mask = davis_root / "Annotations/480p/cat/00002.png"
    mask.write_bytes(mask.read_bytes()[:30])
    assert sweep.main([*words, f"data.root={davis_root}"]) == 1
    assert (
        f"error: data.select 'val': {davis_root}: split 'val' cannot be used: {mask}: corrupt"
        in (capsys.readouterr().err)
    )
    assert sweep.main([*words, f"data.root={davis_root}", "--json"]) == 1
    assert "cat/00002.png: corrupt" in json.loads(capsys.readouterr().out)["missing"][0]
    assert not (tmp_path / "st").exists()
