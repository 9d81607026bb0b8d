"""Test what a person sees of jobs while they run."""

import sys
from threading import Semaphore

import pytest

from orchestrator.execution import progress
from orchestrator.planning.datasets import staged
from orchestrator.planning.plan import Job
from orchestrator.tracking.events import Losses, Segmented, Warned
from tests.stores import sweep_config, trial_job

LONG = "loss.logit [a, b] of x:b:y: " + "far " * 30 + "too much"  # neither broken nor read by rich


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("polls", [0, 3])
def test_a_warning_is_shown_once_however_short_or_long_a_job_is(
    ledger, capsys, monkeypatch, terminal, polls
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(progress, "POLL_S", 0.01 if polls else 60.0)
    config = sweep_config(ledger.storage)
    record, started = trial_job(ledger, config, 0, "k1")
    job = Job("trial", "k1", "omega=0.0", config, staged(config), config.loss, 1, "sweep")
    with record.claim():
        record.write(started)
        record.write(Losses(10, {"total": 1.0}))
        record.write(Warned(10, LONG))
    polled = Semaphore(0)
    with progress.ProgressWatcher([job], ledger, lambda _: polled.release()):
        for _ in range(polls):
            assert polled.acquire(timeout=60)
    assert capsys.readouterr().err.count(f"omega=0.0: warning: {LONG}\n") == 1


def test_a_teacher_that_segments_videos_is_seen_before_the_first_step(ledger, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(progress, "POLL_S", 60.0)
    config = sweep_config(ledger.storage)
    record, started = trial_job(ledger, config, 0, "k1")
    job = Job("trial", "k1", "omega=0.0", config, staged(config), config.loss, 1, "sweep")
    with record.claim():
        record.write(started)
        record.write(Segmented(1, 3))
        record.write(Segmented(2, 3))
    with progress.ProgressWatcher([job], ledger, lambda _: None):
        pass
    told = capsys.readouterr().err
    for done in (1, 2):
        assert told.count(f"omega=0.0: teacher's masks of {done}/3 videos\n") == 1
    row = progress.ProgressWatcher([job], ledger, lambda _: None)._table_row(job)
    assert row[:3] == ("omega=0.0", "running", "masks 2/3")
    assert len(row) == 7
