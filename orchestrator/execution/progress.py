"""Follow a whole sweep: show on stderr how far it is, while `copying` copies its ledger to MLflow.

`pace` tells how far each job is, this module when that is read and shown.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

from rich.live import Live
from rich.table import Table

from orchestrator.execution.copying import Copier
from orchestrator.execution.pace import (
    AT_WORK,
    HEAD,
    Counted,
    JobPace,
    Total,
    duration,
    fitting,
)
from orchestrator.execution.usage import memory_bytes
from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord, Ledger
from vosmodels.errors import InputError
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
    """Thread that shows the progress of a sweep; beside it another one copies to MLflow.

    Shows a table that redraws itself on a terminal, whose last state stays there, and a line per
    event elsewhere. `project` copies one job's record: neither the table nor training waits for it,
    and what it has not copied at the end is left to the caller.
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
        self._copier = Copier([job.key for job in jobs], ledger, project)
        self._on_done = on_done
        self._scored_s: dict[str, list[float]] = {}
        self._paces = {job.key: self._pace(job) for job in jobs}
        self._counted: list[Counted] = []
        self._total = Total(trials)
        self._done = self._done_keys()
        self._console = screen(stderr=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._printed: set[tuple[str, str]] = set()
        self._said: dict[str, float] = {}  # name of counted work -> when its last line was said
        self._polls = 0
        self._others: set[str] = set()  # keys of jobs that another sweep was at, one poll ago

    @property
    def keys(self) -> list[str]:
        """Return the keys of all jobs that are copied."""
        return self._copier.keys

    def follow(self, job: Job) -> None:
        """Follow a further job."""
        if job.key not in self._paces:
            self._paces = {**self._paces, job.key: self._pace(job)}
            self._copier.follow(job.key)

    def copy(self, record: JobRecord) -> None:
        """Copy a further record, which has no row of its own."""
        self._copier.follow(record.key)

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
        self._copier.__enter__()
        return self

    def __exit__(self, *ended: object) -> None:
        self._closing.set()
        self._thread.join()
        self._copier.__exit__(*ended)

    def _pace(self, job: Job) -> JobPace:
        return JobPace(job, self._ledger.job(job.key), self._scored_s)

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
            self._poll()
            self._print_events(last=True)
            return
        with Live(self._table(), console=self._console) as live:
            while not self._closing.wait(POLL_S):
                self._poll()
                self._print_warnings()
                live.update(self._table(self._console.size.height - MARGIN))
            self._poll()
            self._print_warnings()
            live.update(self._table())

    def _pull(self) -> None:
        """Take from a store what jobs on other nodes have recorded."""
        try:
            self._ledger.pull([pace.job.key for pace in self._paces.values() if not pace.before])
        except InputError as error:  # the driver stops by it where it needs the store itself
            logger.warning("%s", error)

    def _poll(self) -> None:
        self._pull()
        now, paces = time.monotonic(), list(self._paces.values())
        for pace in paces:
            if pace.state != "done":
                pace.update(now)
        if self._polls % MEMORY_EVERY == 0 and any(pace.state in AT_WORK for pace in paces):
            self.peak_mib = max(self.peak_mib or 0.0, memory_bytes() / 2**20)
        self._polls += 1
        self._look_elsewhere(paces)
        if done := self._done_keys() - self._done:
            self._done |= done
            try:
                self._on_done()
            except Exception as error:  # the next job that is done calls it again
                logger.warning("after a finished job: %s: %s", type(error).__name__, error)

    def _look_elsewhere(self, paces: Sequence[JobPace]) -> None:
        """Find the jobs that another sweep trains, and say so of each that this one waits for.

        That sweep copies them to MLflow; this one completes the copy when it ends itself.
        """
        others = {p.job.key for p in paces if not p.before and p.elsewhere}
        for pace in paces:
            if pace.job.key in others & self._others and pace.record.claimed:
                sweep, holder = pace.trained_by, pace.record.holder_name
                line = f"{pace.job.name}: waits for sweep {sweep}, which trains it ({holder})"
                self._print_once(pace, "elsewhere", line)
        self._others = others
        self._copier.leave(others)

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
        """List the jobs of which there may be something to say."""
        paces = self._paces.values()
        return [p for p in paces if not (p.before or (p.job.key, "done") in self._printed)]

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
