"""Test MLflow stores: which is chosen, whether it answers, and paged results."""

from __future__ import annotations

import http.server
import os
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy

from orchestrator.tracking.mlflow_store import (
    Connection,
    Store,
    check,
    locate,
    pages,
    probe,
    waiting_for_mlflow,
)
from tests.stores import WARNING, empty_store
from vosmodels.errors import InputError, UsageError

pytestmark = pytest.mark.filterwarnings(WARNING)


def test_the_store_is_the_one_given_else_the_environments_else_in_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = locate(None, Path("results"))
    assert store.uri == f"sqlite:///{tmp_path}/results/mlflow.db"
    assert store.artifacts == tmp_path / "results" / "artifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert locate(None, Path("results")).uri == "http://host:5000"
    assert locate(None, Path("results")).artifacts is None
    relative = locate("sqlite:///mine/m.db", Path("results"))
    assert relative.uri == f"sqlite:///{tmp_path}/mine/m.db"
    assert relative.artifacts == tmp_path / "mine" / "artifacts"


@pytest.mark.parametrize("uri", ["./mlruns", "/abs/mlruns", "file:///abs/mlruns"])
def test_a_folder_store_is_refused_with_what_works(uri: str, tmp_path: Path):
    with pytest.raises(UsageError, match=rf"tracking uri '{uri}'.*sqlite:////"):
        locate(uri, tmp_path)


def test_all_pages_of_a_search_are_read():
    class Page(list[int]):
        token: str | None = None

    def search(max_results: int, page_token: str | None, start: int) -> Page:
        page = Page([start + int(page_token or 0)])
        page.token = str(int(page_token or 0) + 1) if int(page_token or 0) < 2 else None
        return page

    assert pages(search, start=10) == [10, 11, 12]


def test_a_server_that_is_away_is_told_at_once_and_one_that_refuses_is_there():
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = f"http://127.0.0.1:{server.server_port}"
        probe(uri)
        server.shutdown()
        thread.join()
    with pytest.raises(InputError, match=rf"{uri}: no answer .*--tracking-uri"):
        probe(uri)


def test_asking_a_store_that_is_not_there_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(InputError, match=r"no such database.*run a sweep first"):
        Connection(locate(None, tmp_path / "new"), create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"),
    ],
)
def test_a_connection_counts_no_users_prints_no_address_and_asks_once_unless_one_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.delenv(name, raising=False)
    Connection(empty_store(tmp_path))
    assert os.environ[name] == value
    monkeypatch.setenv(name, "5")
    Connection(empty_store(tmp_path))
    assert os.environ[name] == "5"


def test_a_request_to_a_server_that_is_gone_fails_at_once():
    """MLflow's client alone takes four minutes."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        connection = Connection(Store(f"http://127.0.0.1:{server.server_port}", None))
        server.shutdown()
        thread.join()
    began = time.monotonic()
    with pytest.raises(Exception, match="refused"):
        connection.experiment("omega")
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("no answer"), "MLflow cannot be reached (no answer); in the storage"),
        (InputError("a.safetensors: gone"), "a.safetensors: gone; in the storage"),
    ],
)
def test_an_error_of_a_copy_to_the_store_is_logged_with_what_it_is(
    caplog: pytest.LogCaptureFixture, error: Exception, told: str
):
    def copy() -> None:
        raise error

    with waiting_for_mlflow("the table"):
        copy()
    assert caplog.records[0].message.startswith(told)


@pytest.mark.parametrize(
    ("uri", "artifacts"),
    [
        ("sqlite+pysqlite:////d/m.db?timeout=3", "/d/artifacts"),
        ("postgresql://u@h/d", "/st/artifacts"),
        ("mysql+pymysql://u@h/d", "/st/artifacts"),
        ("mssql+pyodbc://u@h/d", "/st/artifacts"),
        ("https://h", None),
    ],
)
def test_the_artifacts_of_every_database_have_a_folder_of_their_own(
    uri: str, artifacts: str | None
):
    store = locate(uri, Path("/st"))
    assert store == Store(uri, Path(artifacts) if artifacts else None)


@pytest.mark.parametrize(
    "uri",
    ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite:///file:x?mode=memory"],
)
def test_a_store_in_memory_is_refused(uri: str, tmp_path: Path):
    with pytest.raises(UsageError, match="names no file, and what is in memory is lost"):
        locate(uri, tmp_path)


@pytest.mark.parametrize("uri", ["ftp://x", "sqlit:///x.db", "s3://bucket/x", "HTTP//x"])
def test_a_scheme_that_mlflow_does_not_know_is_refused(uri: str, tmp_path: Path):
    with pytest.raises(UsageError, match=f"tracking uri '{uri}': .*http://HOST:PORT"):
        locate(uri, tmp_path)


def test_the_home_folder_and_odd_characters_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("sqlite:///~/m.db", Path("/st")).file == tmp_path / "m.db"
    odd = tmp_path / "a%20b?c #3"
    store = locate(None, odd)
    assert (store.file, store.artifacts) == (odd / "mlflow.db", odd / "artifacts")
    assert locate(store.uri, Path("/st")) == store
    assert sqlalchemy.make_url(store.uri).database == str(odd / "mlflow.db")


def test_what_a_store_cannot_be_is_told_before_a_run_and_nothing_is_made(tmp_path: Path):
    (tmp_path / "text.db").write_text("no database")
    (tmp_path / "folder.db").mkdir()
    for uri, problem in (
        (f"sqlite:///{tmp_path}/text.db", "text.db: is no SQLite database"),
        (f"sqlite:///{tmp_path}/folder.db", "folder.db: is no file"),
        (f"sqlite:///{tmp_path}/text.db/m.db", "text.db is a file; give a folder"),
        ("postgresql+nosuch://127.0.0.1:9/d", r"cannot be opened \(.*nosuch"),
        ("http://127.0.0.1:9", "no answer"),
    ):
        with pytest.raises(InputError, match=problem):
            check(locate(uri, tmp_path / "storage"))
    check(locate(None, tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.db", "text.db"]
