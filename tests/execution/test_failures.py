"""Test what is told of a failed job, and which errors are worth another try."""

import errno
import shlex
from typing import Any

import pytest
import torch

from orchestrator import train
from orchestrator.config.arguments import config_parser, words_of
from orchestrator.execution.failures import failures, log_tail, reports, retry_can_help
from orchestrator.tracking.events import Done, Failed, Started, Stopped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.loop import Diverged
from tests.planning.test_plan import plan
from vosmodels.errors import InputError

PLAN = plan()
LOGGED = "2026-11-29 10:00:00,123 INFO orchestrator.execution.job: omega=0.0 starts at step 0\n"


def ended(storage, job, *events):
    record = Ledger(storage.root).job(job.key)
    with record.claim():
        record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
        for event in events:
            record.write(event)


def logged(storage, job, text):
    path = storage.log(job.key)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path)


def test_jobs_that_are_done_or_stopped_have_not_failed_and_one_that_died_is_marked(storage):
    ended(storage, PLAN.jobs[0], Done(1.0))
    ended(storage, PLAN.jobs[1], Stopped(1, "asha"))
    ended(storage, PLAN.jobs[2], Failed("boom"))
    ended(storage, PLAN.jobs[3])
    found = failures(PLAN.jobs, storage)
    assert [(failure.job, failure.error) for failure in found] == [
        (PLAN.jobs[2], "boom"),
        (PLAN.jobs[3], "its process was killed, by hand or by the system for want of memory"),
    ]
    marked = Ledger(storage.root).job(PLAN.jobs[3].key).failed()
    assert marked is not None
    assert marked.error == found[1].error


def hang(path):
    """Write to a log what the watchdog of a job writes, of a call in this package's room."""
    source = "import faulthandler\ndef stand(log): faulthandler.dump_traceback(log)\n"
    space: dict[str, Any] = {}
    exec(compile(source, "/x/orchestrator/training/loop.py", "exec"), space)
    with path.open("a") as log:
        log.write("Timeout (0:10:00)!\n")
        log.flush()
        space["stand"](log)


def test_a_job_that_stood_still_is_told_from_one_that_was_killed_with_where_it_stood(storage):
    job = PLAN.jobs[3]
    ended(storage, job)
    hang(logged(storage, job, LOGGED))
    (failure,) = failures([job], storage)
    assert failure.error == "its process stood still for 600 s (cluster.stall_s)"
    (stood,) = [line for line in log_tail(storage.log(job.key)) if "loop.py" in line]
    assert "in stand" in stood
    assert failure.lines("x")[1].startswith("  |   File ")


def test_a_process_that_was_killed_after_an_earlier_one_stood_still_was_killed(storage):
    job = PLAN.jobs[3]
    ended(storage, job)
    path = logged(storage, job, LOGGED)
    hang(path)
    with path.open("a") as log:
        log.write(LOGGED)
    (failure,) = failures([job], storage)
    assert failure.error.startswith("its process was killed")
    assert log_tail(path)[-1] == LOGGED.strip()


def test_a_tail_is_a_few_short_lines_of_the_end(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {n}\n\n" for n in range(100_000)) + "x" * 1000 + "\n\n")
    assert log_tail(path) == ["line 99997", "line 99998", "line 99999", "x" * 160]
    assert log_tail(tmp_path / "none.log") == []


def test_the_command_names_the_same_configuration_and_store_and_one_job(storage, tmp_path):
    args = config_parser("orchestrator.sweep", "", "FILE", "").parse_intermixed_args(
        ["a sweep.yaml", "storage=/a b", "--tracking-uri", "sqlite:////x y/m.db", "loss.tau=1"]
    )
    ended(storage, PLAN.trials[0], Failed("boom"))
    lines = reports(failures(PLAN.trials[:1], storage), PLAN, "the same", words_of(args))
    again = shlex.split(lines[-1].partition(": ")[2])
    assert again[:3] == ["python", "-m", "orchestrator.train"]
    assert again[3:] == [
        *("a sweep.yaml", "storage=/a b", "loss.tau=1", "--tracking-uri", "sqlite:////x y/m.db"),
        *("--job", "omega=0.0"),
    ]
    assert reports(failures(PLAN.trials[:1], storage), PLAN, "the same", None)[-1].endswith(
        "alone again: the same"
    )


def test_of_jobs_with_one_name_the_command_names_the_key(storage):
    jobs = plan(sweep={"parameters": {"stem.steps": [10, 20]}})
    ended(storage, jobs.stems[1], Failed("boom"))
    (*_, again) = reports(failures(jobs.stems[1:], storage), jobs, "", ["a.yaml"])
    assert again.endswith(f"--job {jobs.stems[1].key}")


def torch_error(make):
    with pytest.raises(RuntimeError) as caught:
        make()
    return caught.value


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (torch_error(lambda: torch.empty(1 << 60)), True),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), True),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (torch_error(lambda: torch.zeros(2) @ torch.zeros(3)), False),
        (Diverged("step 3: loss nan"), False),
        (InputError("a mask is corrupt"), False),
        (ValueError("shape"), False),
        (KeyError("x"), False),
    ],
)
def test_an_error_that_would_recur_is_not_tried_again(error, helps):
    assert retry_can_help(error) is helps


def test_train_takes_a_sweep_for_one_of_its_jobs_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("sweep: {parameters: {loss.omega: [0.0]}}\n")
    assert train.main(["s.yaml"]) == 2
    assert "this is a sweep, not one job" in capsys.readouterr().err
    assert train.main(["s.yaml", "--job", "omega=1.0"]) == 1
    assert "no jobs are named 'omega=1.0'; the jobs are: teacher" in capsys.readouterr().err
    assert train.main(["s.yaml", "--job", "omega=0.0", "--dry-run"]) == 2
    assert "--job: takes no --dry-run" in capsys.readouterr().err
    assert not (tmp_path / "results" / "ledger").exists()
