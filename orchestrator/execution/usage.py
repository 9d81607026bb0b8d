"""Measure what a job takes of its node: CPU, memory, and the GPU it trains on.

The names are those of MLflow's own system metrics, and so are the units: percent of the whole node,
megabytes of 10^6 bytes. The figures are of the job's processes, not of all that runs on the node.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil
import torch

from orchestrator.tracking.events import Usage

EVERY_S = 10.0  # as MLflow
SHORT_S = 1.0  # CPU seconds are counted in hundredths
MB = 10**6


@dataclass(frozen=True)
class Measured:
    """Hold what the processes took until `time`, in seconds since 1970, by MLflow's names."""

    time: float
    values: Mapping[str, float]

    def event(self, step: int) -> Usage:
        """Return the line of the ledger about a job that has come to a step."""
        return Usage(step=step, time=self.time, values=dict(self.values))


class Meter:
    """Measure this process and its descendants, each time since the time before.

    Students in lock-step are of one process: each one's ledger has the figures of all of them.
    Of several workers each measures its own processes.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._measured = False
        self._at = time.monotonic()
        self._cpu_s = cpu_seconds()

    def due(self) -> Measured | None:
        """Measure, if the time before is EVERY_S ago."""
        return self.read() if time.monotonic() - self._at >= EVERY_S else None

    def rest(self) -> Measured | None:
        """Measure what came since the time before, unless that is too short for a figure."""
        short = self._measured and time.monotonic() - self._at < SHORT_S
        return None if short else self.read()

    def read(self) -> Measured:
        """Measure now."""
        self._measured = True
        at, cpu_s = time.monotonic(), cpu_seconds()
        # A process that ended between two readings takes its last moments with it.
        share = max(0.0, cpu_s - self._cpu_s) / max(at - self._at, 1e-9)
        self._at, self._cpu_s = at, cpu_s
        memory = memory_bytes()
        values = {
            "cpu_utilization_percentage": 100 * share / (psutil.cpu_count() or 1),
            "system_memory_usage_megabytes": memory / MB,
            "system_memory_usage_percentage": 100 * memory / psutil.virtual_memory().total,
        }
        if self._device is not None:
            values |= _gpu(self._device)
        return Measured(time.time(), {name: round(value, 1) for name, value in values.items()})


def cpu_seconds(pid: int | None = None) -> float:
    """Sum the CPU seconds of a process and its descendants, those that ended included.

    pid: None for this process.
    """
    total = 0.0
    for process in _tree(pid):
        try:
            total += sum(process.cpu_times()[:4])  # user and system: its own, its ended children's
        except psutil.Error:  # the process ended meanwhile
            continue
    return total


def memory_bytes() -> int:
    """Sum the memory of this process and its descendants. Pages that they share count once."""
    total = 0
    for process in _tree():
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # the process ended meanwhile
            continue
    return total


def _tree(pid: int | None = None) -> Iterator[psutil.Process]:
    root = psutil.Process(pid)
    yield root
    yield from root.children(recursive=True)


def _gpu(device: torch.device) -> dict[str, float]:
    """Measure the memory that this process holds of a GPU, and how busy the whole GPU is.

    The latter needs nvidia-ml-py, as MLflow's own does; without it, it is left out.
    """
    index = device.index or 0
    held = torch.cuda.memory_reserved(device)
    values = {
        f"gpu_{index}_memory_usage_megabytes": held / MB,
        f"gpu_{index}_memory_usage_percentage": (
            100 * held / torch.cuda.get_device_properties(device).total_memory
        ),
    }
    with suppress(ImportError, RuntimeError):  # no nvidia-ml-py, or a driver without it
        values[f"gpu_{index}_utilization_percentage"] = float(torch.cuda.utilization(device))
    return values
