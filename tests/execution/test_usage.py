"""Test what a job is said to take of its node."""

import mmap
import os
import subprocess
import sys
import time
import types
from typing import Any

import psutil
import pytest
import torch

from orchestrator.execution import usage
from orchestrator.execution.usage import Meter, memory_bytes
from orchestrator.tracking.events import Usage

BURN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def of_cores(measured, since):
    """CPU seconds behind a percentage of the node."""
    share = measured.values["cpu_utilization_percentage"] / 100
    return share * psutil.cpu_count() * (time.monotonic() - since)


def test_cpu_is_that_of_this_process_and_of_children_alive_or_ended():
    meter, began = Meter(), time.monotonic()
    before = os.times()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    subprocess.run([sys.executable, "-c", BURN.format(0.5)], check=True)
    alive = BURN.format(0.5) + "\nprint('burnt', flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", alive], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"burnt\n"
        measured = meter.read()
        seconds = of_cores(measured, began)
        child.communicate(b"\n")
    after = os.times()
    spent = sum(after[:4]) - sum(before[:4])  # the operating system's own count, all of them ended
    assert spent > 1.5
    assert seconds == pytest.approx(spent, rel=0.1, abs=0.1)


def test_a_measurement_is_of_the_time_since_the_one_before():
    meter = Meter()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    assert meter.read().values["cpu_utilization_percentage"] > 0
    time.sleep(0.5)
    assert meter.read().values["cpu_utilization_percentage"] < 20 / (psutil.cpu_count() or 1)


def test_memory_counts_a_page_that_two_processes_share_once():
    before, size = memory_bytes(), 200 * 2**20
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not of freed memory
    block.write(bytes([1]) * size)
    assert 0.9 * size < memory_bytes() - before < 1.5 * size
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0)
    try:
        assert memory_bytes() - before < 1.5 * size
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)
        block.close()


def test_a_measurement_is_due_after_a_while_and_a_short_rest_is_left_out(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter = Meter()
    clock[0] += usage.EVERY_S - 0.1
    assert meter.due() is None
    clock[0] += 0.1
    assert meter.due() is not None
    assert meter.due() is None
    clock[0] += usage.SHORT_S / 2
    assert meter.rest() is None
    clock[0] += usage.SHORT_S
    assert meter.rest() is not None


def test_a_job_that_was_never_measured_has_a_rest_however_short():
    assert Meter().rest() is not None


def test_a_line_of_the_ledger_has_the_step_the_time_and_the_figures():
    measured = usage.Measured(12.5, {"cpu_utilization_percentage": 50.0})
    assert measured.event(7) == Usage(7, 12.5, {"cpu_utilization_percentage": 50.0})


def names_of_mlflow(monkeypatch):
    """What MLflow's own monitors measure, on a node with one GPU."""
    nvml: Any = types.ModuleType("pynvml")
    nvml.NVMLError = RuntimeError
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetCount = lambda: 1
    nvml.nvmlDeviceGetHandleByIndex = lambda index: index
    nvml.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(used=1, total=2)
    nvml.nvmlDeviceGetUtilizationRates = lambda handle: types.SimpleNamespace(gpu=50)
    nvml.nvmlDeviceGetPowerUsage = nvml.nvmlDeviceGetEnforcedPowerLimit = lambda handle: 1000
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delitem(sys.modules, "mlflow.system_metrics.metrics.gpu_monitor", raising=False)
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    monitors = CPUMonitor(), GPUMonitor()
    for monitor in monitors:
        monitor.collect_metrics()
    return {name for monitor in monitors for name in monitor.aggregate_metrics()}


@pytest.mark.parametrize("busy", [True, False])
def test_names_are_mlflows_and_a_gpus_are_there_where_the_job_trains_on_one(monkeypatch, busy):
    def utilization(device):
        if not busy:
            raise ModuleNotFoundError("pynvml does not seem to be installed")
        return 40

    total = types.SimpleNamespace(total_memory=8 * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: total)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    values = Meter(torch.device("cuda", 0)).read().values
    assert values["gpu_0_memory_usage_megabytes"] == 2000
    assert values["gpu_0_memory_usage_percentage"] == 25
    assert values.get("gpu_0_utilization_percentage") == (40 if busy else None)
    assert set(values) <= names_of_mlflow(monkeypatch)
    assert not [name for name in Meter(torch.device("cpu")).read().values if "gpu" in name]
