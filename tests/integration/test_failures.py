"""Test what a sweep tells of a trial that failed, and that others' memory does not end a sweep."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from orchestrator.tracking.events import Failed, Started
from tests.integration.conftest import ROOT, answer, command, environment, jobs, make_sweep
from tests.integration.test_sweep import ONE_TRIAL, begun, wait_for_a_checkpoint
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

TAKES = """
import time
taken = []
for _ in range(16):
    taken.append(b"x" * 2**29)
    time.sleep(0.05)
time.sleep(60)
"""


def test_a_failed_trial_is_told_with_its_log_and_a_command_that_runs_it_alone(finished):
    sweep, done = finished
    lines = done.stderr.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("failed: lr=1e+30: "))
    tail = [line for line in lines[start + 1 :] if line.startswith("  | ")]
    assert 1 <= len(tail) <= 4
    assert "Diverged: step" in tail[-1]
    (again,) = [line for line in lines if line.startswith("  alone again: ")]
    words = shlex.split(again.partition(": ")[2])
    (record,) = [job for job in jobs(sweep, "trial") if job.state == "failed"]
    before = len(record.of(Started))
    told = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "failed: lr=1e+30: Diverged: step" in told.stderr
    assert len(record.of(Started)) == before + 1


def test_a_job_that_runs_alone_is_that_of_the_sweep(finished, tmp_path):
    done, _ = finished
    sweep = make_sweep(tmp_path / "alone")
    shutil.copytree(done.storage, sweep.storage)
    (trial,) = [job for job in jobs(sweep, "trial") if job.state == "done"]
    shas = [made.sha256 for made in trial.checkpoints()]
    trial.path.unlink()
    words = [str(sweep.file), f"storage={sweep.storage}", "--job", "lr=1e-06", "--json"]
    told = answer(command("orchestrator.train", *words))
    assert (told["job"], told["key"], told["state"]) == ("lr=1e-06", trial.key, "done")
    assert [made["sha256"] for made in told["checkpoints"]] == shas


def test_a_trial_that_ends_as_another_program_takes_the_memory_is_marked_and_goes_on(
    finished, tmp_path, monkeypatch
):
    memory = psutil.virtual_memory()
    most = (memory.total - memory.available + 6 * 2**30) / memory.total
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{most:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    sweep, record, expected = begun(finished, tmp_path / "crowded")
    with sweep.started(ONE_TRIAL, "cluster.retries=2") as process:
        wait_for_a_checkpoint(record)
        holder = record.holder
        assert holder is not None
        os.kill(holder, signal.SIGSTOP)  # so that it does not end before memory does
        taker = subprocess.Popen([sys.executable, "-c", TAKES])
        try:
            while not record.of(Failed) and taker.poll() is None:
                time.sleep(0.1)
        finally:
            taker.kill()
            taker.wait()
            with suppress(ProcessLookupError):
                os.kill(holder, signal.SIGCONT)
        assert process.wait(timeout=600) == 0, sweep.told.read_text()
    (mark,) = record.of(Failed)
    assert mark.error.startswith("out of memory: Ray ended its process when the machine was full (")
    assert [m.sha256 for m in record.checkpoints()] == [m.sha256 for m in expected.checkpoints()]
    told = sweep.told.read_text()
    assert "lr=1e-06: out of memory: " in told
    assert "Traceback" not in told
