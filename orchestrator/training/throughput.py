"""Measure the speed of a training loop, and the share of time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Throughput:
    """Clock of a loop's own time, from the request for a batch to the end of its step.

    Excludes the time of the loop's caller between two steps. On a GPU the report is right only if
    the step before it has waited for the device.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = 0.0
        self._samples, self._seconds, self._waited = 0, 0.0, 0.0

    def take(self, batches: Iterator[Item]) -> Item:
        """Take the next batch, and count the time until it comes as waiting."""
        self._start = self._clock()
        batch = next(batches)
        self._waited += self._clock() - self._start
        return batch

    def stepped(self, samples: int) -> None:
        """End the step of the latest batch. samples: batch size over all workers."""
        self._seconds += self._clock() - self._start
        self._samples += samples

    def report(self) -> dict[str, float]:
        """Return samples_per_s and data_wait since the last report.

        Both are by the clock of this worker. data_wait: share of the time spent waiting for
        batches, 0 to 1.
        """
        seconds = max(self._seconds, 1e-9)
        speed = {"samples_per_s": self._samples / seconds, "data_wait": self._waited / seconds}
        self._samples, self._seconds, self._waited = 0, 0.0, 0.0
        return speed
