"""Tell how far jobs and other work are, and how long they take yet, from what is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from orchestrator.planning.plan import Job
from orchestrator.tracking import events
from orchestrator.tracking.ledger import JobRecord

HEAD = ("job", "state", "step", "loss", "J&F", "steps/s", "data", "left")
AT_WORK = ("starting", "labels", "training", "scoring")
FIRST = ("failed", *AT_WORK)  # the rows that a screen too small for all shows


class JobPace:
    """Tell how far a job is, and its pace.

    scored_s: seconds that scoring a model took here, by its name; all jobs of a sweep share it.
    """

    def __init__(self, job: Job, record: JobRecord, scored_s: dict[str, list[float]]) -> None:
        self.job = job
        self.record = record
        self._scored_s = scored_s
        self._due = scored_at(job)  # steps after which the job is scored
        self._scoring: tuple[int, float] | None = None  # the step, and since when
        self.update(0.0)
        self._scoring = None  # it began before this process looked
        self.before = self.state == "done"  # by an earlier command

    def update(self, now: float) -> None:
        """Read what the job recorded. now: seconds of a clock that all calls share."""
        record = self.record
        losses, scores = record.losses(), record.scores()
        self.step = losses[-1].step if losses else 0
        self.loss = losses[-1].values.get("total") if losses else None
        self.jf = max((jf for _, jf in scores), default=None)
        last = scores[-1][0] if scores else 0
        self.state: str = record.state
        if self.state == "running":
            masks = record.of(events.Segmented)
            self.state = "training" if losses else "labels" if masks else "starting"
            if self.step in self._due and self.step > last:
                self.state = "scoring"
        elif self.state == "new":
            self.state = "waiting"
        elif self.state == "done":
            self.step = self.job.steps
        self._time_scoring(now)

    @property
    def trained_by(self) -> str | None:
        """The sweep that started the job last; None before the first."""
        started = self.record.started()
        return started.sweep if started else None

    @property
    def elsewhere(self) -> bool:
        """True where a job was started last by another sweep."""
        return self.trained_by not in (None, self.job.sweep)

    def _time_scoring(self, now: float) -> None:
        """Note since when the job is scored, and how long it took when that ends."""
        if self.state == "scoring":
            if self._scoring is None or self._scoring[0] != self.step:
                self._scoring = (self.step, now)
            return
        if self._scoring is not None and self.state in ("training", "done"):
            took = self._scored_s.setdefault(self.job.model.name, [])
            took.append(now - self._scoring[1])
        self._scoring = None

    @property
    def steps_per_s(self) -> float | None:
        """Steps a second while it trains, without the time in which it is scored."""
        speed = self.record.of(events.Speed)
        if not speed or speed[-1].values["samples_per_s"] <= 0:
            return None
        return speed[-1].values["samples_per_s"] / self._batch_size(speed[-1].step)

    def _batch_size(self, step: int) -> int:
        for stage in self.job.stages:
            if step <= stage.train.steps:
                return stage.train.batch_size
            step -= stage.train.steps
        return self.job.stages[-1].train.batch_size

    def left_s(self, now: float) -> float | None:
        """Estimate the seconds that the job takes yet; None where it cannot be told."""
        rate = self.steps_per_s
        if self.state not in ("training", "scoring") or rate is None:
            return None
        took = self._scored_s.get(self.job.model.name)
        each = median(took) if took else None
        later = sum(due > self.step for due in self._due)
        left = (self.job.steps - self.step) / rate + later * (each or 0.0)
        if self._scoring is None:
            return left
        return None if each is None else left + max(0.0, each - (now - self._scoring[1]))

    def cells(self, now: float) -> tuple[str, ...]:
        """Lay out the row under HEAD; J&F is the best so far, by which checkpoints are chosen."""
        step = f"{self.step}/{self.job.steps}"
        if self.state == "labels":
            masks = self.record.of(events.Segmented)[-1]
            step = f"masks {masks.done}/{masks.of}"
        loss = "" if self.loss is None else f"{self.loss:.4g}"
        jf = "" if self.jf is None else f"{self.jf:.3f}"
        rate, waits = self.steps_per_s, ""
        if self.state not in ("training", "scoring"):
            rate = None
        elif speed := self.record.of(events.Speed):
            waits = f"{speed[-1].values['data_wait']:.0%}"
        done = self.record.done()
        end = f"took {duration(done.seconds)}" if done else duration(self.left_s(now))
        speed_cell = "" if rate is None else f"{rate:.2f}"
        return self.job.name, self.state, step, loss, jf, speed_cell, waits, end


@dataclass(eq=False)
class Counted:
    """Work beside the jobs: rows or candidates of a soup that are scored, in so many parts."""

    name: str
    unit: str
    began: float  # by the clock of `JobPace.update`
    of: int = 0
    done: int = 0
    jf: float | None = None  # the best so far

    def left_s(self, now: float) -> float | None:
        """Estimate the seconds left; None before the first part is done."""
        return (now - self.began) / self.done * (self.of - self.done) if self.done else None

    def cells(self, now: float) -> tuple[str, ...]:
        """Lay out the row under HEAD."""
        at_work, jf = self.done < self.of, "" if self.jf is None else f"{self.jf:.3f}"
        state = "scoring" if at_work else "done"
        left = duration(self.left_s(now)) if at_work else ""
        return self.name, state, f"{self.done}/{self.of} {self.unit}", "", jf, "", "", left


@dataclass
class Total:
    """The steps of all jobs of a sweep together.

    trials: steps of each trial that the sweep has in all, where a search asks for them one by one.
    """

    trials: Sequence[int] = ()
    _start: tuple[float, int] | None = field(default=None, init=False)

    def of(self, jobs: Sequence[JobPace], now: float) -> tuple[int, int, float | None]:
        """Return steps done, steps in all and the seconds left, None where they cannot be told.

        What a sweep stopped or lost has no steps left. Seconds by what all jobs did together since
        the first of them was at work here.
        """
        done = sum(pace.step for pace in jobs)
        ended = ("done", "stopped", "failed")
        steps = sum(p.step if p.state in ended else p.job.steps for p in jobs)
        steps += sum(self._to_come(jobs))
        if self._start is None and any(pace.state in AT_WORK for pace in jobs):
            self._start = (now, done)
        if self._start is None or done <= self._start[1]:
            return done, steps, None
        since, before = self._start
        return done, steps, (now - since) / (done - before) * (steps - done)

    def cells(self, jobs: Sequence[JobPace], now: float) -> tuple[str, ...]:
        """Lay out the row of all jobs under HEAD."""
        done, steps, left = self.of(jobs, now)
        ended = sum(pace.state == "done" for pace in jobs)
        state = f"{ended}/{len(jobs) + len(self._to_come(jobs))} done"
        rest = duration(left) if done < steps else ""
        return "all", state, f"{done}/{steps}", "", "", "", "", rest

    def _to_come(self, jobs: Sequence[JobPace]) -> Sequence[int]:
        """Return the steps of each trial that is still to be asked for."""
        return self.trials[sum(pace.job.role == "trial" for pace in jobs) :]


def scored_at(job: Job) -> list[int]:
    """List the steps after which a job is scored: a trial where it says so, others per stage."""
    before, steps = 0, list[int]()
    for stage in job.stages:
        train = stage.train
        every = (train.checkpoint_every, train.eval_every) if job.role == "trial" else ()
        ends = {n for step in every for n in range(step, train.steps, step)} | {train.steps}
        steps += sorted(before + n for n in ends)
        before += train.steps
    return steps


def duration(seconds: float | None) -> str:
    """Write a time that is left, in s, min or h; empty for None."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def fitting(rows: Sequence[tuple[str, ...]], most: int) -> list[tuple[str, ...]]:
    """Choose the rows of jobs that a screen has room for; the last one counts the others by state.

    First those at work and those that failed, then the newest that ended, then those to come next.
    """
    if len(rows) <= most:
        return list(rows)
    waiting = [n for n, row in enumerate(rows) if row[1] == "waiting"]
    ended = [n for n, row in enumerate(rows) if row[1] not in (*FIRST, "waiting")]
    first = [n for n, row in enumerate(rows) if row[1] in FIRST]
    shown = sorted([*first, *reversed(ended), *waiting][: max(0, most - 1)])
    others = Counter(row[1] for n, row in enumerate(rows) if n not in shown)
    text = ", ".join(f"{count} {state}" for state, count in others.items())
    return [
        *(rows[n] for n in shown),
        (f"and {others.total()} more", text, *[""] * (len(HEAD) - 2)),
    ]
