"""Test a Ray that is started here: where paths are unusual, where it listens, how it stops."""

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, environment

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
