"""Test how a round goes on after Ray ended jobs for want of memory."""

import logging
import subprocess
import sys
from itertools import takewhile

import pytest

from orchestrator.execution import driver, ray_workers
from orchestrator.execution.out_of_memory import Crowding, OutOfMemory, out_of_memory
from orchestrator.tracking.events import Done, Failed, Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.planning.test_plan import config, plan

# As Ray 2.60 says it, cut short.
SAID = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: \
192.0.2.2, ID: 4f9a) was 22.46GB used / 23.54GB limit (0.95)
OOM kill reason: Memory usage 10052927488B exceeded threshold of 5055302144B
Considered workers: [
Selected to kill: (Task: job ID=01000000, task name=ImplicitFunc.train, required resources={CPU: 1},
 pid={pid}, actual memory used=0.94GB, worker ID=447f)
Not selected: (Task: job ID=01000000, pid=7, actual memory used=0.94GB, worker ID=447f)
]
Top 10 memory users: PID	MEM(GB)	COMMAND
4242	0.94	ray::ImplicitFunc.train"""


def said(pid):
    return SAID.replace("{pid}", str(pid))


def killed(storage, job):
    """Start a job in a process that is gone without having let go of it; return its id."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from orchestrator.tracking.ledger import Ledger\n"
        "from orchestrator.tracking.events import Started\n"
        "with (record := Ledger(Path(sys.argv[1])).job(sys.argv[2])).claim():\n"
        "    record.write(Started(role='trial', name='x', sweep='s', config={}))\n"
        "    os._exit(1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(storage.root), job.key])
    process.wait()
    return process.pid


class Machine:
    """Stands where Ray runs jobs: some are ended for want of memory while others run beside."""

    def __init__(self, monkeypatch, ends, fails=()):
        self.rounds = []  # of trials: how many at once, and their names
        self.students = []  # of the largest group, by round
        self.ends = ends  # name of a job -> how often it is ended
        self.fails = fails
        self.started = self.stopped = 0
        monkeypatch.setattr(ray_workers, "start", self.start)
        monkeypatch.setattr(ray_workers, "stop", self.stop)
        monkeypatch.setattr(ray_workers, "run_round", self.run_round)

    def start(self, address, *, dashboard):
        self.started += 1
        return [{"CPU": 4.0, "GPU": 0.0}]

    def stop(self):
        self.stopped += 1

    def run_round(self, source, storage, resources, name, check, retries, halving):
        while groups := [*takewhile(bool, iter(source.next, None))]:  # all that can begin now
            jobs = [job for group in groups for job in group]
            self.students.append(max(map(len, groups)))
            if jobs[0].role == "trial":
                self.rounds.append((resources.at_once, [job.name for job in jobs]))
            for job in jobs:
                self.run(storage, job)
            for group in groups:
                source.ended(group)

    def run(self, storage, job):
        if self.ends.get(job.name, 0):
            self.ends[job.name] -= 1
            raise OutOfMemory(said(killed(storage, job)))
        record = Ledger(storage.root).job(job.key)
        with record.claim():
            record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
            record.write(Failed("boom") if job.name in self.fails else Done(1.0))


@pytest.fixture
def swept():
    sections = {"sweep": {"parameters": {"loss.omega": [0.0, 0.5, 1.0]}}}
    return plan(**sections), config(**sections, cluster={"retries": 1, "threads": 1})


def test_what_was_ended_is_marked_and_runs_again_with_half_as_many_at_once(
    swept, tmp_path, monkeypatch, caplog
):
    jobs, settings = swept
    machine = Machine(monkeypatch, {"omega=0.5": 1})
    with caplog.at_level(logging.WARNING, "orchestrator"):
        outcome = driver.execute(jobs, settings, Storage(tmp_path))
    record = Ledger(tmp_path).job(jobs.trials[1].key)
    (mark,) = record.of(Failed)[:1]
    assert mark.error == (
        "out of memory: Ray ended its process when the machine was full "
        "(22.46GB of 23.54GB taken, by all programs)"
    )
    assert machine.rounds == [
        (3, ["omega=0.0", "omega=0.5", "omega=1.0"]),
        (1, ["omega=0.5", "omega=1.0"]),
    ]
    assert machine.started == machine.stopped == 2
    assert "omega=0.5: out of memory: " in caplog.text
    assert "it goes on, at most 1 at a time" in caplog.text
    assert record.state == "done"
    assert not outcome.failures


def test_a_job_that_is_ended_alone_is_tried_retries_times_and_the_others_run(
    swept, tmp_path, monkeypatch
):
    jobs, settings = swept
    machine = Machine(monkeypatch, {"omega=0.0": 9})
    outcome = driver.execute(jobs, settings, Storage(tmp_path))
    assert [at_once for at_once, _ in machine.rounds] == [3, 1, 1, 1]
    assert machine.rounds[-1][1] == ["omega=0.5", "omega=1.0"]
    (failure,) = outcome.failures
    assert failure.job.name == "omega=0.0"
    assert failure.error.startswith("out of memory: Ray ended its process")
    states = [Ledger(tmp_path).job(job.key).state for job in jobs.trials]
    assert states == ["failed", "done", "done"]


def test_students_in_lockstep_go_on_in_groups_half_as_large(swept, tmp_path, monkeypatch):
    jobs, settings = swept
    together = settings.cluster.model_copy(update={"threads": 4, "lockstep": 3, "retries": 0})
    settings = settings.model_copy(update={"cluster": together})
    machine = Machine(monkeypatch, {"omega=0.5": 1})
    outcome = driver.execute(jobs, settings, Storage(tmp_path))
    assert machine.students == [1, 3, 1]  # teacher with stem, then trials
    assert not outcome.failures  # one of several in a process is not to blame


def test_a_job_that_failed_of_something_else_is_not_tried_again(swept, tmp_path, monkeypatch):
    jobs, settings = swept
    machine = Machine(monkeypatch, {"omega=1.0": 1}, fails=["omega=0.0"])
    outcome = driver.execute(jobs, settings, Storage(tmp_path))
    assert machine.rounds[1:] == [(1, ["omega=1.0"])]
    assert [failure.error for failure in outcome.failures] == ["boom"]


def test_without_a_known_process_every_job_at_work_is_marked(swept, tmp_path):
    jobs, _ = swept
    storage = Storage(tmp_path)
    for job in jobs.trials[:2]:
        killed(storage, job)
    Crowding(storage, retries=0).note(OutOfMemory("in other words"), jobs.trials, at_once=2)
    states = [Ledger(tmp_path).job(job.key).state for job in jobs.trials]
    assert states == ["failed", "failed", "new"]


def test_the_error_of_ray_is_found_behind_that_of_tune_and_no_other_is():
    from ray.exceptions import OutOfMemoryError

    with pytest.raises(RuntimeError) as caught:
        try:
            raise OutOfMemoryError(said(5))
        except OutOfMemoryError as error:
            raise RuntimeError("Caught unexpected exception") from error
    assert str(out_of_memory(caught.value)) == said(5)
    assert out_of_memory(RuntimeError("out of memory")) is None
