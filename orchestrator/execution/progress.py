"""Poll the ledger of running jobs, copy it to MLflow, show progress on stderr."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import psutil
from rich.live import Live
from rich.table import Table

from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_store import waiting_for_mlflow
from vosmodels.support.grid import Grid, screen

logger = logging.getLogger(__name__)

POLL_S = 2.0
MEMORY_EVERY = 5  # polls between two measurements of memory


class ProgressWatcher:
    """Thread that copies the records of jobs to MLflow and prints their progress.

    Prints a table that redraws itself on a terminal, and a line per event elsewhere. `project`
    copies one job's record. If the store cannot be reached, the next poll tries again: training
    never waits for MLflow.
    """

    def __init__(
        self, jobs: Sequence[Job], ledger: Ledger, project: Callable[[JobRecord], None]
    ) -> None:
        self.jobs = list(jobs)
        self._ledger = ledger
        self.records = {job.key: ledger.job(job.key) for job in jobs}
        self.project = project
        self.peak_mib: float | None = None  # None before the first measurement
        self._console = screen(stderr=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._starts: dict[str, tuple[int, float]] = {}  # job key -> first step seen, at what time
        self._printed: set[tuple[str, str]] = set()
        self._polls = 0
        self._unreachable = False

    def follow(self, job: Job) -> None:
        """Follow a further job."""
        if job.key not in self.records:
            self.records = {**self.records, job.key: self._ledger.job(job.key)}
            self.jobs = [*self.jobs, job]

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
            with waiting_for_mlflow("what the jobs recorded"):
                for record in self.records.values():
                    self.project(record)

    def _run(self) -> None:
        if not sys.stderr.isatty():
            while not self._closing.wait(POLL_S):
                self._poll()
                self._print_events()
            self._print_events()
            return
        with Live(self._table(), console=self._console, transient=True) as live:
            while not self._closing.wait(POLL_S):
                self._poll()
                self._print_warnings()
                live.update(self._table())
            self._print_warnings()

    def _poll(self) -> None:
        if self._polls % MEMORY_EVERY == 0:
            self.peak_mib = max(self.peak_mib or 0.0, memory_mib())
        self._polls += 1
        for record in self.records.values():
            try:
                self.project(record)
                self._unreachable = False
            except Exception as error:  # clients of stores raise all kinds of errors
                if not self._unreachable:
                    logger.warning(
                        "MLflow cannot be reached (%s); events wait in the ledger", error
                    )
                self._unreachable = True
                return

    def _table(self) -> Table:
        head = ("job", "state", "step", "steps/s", "data", "left", "J&F")
        return Grid(head, [self._table_row(job) for job in self.jobs], left=(0, 1)).terminal()

    def _table_row(self, job: Job) -> tuple[str, ...]:
        record = self.records[job.key]
        losses, checkpoints = record.losses(), record.checkpoints()
        step = losses[-1].step if losses else 0
        scores = checkpoints[-1].scores if checkpoints else {}
        score = f"{scores['jf']:.3f}" if "jf" in scores else ""
        state = record.state
        made = record.of(events.Segmented)
        if state == "running" and not losses and made and made[-1].done < made[-1].of:
            return job.name, state, f"masks {made[-1].done}/{made[-1].of}", "", "", "", score
        if state != "running" or not losses:
            return job.name, state, f"{step}/{job.steps}", "", "", "", score
        first_step, since = self._starts.setdefault(job.key, (step, time.monotonic()))
        rate = (step - first_step) / max(time.monotonic() - since, 1e-9)
        left = (job.steps - step) / rate if rate else 0.0
        times = (f"{rate:.2f}", f"{left:.0f} s") if rate else ("", "")
        speed = record.of(events.Speed)
        waits = f"{speed[-1].values['data_wait']:.0%}" if speed else ""
        return job.name, state, f"{step}/{job.steps}", times[0], waits, times[1], score

    def _print_warnings(self) -> None:
        """Print new warnings, on a terminal above the table."""
        for job in self.jobs:
            for warning in self.records[job.key].of(events.Warned):
                self._print_once(job, warning.text, f"{job.name}: warning: {warning.text}")

    def _print_events(self) -> None:
        self._print_warnings()
        for job in self.jobs:
            record = self.records[job.key]
            for made in record.of(events.Segmented):
                line = f"{job.name}: teacher's masks of {made.done}/{made.of} videos"
                self._print_once(job, f"masks {made.done}/{made.of}", line)
            for checkpoint in record.checkpoints():
                scores = f"J {checkpoint.scores['j']:.3f} F {checkpoint.scores['f']:.3f}"
                line = f"{job.name}: step {checkpoint.step}/{job.steps}: {scores}"
                self._print_once(job, str(checkpoint.step), line)
            state = record.state
            if state != "new":
                self._print_once(job, state, f"{job.name}: {state}")

    def _print_once(self, job: Job, what: str, line: str) -> None:
        if (job.key, what) not in self._printed:
            self._printed.add((job.key, what))
            self._console.print(line)


def memory_mib() -> float:
    """Measure the memory of this process and its descendants, in MiB.

    Pages that they share count once.
    """
    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # the process ended meanwhile
            continue
    return total / 2**20
