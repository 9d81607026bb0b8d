"""Give out the jobs of a round one by one, and note which of them the sweep stops."""

from __future__ import annotations

import time
from collections.abc import Iterable

from orchestrator.planning.plan import Job
from orchestrator.tracking.events import Stopped
from orchestrator.tracking.ledger import Ledger

POLL_S = 0.1
ASHA, HOURS = "asha", "sweep.max_hours"  # what stops a job


class TrialSource:
    """Jobs in a given order, until the time is up."""

    def __init__(self, jobs: Iterable[Job], ledger: Ledger, ends: float | None = None) -> None:
        """Take jobs, the ledger, and when the time is up, by `time.monotonic`; None: never."""
        self._jobs = iter(jobs)
        self._ends = ends
        self._ledger = ledger
        self._stopped: dict[str, Stopped] = {}
        self.given: set[str] = set()  # keys of the jobs that were given out

    @property
    def time_is_up(self) -> bool:
        """True where no job is to be started or continued."""
        return self._ends is not None and time.monotonic() >= self._ends

    def next(self) -> Job | None:
        """Return a job to run, or None where none is left."""
        job = None if self.time_is_up else next(self._jobs, None)
        if job is not None:
            self.given.add(job.key)
        return job

    def stop(self, job: Job, step: int, why: str) -> None:
        """Note that a job is stopped; `settle` writes it when its worker has let go."""
        self._stopped[job.key] = Stopped(at=step, why=why)

    def ended(self, job: Job) -> None:
        """Take notice that a job runs no more."""

    def settle(self, wait_s: float = 0.0) -> None:
        """Write which jobs were stopped.

        Those that a worker still holds wait for the next call, or until it lets go, up to `wait_s`.
        """
        ends = time.monotonic() + wait_s
        for key, stopped in list(self._stopped.items()):
            record = self._ledger.job(key)
            while (held := record.claimed) and time.monotonic() < ends:
                time.sleep(POLL_S)
            if held:
                continue
            if record.state == "running":
                with record.claim():
                    record.write(stopped)
            del self._stopped[key]
