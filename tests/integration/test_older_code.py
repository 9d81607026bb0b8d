"""Test a sweep whose finished trial was trained by other code, and its training anew."""

import json
import shutil

import pytest

from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.integration.conftest import answer, jobs, make_sweep
from tests.integration.test_sweep import ONE_TRIAL
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]


def with_other_losses(path):
    """Rewrite a job's ledger as if vosmodels/losses.py had been another file then."""
    events = [json.loads(line) for line in path.read_text().splitlines()]
    codes = [event for event in events if event["kind"] == "code"]
    assert codes
    for code in codes:
        code["files"]["vosmodels/losses.py"] = "0" * 64
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    path.write_text("".join(f"{line}\n" for line in lines))


def test_a_trial_of_older_code_is_named_kept_and_trained_again_when_asked(finished, tmp_path):
    done, _ = finished
    sweep = make_sweep(tmp_path / "older")
    shutil.copytree(done.storage, sweep.storage)
    ledger = Ledger(sweep.storage)
    (trial,) = [job for job in jobs(sweep, "trial") if job.state == "done"]
    shas = [made.sha256 for made in trial.checkpoints()]
    with_other_losses(trial.path)
    old = trial.path.read_bytes()

    told = sweep.run(ONE_TRIAL, "train.clip_norm=5", "--dry-run").stdout
    assert "1 trial is new (lr=1e-06): " in told
    assert "train.clip_norm 0.0 -> 5.0 since the last run of this file" in told

    kept = sweep.run(ONE_TRIAL)
    assert kept.returncode == 0, kept.stderr
    block = "done, older code: 1 of 3 finished jobs; "
    assert f"{block}they are kept; --rerun-changed trains them again" in kept.stderr
    assert "\n  vosmodels/losses.py: lr=1e-06\n" in kept.stderr
    assert trial.path.read_bytes() == old

    answer(sweep.run(ONE_TRIAL, "--rerun-changed", "--json"))
    (aside,) = ledger.folder.glob(f"{trial.key}.jsonl.*")
    assert aside.read_bytes() == old
    again = ledger.job(trial.key)
    assert again.state == "done"
    assert [made.sha256 for made in again.checkpoints()] == shas
    assert list((sweep.storage / "sweeps").glob("*-results.json.*"))
    connection = Connection(locate(sweep.store, sweep.storage), create=False)
    experiment = connection.experiment("tiny").experiment_id
    assert len(connection.runs(experiment, f"tags.`vos.key` = '{trial.key}'")) == 2
    named = [r for r in MlflowReader(connection).checkpoints("tiny") if r.key == trial.key]
    assert [record.sha256 for record in named] == shas  # each once
    assert "older code" not in sweep.run(ONE_TRIAL, "--dry-run").stdout
