"""Follow a whole sweep: copy its ledger to MLflow, show on stderr how far it is.

`pace` tells how far each job is, this module when that is read, copied and shown.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

import psutil
from rich.live import Live
from rich.table import Table

from orchestrator.execution.pace import (
    AT_WORK,
    HEAD,
    Counted,
    JobPace,
    Total,
    duration,
    fitting,
)
from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_store import waiting_for_mlflow
from vosmodels.support.grid import Grid, screen

logger = logging.getLogger(__name__)

POLL_S = 2.0
MEMORY_EVERY = 5  # polls between two measurements of memory
SAY_S = 30.0  # between two lines of counted work without a terminal
MARGIN = 3  # lines of a screen beside the rows: the head, the total, the cursor


class OnCount(Protocol):
    """Take notice of counted work: parts done, parts in all, a score where there is one."""

    def __call__(self, done: int, of: int, jf: float | None = None) -> None: ...


class ProgressWatcher:
    """Thread that copies the records of a sweep's jobs to MLflow and shows its progress.

    Shows a table that redraws itself on a terminal, whose last state stays there, and a line per
    event elsewhere. `project` copies one job's record. If the store cannot be reached, the next
    poll tries again: training never waits for MLflow.
    on_done: called after a poll that found further jobs done. trials: as `pace.Total` takes it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        ledger: Ledger,
        project: Callable[[JobRecord], None],
        on_done: Callable[[], None] = lambda: None,
        trials: Sequence[int] = (),
    ) -> None:
        self.peak_mib: float | None = None  # None before the first measurement
        self._ledger = ledger
        self._project = project
        self._on_done = on_done
        self._scored_s: dict[str, list[float]] = {}
        self._paces = {job.key: self._pace(job) for job in jobs}
        self._further: dict[str, JobRecord] = {}  # copied, but without a row
        self._counted: list[Counted] = []
        self._total = Total(trials)
        self._done = self._done_keys()
        self._console = screen(stderr=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._printed: set[tuple[str, str]] = set()
        self._said: dict[str, float] = {}  # name of counted work -> when its last line was said
        self._polls = 0
        self._unreachable = False

    def follow(self, job: Job) -> None:
        """Follow a further job."""
        if job.key not in self._paces:
            self._paces = {**self._paces, job.key: self._pace(job)}

    def copy(self, record: JobRecord) -> None:
        """Copy a further record, which has no row of its own."""
        self._further = {**self._further, record.key: self._ledger.job(record.key)}

    def count(self, name: str, unit: str) -> OnCount:
        """Show counted work in a row below the jobs, from the first call on of what is returned."""
        work = Counted(name, unit, time.monotonic())

        def on_count(done: int, of: int, jf: float | None = None) -> None:
            if work not in self._counted:
                work.began = time.monotonic()
                self._counted = [*self._counted, work]
            if jf is not None:
                work.jf = max(jf, work.jf or 0.0)
            work.done, work.of = done, of

        return on_count

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
                for record in self._records():
                    self._project(record)

    def _pace(self, job: Job) -> JobPace:
        return JobPace(job, self._ledger.job(job.key), self._scored_s)

    def _records(self) -> list[JobRecord]:
        return [*(pace.record for pace in self._paces.values()), *self._further.values()]

    def _done_keys(self) -> set[str]:
        return {key for key, pace in self._paces.items() if pace.state == "done"}

    def _run(self) -> None:
        if not sys.stderr.isatty():
            before = sum(pace.before for pace in self._paces.values())
            if before:
                self._console.print(f"{before} of {len(self._paces)} jobs were done before")
            while not self._closing.wait(POLL_S):
                self._poll()
                self._print_events()
            self._poll(copy=False)
            self._print_events(last=True)
            return
        with Live(self._table(), console=self._console) as live:
            while not self._closing.wait(POLL_S):
                self._poll()
                self._print_warnings()
                live.update(self._table(self._console.size.height - MARGIN))
            self._poll(copy=False)
            self._print_warnings()
            live.update(self._table())

    def _poll(self, *, copy: bool = True) -> None:
        now, paces = time.monotonic(), list(self._paces.values())
        for pace in paces:
            pace.update(now)
        if self._polls % MEMORY_EVERY == 0 and any(pace.state in AT_WORK for pace in paces):
            self.peak_mib = max(self.peak_mib or 0.0, memory_mib())
        self._polls += 1
        if copy:
            self._copy()
        if done := self._done_keys() - self._done:
            self._done |= done
            try:
                self._on_done()
            except Exception as error:  # the next job that is done calls it again
                logger.warning("after a finished job: %s: %s", type(error).__name__, error)

    def _copy(self) -> None:
        for record in self._records():
            try:
                self._project(record)
                self._unreachable = False
            except Exception as error:  # clients of stores raise all kinds of errors
                if not self._unreachable:
                    logger.warning(
                        "MLflow cannot be reached (%s); events wait in the ledger", error
                    )
                self._unreachable = True
                return

    def _table(self, most: int | None = None) -> Table:
        """Lay out a row per job and counted work, and their total. most: rows that fit."""
        now, paces = time.monotonic(), list(self._paces.values())
        below = [work.cells(now) for work in self._counted]
        below.append(self._total.cells(paces, now))
        rows = [pace.cells(now) for pace in paces]
        if most is not None:
            rows = fitting(rows, max(1, most - len(below)))
        return Grid(HEAD, [*rows, *below], left=(0, 1)).terminal()

    def _print_warnings(self) -> None:
        """Print new warnings, on a terminal above the table."""
        for pace in self._new():
            for warning in pace.record.of(events.Warned):
                line = f"{pace.job.name}: warning: {warning.text}"
                self._print_once(pace, warning.text, line)

    def _print_events(self, *, last: bool = False) -> None:
        self._print_warnings()
        for pace in self._new():
            job, record = pace.job, pace.record
            for made in record.of(events.Segmented):
                line = f"{job.name}: teacher's masks of {made.done}/{made.of} videos"
                self._print_once(pace, f"masks {made.done}/{made.of}", line)
            for checkpoint in record.checkpoints():
                scores = f"J {checkpoint.scores['j']:.3f} F {checkpoint.scores['f']:.3f}"
                line = f"{job.name}: step {checkpoint.step}/{job.steps}: {scores}{self._in_all()}"
                self._print_once(pace, str(checkpoint.step), line)
            if record.state != "new":
                self._print_once(pace, record.state, f"{job.name}: {record.state}")
        for work in self._counted:
            self._say(work, last)

    def _new(self) -> list[JobPace]:
        """List the jobs that were not done before, of which there is something to say."""
        return [pace for pace in self._paces.values() if not pace.before]

    def _in_all(self) -> str:
        now = time.monotonic()
        done, steps, left_s = self._total.of(list(self._paces.values()), now)
        left = f", {duration(left_s)} left" if left_s is not None else ""
        return f"; {done} of {steps} steps in all{left}"

    def _say(self, work: Counted, last: bool) -> None:
        """Print how far counted work is, every SAY_S and at its end."""
        now = time.monotonic()
        ended = last or work.done >= work.of
        if not ended and now - self._said.setdefault(work.name, work.began) < SAY_S:
            return
        left = duration(work.left_s(now))
        line = f"{work.name}: {work.done} of {work.of} {work.unit}"
        if (work.name, line) not in self._printed:
            self._printed.add((work.name, line))
            self._said[work.name] = now
            self._console.print(line + (f", {left} left" if left and not ended else ""))

    def _print_once(self, pace: JobPace, what: str, line: str) -> None:
        if (pace.job.key, what) not in self._printed:
            self._printed.add((pace.job.key, what))
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
