"""Test a Ray that is started here: where paths are unusual, where it listens, how it stops."""

import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from orchestrator.tracking.ledger import Ledger
from tests.integration.conftest import ROOT, environment, make_sweep

pytestmark = pytest.mark.slow


def run(python, code):
    """Return what a program prints that runs in another process."""
    done = subprocess.run(
        [python, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


ASK_A_WORKER = """
import sys
import ray
from orchestrator.execution import ray_workers

ray_workers.start(None, dashboard=False)
try:
    asked = ray.remote(lambda: sys.executable)
    # An environment of its own, as Tune and Train give theirs: such workers go through a shell.
    told = asked.options(runtime_env={"env_vars": {"ANY": "1"}}).remote()
    print(ray.get(told, timeout=120))
finally:
    ray_workers.stop()
"""


def test_workers_start_where_the_interpreters_path_has_a_space(tmp_path):
    home = tmp_path / "with a space" / "venv"
    home.parent.mkdir()
    home.symlink_to(sys.prefix, target_is_directory=True)
    python = home / "bin" / Path(sys.executable).name
    assert run(python, ASK_A_WORKER).split("\n")[0] == str(python)


LISTEN_AND_LOOK = """
import psutil
from orchestrator.execution import ray_workers

ray_workers.start(None, dashboard=False)
import ray
try:
    ray.get(ray.remote(lambda: 0).remote(), timeout=120)  # a worker listens too
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        for socket in process.net_connections("inet"):
            if socket.status == psutil.CONN_LISTEN:
                print(socket.laddr.ip)
finally:
    ray_workers.stop()
"""


def test_a_ray_for_jobs_of_one_worker_listens_on_loopback_alone():
    addresses = run(sys.executable, LISTEN_AND_LOOK).split("\n")[:-1]
    assert len(addresses) > 6  # driver, gcs, raylet, agents, worker
    assert all(ip_address(address.removeprefix("::ffff:")).is_loopback for address in addresses)


def listening(pid):
    """Names of a process and its descendants, each with the addresses that it listens at."""
    process, found = psutil.Process(pid), set()
    for each in (process, *process.children(recursive=True)):
        try:
            sockets = each.net_connections("inet")
            found |= {(each.name(), s.laddr.ip) for s in sockets if s.status == psutil.CONN_LISTEN}
        except psutil.Error:  # it has ended
            continue
    return found


def test_a_sweep_of_two_workers_per_job_listens_on_loopback_alone(tmp_path):
    sweep, found = make_sweep(tmp_path / "two workers"), set()
    ledger, deadline = Ledger(sweep.storage), time.monotonic() + 400
    with sweep.started("cluster.workers=2") as process:
        while not any(job.checkpoints() for job in ledger.jobs()):
            assert time.monotonic() < deadline, sweep.told.read_text()
            found |= listening(process.pid)
            time.sleep(0.3)
    names = {name for name, _ in found}
    assert any("TrainWorker" in name for name in names), names
    assert any("Dashboard" in name for name in names), names
    open_to_all = {
        (name, at) for name, at in found if not ip_address(at.removeprefix("::ffff:")).is_loopback
    }
    assert not open_to_all


COLLECT_WHILE_IT_STOPS = """
import gc
import threading
from ray._private import worker
from orchestrator.execution import ray_workers

ray_workers.start(None, dashboard=False)
import ray

gc.disable()
for number in range(20000):
    ring = [ray.put(number)]
    ring.append(ring)
ring = None
stopping = threading.Event()


def collect():
    stopping.wait()
    while stopping.is_set():
        gc.collect()


thread = threading.Thread(target=collect)
thread.start()
disconnect = worker.disconnect


def say_and_disconnect(*arguments):
    stopping.set()
    disconnect(*arguments)


worker.disconnect = say_and_disconnect
ray_workers.stop()
stopping.clear()
thread.join()
print("goes on")
"""


def test_a_collection_in_another_thread_while_ray_stops_does_not_end_the_process():
    """Ray ends a process that lets go of one of its objects meanwhile (exit code 1)."""
    assert run(sys.executable, COLLECT_WHILE_IT_STOPS) == "goes on\n"


HOLD_A_CLAIM = """
import sys
from pathlib import Path
from orchestrator.execution import ray_workers

ray_workers.start(None, dashboard=False)
import ray


def hold(folder):
    from orchestrator.tracking.ledger import Ledger

    with Ledger(folder).job("key").claim():
        while True:
            sum(range(10**6))


ray.get(ray.remote(hold).remote(Path(sys.argv[1])))
"""
SOON_S, LATE_S = 20.0, 120.0  # 3 s and 62 s were measured on a machine in use
AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}  # 60 s of them are fixed in Ray


def test_of_a_killed_driver_no_job_goes_on_and_at_last_no_process_is_left(tmp_path):
    record = Ledger(tmp_path).job("key")
    command = [sys.executable, "-c", HOLD_A_CLAIM, str(tmp_path)]
    driver = subprocess.Popen(command, cwd=ROOT, env=environment())
    try:
        deadline = time.monotonic() + 200
        while record.holder is None:
            assert time.monotonic() < deadline, "no worker in 200 s"
            time.sleep(0.1)
        children = psutil.Process(driver.pid).children(recursive=True)
        assert record.holder in {child.pid for child in children}
        names = {child: child.name() for child in children}
        assert set(names.values()) >= AGENTS
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    _, left = psutil.wait_procs([c for c in children if names[c] not in AGENTS], SOON_S)
    assert not left, [names[child] for child in left]
    assert not record.claimed
    _, left = psutil.wait_procs(children, LATE_S)
    assert not left, [names[child] for child in left]
