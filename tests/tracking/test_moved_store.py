"""Test a storage folder that was moved or copied, with its store, to another place."""

import shutil
from pathlib import Path

import pytest

from orchestrator.config.content_key import sweep_id
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from orchestrator.tracking.mlflow_writer import Tracker
from tests.stores import WARNING, finished_trial, show_sweep, sweep_config

pytestmark = pytest.mark.filterwarnings(WARNING)


def connection(storage):
    """Open a store as another process does, which has not kept the folders of the runs."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()
    return Connection(locate(None, storage), create=False)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_what_was_moved_or_copied_is_read_and_written_in_its_new_place(
    tracker: Tracker, ledger: Ledger, tmp_path: Path, how, caplog
):
    config = show_sweep(tracker, ledger, {"k1": [0.3, 0.7]})
    old, new = ledger.storage, tmp_path / "other place" / "results"
    new.parent.mkdir()
    how(str(old), str(new))
    before = files(old)
    with caplog.at_level("INFO", "orchestrator"):
        moved = Tracker(connection(new))
    assert f"were at {old / 'artifacts' / 'omega'}" in caplog.text
    reader = MlflowReader(moved.connection)
    best = reader.best_checkpoint("omega")
    assert reader.download(best).read_text() == "weights k12"
    assert reader.download(best).is_relative_to(new)
    assert reader.config_of("omega", sweep_id(config)).storage_root == new
    assert reader.model(best.model_id) == best  # models:/ID still names it
    moved.open_sweep(sweep_config(new), sweep_id(config))
    moved.project(finished_trial(Ledger(new), sweep_config(new), 1, "k2", [0.9]))
    best = reader.best_checkpoint("omega")
    assert best.key == "k2"
    assert reader.download(best).is_relative_to(new)
    assert files(old) == before  # nothing is written where it was


def test_a_store_in_its_place_is_left_as_it_is(tracker: Tracker, ledger: Ledger, tmp_path: Path):
    show_sweep(tracker, ledger, {"k1": [0.3]})
    link = tmp_path / "link"
    link.symlink_to(ledger.storage)
    for storage in (ledger.storage, link):
        reader = MlflowReader(connection(storage))
        assert reader.download(reader.best_checkpoint("omega")).is_relative_to(ledger.storage)


def test_artifacts_elsewhere_on_purpose_are_left_there(tracker: Tracker, ledger: Ledger, tmp_path):
    """An experiment that was made with its artifacts in another folder."""
    place = tmp_path / "bucket" / "omega"
    tracker.connection.client.create_experiment("omega", artifact_location=str(place))
    show_sweep(tracker, ledger, {"k1": [0.3]})
    reader = MlflowReader(connection(ledger.storage))
    assert reader.download(reader.best_checkpoint("omega")).is_relative_to(place)
