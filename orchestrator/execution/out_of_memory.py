"""Go on where Ray ended a job because the machine was short of memory: with fewer at once.

Ray's memory monitor ends workers before the system has to, whichever program took the memory. Tune
takes that for an error of its own and gives up the round, so that its other jobs start again as
well, from their last resume states.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import Job
from orchestrator.tracking.events import Failed
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage

logger = logging.getLogger(__name__)

ENDED = re.compile(r"Selected to kill: \(.*?\bpid=(\d+)", re.DOTALL)
TAKEN = re.compile(r"was (\S+GB) used / (\S+GB) limit")
LET_GO_S = 60.0  # in which the processes of a round that was given up release their jobs
POLL_S = 0.1


class OutOfMemory(Exception):
    """Ray ended workers because the machine was short of memory; the message is Ray's."""


def out_of_memory(error: BaseException | None) -> OutOfMemory | None:
    """Return what is behind an error of Tune; None where it is another."""
    from ray.exceptions import OutOfMemoryError

    while error is not None and not isinstance(error, OutOfMemoryError):
        error = error.__cause__
    return None if error is None else OutOfMemory(str(error))


class Crowding:
    """Count how many jobs of a round run at once, fewer whenever Ray ended some for want of memory.

    A job that ran alone is tried `retries` times more. One that did not is not to blame.
    """

    def __init__(self, storage: Storage, retries: int) -> None:
        self._storage = storage
        self._retries = retries
        self._most: int | None = None
        self._tries = Counter[str]()  # of jobs that were ended, those alone, by key
        self._failed: set[str] = set()  # keys of jobs that failed of something else

    def place(self, placement: Placement) -> Placement:
        """Return a placement with as many jobs at once as there is memory for."""
        return replace(placement, at_once=min(placement.at_once, self._most or placement.at_once))

    def goes_on(self, job: Job) -> bool:
        """Tell whether a job that was not done is to run, after what this object has noted."""
        return job.key not in self._failed and self._tries[job.key] <= self._retries

    def note(self, error: OutOfMemory, jobs: Sequence[Job], at_once: int) -> None:
        """Mark the jobs that were ended as failed, and admit half as many from now on.

        Waits until no process holds any of the jobs. Raises InputError where one does for long.
        """
        said, ledger = str(error), Ledger.of(self._storage)
        states = {job.key: ledger.job(job.key).state for job in jobs}
        running = [job for job in jobs if states[job.key] == "running"]
        self._failed |= {job.key for job in jobs if states[job.key] == "failed"}
        pids = {int(pid) for pid in ENDED.findall(said)}
        ended = [job for job in running if ledger.job(job.key).holder in pids] or running
        taken = TAKEN.search(said)
        full = f" ({taken[1]} of {taken[2]} taken, by all programs)" if taken else ""
        why = f"out of memory: Ray ended its process when the machine was full{full}"
        self._most = max(1, at_once // 2)
        ends = time.monotonic() + LET_GO_S
        for job in running:
            record = ledger.job(job.key)
            while record.claimed and time.monotonic() < ends:
                time.sleep(POLL_S)
            if job not in ended:
                continue
            with record.claim():
                record.write(Failed(error=why, log=str(self._storage.log(job.key))))
            self._tries[job.key] += at_once == 1
            if self.goes_on(job):
                logger.warning(
                    "%s: %s; it goes on, at most %d at a time", job.name, why, self._most
                )
