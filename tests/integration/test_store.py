"""Test a sweep whose nodes share nothing but an object store: moto's S3 on 127.0.0.1."""

import os
import signal
import subprocess
import sys

import pytest

from orchestrator.tracking.ledger import Ledger
from tests import s3
from tests.integration import ray_nodes
from tests.integration.conftest import ROOT, Sweep, environment, jobs, make_sweep
from tests.integration.test_sweep import ONE_TRIAL, wait_for_a_checkpoint
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]
SHORT = (ONE_TRIAL, "data.report=null")


@pytest.fixture
def bucket():
    with s3.served() as url:
        yield url


def test_a_killed_sweep_whose_folder_is_lost_goes_on_from_s3_to_the_same_checkpoints(
    finished, bucket, tmp_path
):
    unbroken, _ = finished
    (expected,) = [job for job in jobs(unbroken, "trial") if job.state == "done"]
    sweep = make_sweep(tmp_path)
    words = (*SHORT, f"cluster.storage={bucket}/tiny")
    record = Ledger(sweep.storage).job(expected.key)
    with sweep.started(*words) as process:
        wait_for_a_checkpoint(record)
        holder = (record.path.parent / f"{record.key}.holder").read_text()
        os.kill(int(holder.split()[1]), signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
    assert [made.step for made in record.checkpoints()] == [10], "killed too late to prove anything"
    sweep.storage.rename(tmp_path / "lost")  # what Ray may still write to
    done = sweep.run(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    same(sweep, unbroken)


@pytest.mark.soak
def test_nodes_without_a_common_folder_make_the_checkpoints_of_one_machine(
    finished, bucket, tmp_path, monkeypatch
):
    """The storage is /proc/self/cwd/results, another folder for the driver and for each job: Ray
    lets every trial work in a folder of its own.
    """
    unbroken, _ = finished
    for name, value in ray_nodes.LOOPBACK.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "driver").mkdir()
    sweep = Sweep(make_sweep(tmp_path).file, tmp_path / "driver" / "results")
    words = ["storage=/proc/self/cwd/results", f"cluster.storage={bucket}/tiny", *SHORT]
    command = [*(sys.executable, "-m", "orchestrator.sweep"), str(sweep.file), *words]
    with ray_nodes.running(2, tmp_path) as nodes:
        done = subprocess.run(
            [*command, f"cluster.address={nodes.address}", "soup.after_sweep=false"],
            cwd=tmp_path / "driver",
            env=environment() | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    same(sweep, unbroken)
    assert not (sweep.storage / "resume").exists(), "a job shares the driver's folder"


def same(sweep, unbroken):
    """Compare the checkpoints of a sweep with those of another, job by job."""
    for role in ("teacher", "stem", "trial"):
        (one,) = [job for job in jobs(unbroken, role) if job.state == "done"]
        (other,) = jobs(sweep, role)
        assert [m.sha256 for m in other.checkpoints()] == [m.sha256 for m in one.checkpoints()]
