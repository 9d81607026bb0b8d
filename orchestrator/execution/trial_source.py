"""Give out jobs, group by group as those that they need are done, and note which are stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable

from orchestrator.planning.plan import Job
from orchestrator.tracking import leases
from orchestrator.tracking.events import Stopped
from orchestrator.tracking.ledger import Ledger

logger = logging.getLogger(__name__)

POLL_S = 0.1
ASHA, HOURS = "asha", "sweep.max_hours"  # what stops a job


def can_start(job: Job, ledger: Ledger, coming: Collection[str] = ()) -> bool:
    """Tell whether all that a job needs is done or, by its key, coming; log what is not."""
    missing = [
        role
        for role, key in job.needs.items()
        if key not in coming and ledger.job(key).state != "done"
    ]
    if missing:
        logger.warning("%s: not started, as its %s is not done", job.name, " and ".join(missing))
    return not missing


class TrialSource:
    """Groups of jobs that train in lock-step, in a given order, until the time is up.

    A group waits for the jobs before it that its own need. Where one of those is not done in the
    end, a line says so and the group is not given out.
    """

    def __init__(
        self, groups: Iterable[tuple[Job, ...]], ledger: Ledger, ends: float | None = None
    ) -> None:
        """Take groups, the ledger, and when the time is up, by `time.monotonic`; None: never."""
        self._waiting = list(groups)
        self._running: set[str] = set()
        self._ends = ends
        self._ledger = ledger
        self._stopped: dict[str, Stopped] = {}
        self.given: set[str] = set()  # keys of the jobs that were given out

    @property
    def time_is_up(self) -> bool:
        """True where no job is to be started or continued."""
        return self._ends is not None and time.monotonic() >= self._ends

    def next(self) -> tuple[Job, ...] | None:
        """Return jobs to run: none for now where all wait for others, None where none is left."""
        if self.time_is_up:
            return None
        coming = self._running | {job.key for group in self._waiting for job in group}
        for group in list(self._waiting):
            if any(key in coming for job in group for key in job.needs.values()):
                continue
            self._waiting.remove(group)
            keys = {job.key for job in group}
            if [job for job in group if not can_start(job, self._ledger)]:
                coming -= keys
                continue
            self._running |= keys
            self.given |= keys
            return group
        return () if self._waiting else None

    def stop(self, job: Job, step: int, why: str) -> None:
        """Note that a job is stopped; `settle` writes it when its worker has let go."""
        self._stopped[job.key] = Stopped(at=step, why=why)

    def ended(self, jobs: tuple[Job, ...]) -> None:
        """Take notice that jobs run no more."""
        keys = [job.key for job in jobs]
        self._ledger.pull(keys)
        self._running -= set(keys)

    def settle(self, wait_s: float = 0.0) -> None:
        """Write which jobs were stopped.

        Those that a worker still holds wait for the next call, or until it lets go, up to `wait_s`.
        """
        ends = time.monotonic() + wait_s
        if wait_s and self._ledger.mirror:
            ends += leases.LEASE_S  # of a worker that was killed
        for key, stopped in list(self._stopped.items()):
            record = self._ledger.job(key)
            while (held := record.claimed) and time.monotonic() < ends:
                time.sleep(leases.LOOK_S if self._ledger.mirror else POLL_S)
            if held:
                continue
            if record.state == "running":
                with record.claim():
                    record.write(stopped)
            del self._stopped[key]
