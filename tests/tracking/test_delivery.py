"""Test what waits in the storage folder for a store that is away when a sweep ends."""

import http.server
import json
import threading
import time
from contextlib import contextmanager

import pytest

from orchestrator.config.content_key import sweep_id
from orchestrator.tracking import delivery
from orchestrator.tracking.delivery import Delivery, copy_jobs, forget, patiently, waiting
from orchestrator.tracking.mlflow_store import Store, why_away
from orchestrator.tracking.storage import Storage
from tests.stores import WARNING, finished_trial, sweep_config
from vosmodels.errors import InputError

AWAY = Store("http://127.0.0.1:9", None)


@contextmanager
def answering():
    """A server that answers nothing but that it is there."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Empty) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Store(f"http://127.0.0.1:{server.server_port}", None)
        finally:
            server.shutdown()
            thread.join()


def test_what_waits_comes_back_as_it_was_written_until_it_is_forgotten(tmp_path):
    storage = Storage(tmp_path)
    assert waiting(storage, "s1") is None
    left = Delivery("omega", "s1", AWAY.uri, "FAILED", ["k1"], ["omega"], "t", {"a": "b"}, {}, [])
    left.save(storage)
    assert waiting(storage, "s1") == left
    assert waiting(storage, "s2") is None
    forget(storage, "s1")
    forget(storage, "s1")
    assert waiting(storage, "s1") is None


def test_a_file_of_another_shape_is_told_with_its_name(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "s1-waiting.json").write_text(json.dumps({"jobs": []}))
    with pytest.raises(InputError, match=r"s1-waiting\.json: is not what a sweep writes"):
        waiting(Storage(tmp_path), "s1")


def test_a_server_that_is_away_is_waited_for_and_then_told_with_its_address(monkeypatch, caplog):
    tries: list[float] = []
    monkeypatch.setattr(time, "sleep", tries.append)
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(InputError, match=rf"MLflow at {AWAY.uri} cannot be reached \(.*refused"):
        patiently(lambda: None, AWAY, wait_s=5.0)
    assert len(tries) == 4
    assert caplog.text.count("no answer") == 1
    assert "waiting up to 4 s for it" in caplog.text


def test_a_try_that_fails_is_made_again_and_its_answer_returned(monkeypatch):
    monkeypatch.setattr(delivery, "AGAIN_S", 0.0)
    answers = [ConnectionError("lost"), OSError("reset"), "there"]

    def action():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with answering() as store:
        assert patiently(action, store) == "there"
    assert answers == []


def test_what_is_wrong_in_itself_is_not_tried_again():
    tries = []

    def action():
        tries.append(1)
        raise InputError("experiment deleted")

    with answering() as store, pytest.raises(InputError, match="experiment deleted"):
        patiently(action, store)
    assert tries == [1]


def test_a_database_is_asked_once(tmp_path, caplog):
    def action():
        raise OSError("disk is full\nmore of it")

    store = Store(f"sqlite:///{tmp_path}/m.db", tmp_path)
    with pytest.raises(InputError, match=r"m\.db cannot be reached \(disk is full\)"):
        patiently(action, store)
    assert caplog.text == ""


def test_why_a_server_is_away_is_said_and_a_database_never_is():
    assert "refused" in (why_away(AWAY.uri) or "")
    assert why_away("sqlite:////m.db") is None
    with answering() as store:
        assert why_away(store.uri) is None


@pytest.mark.filterwarnings(WARNING)
def test_a_job_whose_file_is_gone_is_returned_and_the_others_are_copied(tracker, ledger):
    config = sweep_config(ledger.storage)
    storage, sweep = Storage(ledger.storage), sweep_id(config)
    tracker.open_sweep(config, sweep)
    broken = finished_trial(ledger, config, 0, "k1", [0.3])
    whole = finished_trial(ledger, config, 1, "k2", [0.4])
    file = storage.root / broken.checkpoints()[0].path
    content = file.read_bytes()
    file.unlink()
    waits = Delivery("omega", sweep, tracker.store.uri, "FINISHED", ["k1", "k2", "never"])
    assert waits.left(storage, tracker) == ["k1", "k2"]
    (problem,) = copy_jobs(waits, storage, tracker)
    assert f"{file}: gone" in problem
    assert waits.left(storage, tracker) == ["k1"]
    assert tracker.has(whole)
    file.write_bytes(content)
    assert copy_jobs(waits, storage, tracker) == []
    assert waits.left(storage, tracker) == []
