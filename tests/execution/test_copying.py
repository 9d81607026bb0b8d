"""Test the thread that copies the ledger to MLflow: what it copies, and when it tries again."""

import logging
import threading

import pytest

from orchestrator.execution import copying
from orchestrator.execution.copying import Copier
from orchestrator.tracking.events import Done, Losses
from tests.stores import finished_trial, sweep_config, trial_job
from vosmodels.errors import InputError


@pytest.fixture
def jobs(ledger):
    """Two trials that have begun, and what writes further lines of the first."""
    config = sweep_config(ledger.storage)
    record, started = trial_job(ledger, config, 0, "k1")
    finished_trial(ledger, config, 1, "k2", [0.25])

    def write(*lines):
        with record.claim():
            for line in lines:
                record.write(line)

    write(started)
    return write


def test_a_record_is_copied_again_only_after_a_new_line(jobs, ledger):
    copied = []
    copier = Copier(["k1", "k2", "new"], ledger, lambda record: copied.append(record.key))
    assert copier.copy()
    assert copier.copy()
    assert copied == ["k1", "k2"]  # `new` has no record yet
    jobs(Losses(10, {"total": 1.0}))
    assert copier.copy()
    assert copied == ["k1", "k2", "k1"]


def test_what_came_while_the_store_was_away_is_copied_when_it_answers_and_said_once(
    jobs, ledger, caplog
):
    copied, away = [], True

    def project(record):
        if away:
            raise ConnectionError("no answer")
        copied.append((record.key, record.state))

    caplog.set_level(logging.WARNING, "orchestrator")
    copier = Copier(["k1"], ledger, project)
    assert not copier.copy()
    assert not copier.copy()
    copier.follow("k2")
    jobs(Done(1.0))
    away = False
    assert copier.copy()
    assert copied == [("k1", "done"), ("k2", "done")]
    assert caplog.text.count("MLflow cannot be reached (no answer)") == 1
    assert caplog.text.count("MLflow answers again") == 1


def test_a_job_whose_file_is_gone_is_told_once_and_keeps_no_other_from_its_copy(
    jobs, ledger, caplog
):
    copied = []

    def project(record):
        if record.key == "k1":
            raise InputError("a.safetensors: gone")
        copied.append(record.key)

    copier = Copier(["k1", "k2"], ledger, project)
    assert copier.copy()
    jobs(Losses(10, {"total": 1.0}))
    assert copier.copy()
    assert copied == ["k2"]
    assert caplog.text.count("a.safetensors: gone") == 1
    assert "cannot be reached" not in caplog.text


def test_tries_come_farther_apart_while_the_store_is_away(jobs, ledger, monkeypatch):
    answers = [False] * 6 + [True]
    waited = []

    class Clock(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return not answers

    copier = Copier([], ledger, lambda _: None)
    monkeypatch.setattr(copier, "_closing", Clock())
    monkeypatch.setattr(copier, "copy", lambda: answers.pop(0))
    copier._run()
    least, most = copying.POLL_S, copying.MOST_S
    assert waited == [least, 4.0, 8.0, 16.0, most, most, most, least]
