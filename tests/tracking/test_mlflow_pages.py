"""Test where MLflow's pages of a store are said to be, and what stops them from being served."""

import socket
import sqlite3

import pytest

from orchestrator.tracking.mlflow_pages import pages_of, served
from orchestrator.tracking.mlflow_store import Store, locate
from tests.stores import WARNING, empty_tracker, sweep_config
from vosmodels.errors import InputError

pytestmark = pytest.mark.filterwarnings(WARNING)


def test_each_experiment_has_the_page_of_its_runs_the_newest_first(tmp_path):
    tracker = empty_tracker(tmp_path / "a store #1")
    tracker.connection.client.create_experiment("of another program")
    tracker.open_sweep(sweep_config(tmp_path, "omega"), "s")
    pages = pages_of(tracker.store, 5001)
    assert list(pages) == ["omega", "of another program"]
    assert pages["omega"] == f"http://127.0.0.1:5001/{tracker.pages('omega', 's').runs}"
    assert "viewStateShareKey" not in pages["of another program"]
    assert "orderByKey=metrics.%60select%2Fjf%60" in pages["of another program"]


def test_a_store_without_pages_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no store here yet; run a sweep first"):
        pages_of(locate(None, tmp_path), 5000)
    with pytest.raises(InputError, match="http://h:5000: no database file"):
        pages_of(Store("http://h:5000", None), 5000)
    sqlite3.connect(tmp_path / "mlflow.db").execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(InputError, match=r"mlflow.db: no store of MLflow \(no such table"):
        pages_of(locate(None, tmp_path), 5000)


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"port {port} on 127\.0\.0\.1: .*PORT=N"),
            served(locate(None, tmp_path), port),
        ):
            pass
