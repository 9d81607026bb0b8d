"""How fast a training loop goes, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Throughput:
    """Adds up a loop's own time: from asking for a batch to the end of its step, without what its
    caller does in between. On a GPU it is right where the step before `report` waited for it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begun = 0.0
        self._samples, self._seconds, self._waited = 0, 0.0, 0.0

    def take(self, batches: Iterator[Item]) -> Item:
        """The next batch; how long it took to come counts as waiting."""
        self._begun = self._clock()
        made = next(batches)
        self._waited += self._clock() - self._begun
        return made

    def stepped(self, samples: int) -> None:
        """The step of the batch taken last is done; it had so many samples, on all workers."""
        self._seconds += self._clock() - self._begun
        self._samples += samples

    def report(self) -> dict[str, float]:
        """samples_per_s, and data_wait: the share of time spent waiting, 0 to 1; both since the
        last report, by this worker's clock."""
        seconds = max(self._seconds, 1e-9)
        made = {"samples_per_s": self._samples / seconds, "data_wait": self._waited / seconds}
        self._samples, self._seconds, self._waited = 0, 0.0, 0.0
        return made
