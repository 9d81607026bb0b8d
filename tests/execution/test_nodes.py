"""Test what is asked of a cluster's nodes, without a cluster."""

import os
import socket
from importlib import metadata
from pathlib import Path
from threading import Timer

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import job as jobs
from orchestrator.execution.nodes import differences, locked_file, look, reachable, versions
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import Done, Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.distributed import Workers
from vosmodels.errors import InputError


def test_a_free_port_is_refused_before_ray_waits_for_it():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(InputError, match=f"{address}: .*refused.*ray start --head"),
            reachable(address),
        ):
            pytest.fail("attached to nothing")


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":6379", "head:x"])
def test_what_is_no_address_of_a_head_is_refused(address):
    with pytest.raises(InputError, match="is no address of a head"), reachable(address):
        pytest.fail("attached to nothing")


def test_auto_means_the_address_in_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with (
        pytest.raises(InputError, match=r"auto: 'http://127\.0\.0\.1:8265' is no address"),
        reachable("auto"),
    ):
        pytest.fail("attached to a dashboard")


def test_what_ray_refuses_is_told_with_the_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{address}: Version mismatch"), reachable(address):
            raise RuntimeError("Version mismatch: Ray 2.59")


def test_versions_are_those_of_the_imported_packages():
    import cv2
    import numpy
    import torch

    here = versions()
    assert here["numpy"] == numpy.__version__
    assert here["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert here["opencv"].startswith(cv2.__version__)
    assert "absent" not in here.values()


def test_a_package_that_is_not_installed_is_absent(monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    assert set(versions().values()) > {"absent"}
    assert versions()["python"][0] == "3"


def test_every_version_that_differs_has_a_row_and_builds_do_not_differ():
    here = {"python": "3.11.7", "torch": "2.14.0+cpu", "numpy": "2.3.0"}
    nodes = {
        "alike": {"python": "3.11.7", "torch": "2.14.0+cu130", "numpy": "2.3.0"},
        "old": {"python": "3.11.7", "torch": "2.13.0+cpu"},
    }
    assert [tuple(row) for row in differences(here, nodes).rows] == [
        ("old", "torch", "2.13.0+cpu", "2.14.0+cpu"),
        ("old", "numpy", "absent", "2.3.0"),
    ]


def test_a_storage_is_shared_where_the_drivers_file_and_its_lock_are_seen(tmp_path):
    with locked_file(tmp_path / "new" / "results") as token:
        assert look(token).storage == ""
        assert look(None).storage == ""
        elsewhere = look(str(tmp_path / Path(token).name)).storage
    assert elsewhere == "what the driver writes there is not seen"
    assert list((tmp_path / "new" / "results").iterdir()) == []


def test_a_storage_without_the_drivers_lock_or_without_writing_is_none(tmp_path):
    (tmp_path / "token").touch()
    assert "lock of the driver does not hold" in look(str(tmp_path / "token")).storage
    assert look("/proc/self/cmdline").storage.startswith("cannot be written (")


def test_a_folder_in_which_nothing_can_be_locked_is_refused():
    refused = pytest.raises(InputError, match="no file can be locked in /proc/self/task")
    with refused, locked_file(Path("/proc/self/task")):
        pytest.fail("locked in /proc")


@pytest.fixture
def held(tmp_path):
    """A job that is done, and whose claim another process lets go in two seconds."""

    def make(address):
        cluster = {"address": address}
        values = {"name": "x", "stem": {"steps": 1}, "sweep": {}, "cluster": cluster}
        config = SweepConfig.model_validate(values)
        job = plan_sweep(config, sweep_id(config), threads=1).stems[0]
        with Ledger(tmp_path).job(job.key).claim() as record:
            record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
            record.write(Done(1.0))
        claim = Ledger(tmp_path).job(job.key).claim()
        claim.__enter__()
        release = Timer(2.0, claim.__exit__, (None, None, None))
        release.start()
        releases.append(release)
        return job

    releases: list[Timer] = []
    yield make
    for release in releases:
        release.join()


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_a_job_that_another_process_is_at_is_waited_for_and_not_trained_twice(
    held, tmp_path, address, caplog
):
    job, alive = held(address), []
    jobs.run([job], Storage(tmp_path), Workers(alive=lambda: alive.append(1)))
    record = Ledger(tmp_path).job(job.key)
    assert len(record.of(Started)) == 1
    assert len(alive) > 1  # a watchdog does not take it for a job that stands still
    assert caplog.text.count(f"job {job.key}: waiting for process {os.getpid()} on ") == 1
