"""What is going on, while it goes on: the ledger copied to MLflow and shown on stderr."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import psutil
from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord, Ledger
from vosmodels.support.grid import Grid

logger = logging.getLogger(__name__)

POLL_S = 2.0
MEMORY_EVERY = 5  # polls between measurements of memory


class ProgressWatcher:
    """Follows jobs until it is closed: `project` copies one job's record to wherever it is kept.

    On a terminal a table that redraws itself, elsewhere a line per event. A store that cannot be
    reached is tried again at the next poll: training never waits for it.
    """

    def __init__(
        self, jobs: Sequence[Job], ledger: Ledger, project: Callable[[JobRecord], None]
    ) -> None:
        self.jobs = jobs
        self.records = {job.key: ledger.job(job.key) for job in jobs}
        self.project = project
        self.peak_mib: float | None = None  # until it is measured
        self._console = Console(stderr=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._first: dict[str, tuple[int, float]] = {}
        self._told: set[tuple[str, str]] = set()
        self._polls = 0
        self._away = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join()
        if kind is None:
            for record in self.records.values():
                self.project(record)

    def _follow(self) -> None:
        if not sys.stderr.isatty():
            while not self._closing.wait(POLL_S):
                self._poll()
                self._tell()
            self._tell()
            return
        with Live(self._table(), console=self._console, transient=True) as live:
            while not self._closing.wait(POLL_S):
                self._poll()
                self._warn()
                live.update(self._table())
            self._warn()

    def _poll(self) -> None:
        if self._polls % MEMORY_EVERY == 0:
            self.peak_mib = max(self.peak_mib or 0.0, memory_mib())
        self._polls += 1
        for record in self.records.values():
            try:
                self.project(record)
                self._away = False
            except Exception as error:  # whatever the store's client raises: it comes back or not
                if not self._away:
                    logger.warning("tracking is away (%s); records wait in the ledger", error)
                self._away = True
                return

    def _table(self) -> Table:
        head = ("job", "state", "step", "steps/s", "data", "left", "J&F")
        return Grid(head, [self._row(job) for job in self.jobs], left=(0, 1)).terminal()

    def _row(self, job: Job) -> tuple[str, ...]:
        record = self.records[job.key]
        losses, made = record.losses(), record.checkpoints()
        step = losses[-1].step if losses else 0
        score = f"{made[-1].scores['jf']:.3f}" if made and "jf" in made[-1].scores else ""
        state = record.state
        if state != "running" or not losses:
            return job.name, state, f"{step}/{job.steps}", "", "", "", score
        first_step, since = self._first.setdefault(job.key, (step, time.monotonic()))
        rate = (step - first_step) / max(time.monotonic() - since, 1e-9)
        left = (job.steps - step) / rate if rate else 0.0
        times = (f"{rate:.2f}", f"{left:.0f} s") if rate else ("", "")
        speed = record.of(events.Speed)
        waits = f"{speed[-1].values['data_wait']:.0%}" if speed else ""
        return job.name, state, f"{step}/{job.steps}", times[0], waits, times[1], score

    def _warn(self) -> None:
        """On a terminal above the table, where it stays."""
        for job in self.jobs:
            for warned in self.records[job.key].of(events.Warned):
                self._once(job, warned.text, f"{job.name}: warning: {warned.text}")

    def _tell(self) -> None:
        self._warn()
        for job in self.jobs:
            record = self.records[job.key]
            for made in record.checkpoints():
                scores = f"J {made.scores['j']:.3f} F {made.scores['f']:.3f}"
                line = f"{job.name}: step {made.step}/{job.steps}: {scores}"
                self._once(job, str(made.step), line)
            state = record.state
            if state != "new":
                self._once(job, state, f"{job.name}: {state}")

    def _once(self, job: Job, what: str, line: str) -> None:
        if (job.key, what) not in self._told:
            self._told.add((job.key, what))
            self._console.print(line, highlight=False, soft_wrap=True)


def memory_mib() -> float:
    """Memory of this process and all below it, shared pages counted once."""
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total / 2**20
