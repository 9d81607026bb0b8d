"""Test a sweep on a Ray cluster of several nodes: one is lost, one is unlike, one sees less."""

import importlib.metadata
import subprocess
import sys

import pytest

from orchestrator.tracking.ledger import Ledger
from tests.integration import ray_nodes
from tests.integration.conftest import ROOT, environment, jobs, make_sweep
from tests.integration.test_sweep import ONE_TRIAL, wait_for_a_checkpoint
from tests.stores import WARNING

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_nodes.LOOPBACK.items():
            patch.setenv(name, value)
        with ray_nodes.running(2, tmp_path_factory.mktemp("cluster")) as nodes:
            yield nodes


def test_a_node_with_another_package_is_named_with_both_versions(nodes, tmp_path):
    other = tmp_path / "numpy-1.0.3.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.3\n")
    sweep = make_sweep(tmp_path / "unlike")
    with nodes.another(tmp_path):
        done = sweep.run(f"cluster.address={nodes.address}")
    assert done.returncode == 1
    *table, error = done.stderr.splitlines()
    here = importlib.metadata.version("numpy")
    assert [line.split()[-3:] for line in table] == [
        ["package", "there", "here"],
        ["numpy", "1.0.3", here],
    ]
    assert error.startswith("error: 1 of 4 nodes have other packages than this process")
    assert "constraints.txt" in error
    assert list(sweep.storage.iterdir()) == []


def test_a_storage_that_nodes_do_not_see_is_refused_before_anything_starts(nodes, tmp_path):
    """Each process has another folder at that path: its working directory."""
    words = [str(make_sweep(tmp_path).file), "storage=/proc/self/cwd/results"]
    done = subprocess.run(
        [*(sys.executable, "-m", "orchestrator.sweep"), *words, f"cluster.address={nodes.address}"],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: storage: /proc/self/cwd/results cannot be used on ")
    assert error.count("what the driver writes there is not seen") == 3
    assert list((tmp_path / "results").iterdir()) == []


def test_a_sweep_that_loses_a_node_ends_with_the_checkpoints_of_one_machine(
    finished, nodes, tmp_path
):
    alone, _ = finished
    (expected,) = [job for job in jobs(alone, "trial") if job.state == "done"]
    sweep = make_sweep(tmp_path / "several nodes")
    record = Ledger(sweep.storage).job(expected.key)
    on_nodes = (f"cluster.address={nodes.address}", "cluster.retries=1")
    short = (ONE_TRIAL, "soup.after_sweep=false", "data.report=null")
    with sweep.started(*short, *on_nodes) as process:
        wait_for_a_checkpoint(record)
        nodes.lose((record.path.parent / f"{record.key}.holder").read_text().split()[1])
        assert [made.step for made in record.checkpoints()] == [10], "lost too late"
        code = process.wait(timeout=900)
    assert code == 0, sweep.told.read_text()[-3000:]
    for role in ("teacher", "stem", "trial"):
        (one,) = [job for job in jobs(alone, role) if job.state == "done"]
        (several,) = jobs(sweep, role)
        assert [m.sha256 for m in several.checkpoints()] == [m.sha256 for m in one.checkpoints()]
