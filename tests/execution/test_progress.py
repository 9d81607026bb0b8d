"""Test what a person sees of a sweep while it runs, and what is copied to MLflow."""

import io
import os
import re
import sys
from dataclasses import replace
from threading import Event, Semaphore

import pytest
from rich.console import Console

from orchestrator.execution import copying, progress
from orchestrator.execution.progress import ProgressWatcher
from orchestrator.planning.datasets import staged
from orchestrator.planning.plan import Job
from orchestrator.tracking.events import Done, Losses, Segmented, Warned
from orchestrator.tracking.ledger import Ledger
from tests.stores import checkpoint_of, finished_trial, sweep_config, trial_job

LONG = "loss.logit [a, b] of x:b:y: " + "far " * 30 + "too much"  # neither broken nor read by rich


@pytest.fixture
def job(ledger):
    """A trial that has begun, and what writes further lines of its process."""
    config = sweep_config(ledger.storage)
    record, started = trial_job(ledger, config, 0, "k1")

    def write(*lines):
        with record.claim():
            for line in lines:
                record.write(line)

    write(started)
    trial = Job("trial", "k1", "omega=0.0", config, staged(config), config.loss, 1, started.sweep)
    return trial, write


@pytest.fixture
def lines(monkeypatch, capsys):
    """Return what is printed where there is no terminal, when the watcher has ended."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(progress, "POLL_S", 60.0)
    return lambda: capsys.readouterr().err.splitlines()


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 100 x 12, as a text of all that was written to it."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=100, height=12, markup=False, highlight=False
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "screen", lambda **options: console)
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    return written


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("polls", [0, 3])
def test_a_warning_is_shown_once_however_short_or_long_a_job_is(
    job, ledger, capsys, monkeypatch, terminal, polls
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(progress, "POLL_S", 0.01 if polls else 60.0)
    trial, write = job
    write(Losses(10, {"total": 1.0}), Warned(10, LONG))
    polled = Semaphore(0)
    watch = ProgressWatcher([trial], ledger, lambda _: None)
    monkeypatch.setattr(watch, "_poll", polled.release)
    with watch:
        for _ in range(polls):
            assert polled.acquire(timeout=60)
    assert capsys.readouterr().err.count(f"omega=0.0: warning: {LONG}\n") == 1


def test_a_teacher_that_segments_videos_is_seen_before_the_first_step(job, ledger, lines):
    trial, write = job
    write(Segmented(1, 3), Segmented(2, 3))
    with ProgressWatcher([trial], ledger, lambda _: None):
        pass
    told = lines()
    for done in (1, 2):
        assert told.count(f"omega=0.0: teacher's masks of {done}/3 videos") == 1


def test_a_line_of_a_checkpoint_says_how_far_the_whole_sweep_is(job, ledger, lines):
    trial, write = job
    with ProgressWatcher([trial], ledger, lambda _: None):
        write(Losses(10, {"total": 1.0}), checkpoint_of(ledger.storage, 10, "a", 0.5))
    steps = trial.steps
    expected = f"omega=0.0: step 10/{steps}: J 0.490 F 0.510; 10 of {steps} steps in all"
    assert [line for line in lines() if line.startswith(expected)]


def test_what_was_done_before_is_counted_and_not_told_again(job, ledger, lines):
    trial, write = job
    write(Warned(10, LONG), checkpoint_of(ledger.storage, 10, "a", 0.5), Done(1.0))
    done = []
    with ProgressWatcher([trial], ledger, lambda _: None, on_done=lambda: done.append(1)):
        pass
    assert lines() == ["1 of 1 jobs were done before"]
    assert not done


def test_scoring_beside_the_jobs_has_few_lines_elsewhere(ledger, monkeypatch, lines):
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    polled = Semaphore(0)
    with ProgressWatcher([], ledger, lambda _: None) as watch:
        monkeypatch.setattr(watch, "_poll", polled.release)
        on_frames = watch.count("rows", "frames")
        for done in range(101):
            on_frames(done, 100)
            assert polled.acquire(timeout=60)
    assert lines() == ["rows: 100 of 100 frames"]


def test_a_terminal_keeps_all_jobs_in_one_table_with_their_total(job, ledger, terminal):
    trial, write = job
    config = sweep_config(ledger.storage)
    stem = Job("stem", "s", "stem x", config, staged(config), config.loss, 1, "sweep")
    finished_trial(ledger, config, 1, "s", [0.25])
    write(Losses(10, {"total": 0.5}))
    with ProgressWatcher([stem, trial], ledger, lambda _: None) as watch:
        watch.count("rows", "frames")(25, 50)
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue())
    *_, head, first, second, rows, total = plain.rstrip().splitlines()
    assert head.split() == ["job", "state", "step", "loss", "J&F", "steps/s", "data", "left"]
    n = trial.steps
    assert first.split() == ["stem", "x", "done", f"{n}/{n}", "1", "0.250", "took", "5", "s"]
    assert second.split() == ["omega=0.0", "training", f"10/{n}", "0.5"]
    assert rows.split()[:4] == ["rows", "scoring", "25/50", "frames"]
    assert total.split()[:4] == ["all", "1/2", "done", f"{n + 10}/{2 * n}"]


def test_what_is_copied_are_the_jobs_the_followed_ones_and_the_soup(job, ledger, lines):
    trial, _ = job
    with ProgressWatcher([trial], ledger, lambda _: None) as watch:
        watch.copy(Ledger(ledger.storage).job("soup"))
        watch.follow(replace(trial, key="asked"))
        watch.follow(trial)
    assert watch.keys == ["k1", "soup", "asked"]


def test_a_copy_that_stands_still_stops_no_line(job, ledger, lines, monkeypatch):
    trial, write = job
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    monkeypatch.setattr(copying, "POLL_S", 0.01)
    stuck, going, shown = Event(), Event(), []

    def project(record):
        stuck.set()
        assert going.wait(60)

    def on_done():
        shown.append(1)
        going.set()

    with ProgressWatcher([trial], ledger, project) as watch:
        assert stuck.wait(60)
        monkeypatch.setattr(watch, "_on_done", on_done)
        write(Done(1.0))
        assert going.wait(60)
    assert shown == [1]
    assert "omega=0.0: done" in lines()


def test_the_table_so_far_is_made_once_for_the_jobs_that_ended_meanwhile(job, ledger, lines):
    trial, write = job
    done = []

    def on_done():
        done.append(1)
        raise OSError("no room")  # which ends nothing

    with ProgressWatcher([trial], ledger, lambda _: None, on_done=on_done) as watch:
        watch._poll()
        write(Done(1.0))
        watch._poll()
        watch._poll()
    assert done == [1]


def test_a_job_that_another_sweep_trains_is_named_and_left_to_it(job, ledger, lines):
    trial, write = job
    trial, copied = replace(trial, sweep="ours"), []
    started = ledger.job("k1").started()
    with ProgressWatcher([trial], ledger, lambda record: copied.append(record.state)) as watch:
        watch._poll()
        with ledger.job("k1").claim():
            watch._poll()
            watch._poll()
        watch._copier.copy()
        assert not copied
        write(Done(1.0))
    said = f"omega=0.0: waits for sweep {started.sweep}, which trains it (process {os.getpid()} on "
    assert [line.startswith(said) for line in lines()].count(True) == 1


def test_a_job_that_this_sweep_took_over_is_copied(job, ledger, lines):
    trial, write = job
    trial, copied = replace(trial, sweep="ours"), []
    with ProgressWatcher([trial], ledger, lambda record: copied.append(record.state)) as watch:
        watch._poll()
        write(replace(ledger.job("k1").started(), sweep="ours"))
        watch._poll()
        watch._copier.copy()
        assert copied == ["running"]
    assert not [line for line in lines() if "waits for" in line]
