"""Measure the speed of a training loop, and the share of time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Reading:
    """Hold what a clock has counted so far: samples, seconds, and those of them spent waiting."""

    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def since(self, before: Reading) -> dict[str, float]:
        """Return samples_per_s and data_wait between an earlier reading and this one.

        data_wait: share of the time spent waiting for batches, 0 to 1.
        """
        seconds = max(self.seconds - before.seconds, 1e-9)
        return {
            "samples_per_s": (self.samples - before.samples) / seconds,
            "data_wait": (self.waited - before.waited) / seconds,
        }


class Throughput:
    """Clock of a loop's own time: its batches, the teacher, and the steps of all its students.

    Runs within `running`, so not while checkpoints are scored and written. On a GPU a reading is
    right only if the step before it has waited for the device.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._samples, self._seconds, self._waited = 0, 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        start = self._clock()
        try:
            yield
        finally:
            self._seconds += self._clock() - start

    def take(self, batches: Iterator[Item], samples: int) -> Item:
        """Take the next batch of so many samples, and count the time until it comes as waiting."""
        start = self._clock()
        batch = next(batches)
        self._waited += self._clock() - start
        self._samples += samples
        return batch

    def read(self) -> Reading:
        """Return what was counted so far, by the clock of this worker."""
        return Reading(self._samples, self._seconds, self._waited)
