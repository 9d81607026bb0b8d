"""Test a sweep on Ray whose trials train in lock-step."""

import os
import signal
import time

import pytest

from orchestrator.tracking.events import Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.integration.conftest import answer, make_sweep
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

THREE = (
    "sweep.parameters={loss.omega: [0.0, 0.5, 1.0]}",
    "train.lr=1.0e-3",
    "soup.after_sweep=false",
    "data.report=null",
    "cluster.retries=1",
)


def trials(sweep):
    records = [(job, job.started()) for job in Ledger(sweep.storage).jobs()]
    return {said.name: job for job, said in records if said and said.role == "trial"}


def sums(job):
    return [(made.step, made.sha256) for made in job.checkpoints()]


def test_trials_in_lockstep_end_as_those_alone_though_their_process_was_killed(tmp_path):
    alone, beside = make_sweep(tmp_path / "alone"), make_sweep(tmp_path / "beside")
    expected = answer(alone.run(*THREE, "--json"))
    beside.take_teacher_and_stem(alone)
    with beside.started(*THREE, "cluster.lockstep=3") as process:
        deadline = time.monotonic() + 600
        while not any(job.checkpoints() for job in trials(beside).values()):
            assert time.monotonic() < deadline, "no checkpoint in 600 s"
            time.sleep(0.02)
        job = next(iter(trials(beside).values()))
        holder = (job.path.parent / f"{job.key}.holder").read_text()
        os.kill(int(holder.split()[1]), signal.SIGKILL)
        assert process.wait(timeout=600) == 0, beside.told.read_text()
    ended = trials(beside)
    assert list(map(sums, ended.values())) == list(map(sums, trials(alone).values()))
    assert [[s.students for s in job.of(Started)] for job in ended.values()] == [[3, 1]] * 3
    results = answer(beside.run(*THREE, "cluster.lockstep=3", "--json"))
    assert results["placement"] == "nothing was left to train"
    scores = [
        {row["name"]: row["select"]["jf"] for row in made["rows"]} for made in (expected, results)
    ]
    assert scores[0] == scores[1]
    reader = MlflowReader(Connection(locate(beside.store, beside.storage), create=False))
    assert len(reader.checkpoints("tiny")) == 3 * 2
