"""Turn a sweep's plan and ledger into rows, scoring checkpoints that lack scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from orchestrator.config import SweepConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import (
    FIRST_FRAME_COPY,
    FrameCount,
    OnFrames,
    Scorer,
    Task,
    score_all,
    student_of,
    summary,
)
from orchestrator.planning.placement import cores
from orchestrator.planning.plan import Job, Plan
from orchestrator.reporting.results import BASELINE, COPY, Row
from orchestrator.reporting.split_scores import Split, SplitScores
from orchestrator.tracking.events import Checkpoint, Evaluated, Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from vosmodels import checkpoint
from vosmodels.evaluation import strata
from vosmodels.model import VideoModel


@dataclass(frozen=True)
class Entry:
    """Pair a job's checkpoint with the name, role and baseline of its row."""

    job: Job
    event: Checkpoint
    name: str
    role: str
    baseline: str | None = None


class SweepTable:
    """Make the rows of a plan from the ledger and from scores that are computed once."""

    SOUP = "greedy soup"  # the name of its row

    def __init__(self, plan: Plan, config: SweepConfig, storage: Storage) -> None:
        self.plan = plan
        self.config = config
        self.storage = storage
        self.ledger = Ledger.of(storage)
        self.select = Scorer(storage, ScoringProtocol.for_select(config.data))
        report = ScoringProtocol.for_report(config.data)
        self.report = Scorer(storage, report, errors=True) if report else None

    def rows(self, on_frames: OnFrames = lambda done, of: None) -> list[Row]:
        """Score what lacks scores, copy report scores to the ledger, and return all rows.

        These are the baseline rows, the teacher, and the best checkpoint of every finished trial.
        """
        entries = self.entries()
        threads = self.plan.jobs[0].threads
        score_all(
            self._unscored(entries),
            at_once=cores() // threads,
            threads=threads,
            on_frames=on_frames,
        )
        for scorer in (self.select, self.report):
            if scorer:
                scorer.copy()
        if self.report:
            for entry in entries:
                if entry.role != "teacher":
                    self._record(entry.job, entry.event, self.report)
        return self.so_far()

    def so_far(self) -> list[Row]:
        """Return the rows whose select scores are known, with any known report."""
        copy = Row(COPY, BASELINE, self._scores(FIRST_FRAME_COPY))
        rows = [copy, *(self._row(entry) for entry in self.entries())]
        return [row for row in rows if "select" in row.scores]

    def entries(self) -> list[Entry]:
        """List the checkpoints that have rows.

        These are all of the stems, the teacher's last, and the best of each trial.
        A trial counts when its job is done, or when the sweep stopped it after a checkpoint; its
        best checkpoint has the highest select J&F.
        """
        entries = []
        last_stems = {}  # by key: the name of the row that trials of this stem are compared with
        names = [stem.model.name for stem in self.plan.stems]
        for number, stem in enumerate(self.plan.stems, 1):
            label = stem.model.name if len(set(names)) == len(names) else number
            suffix = f" ({label})" if len(names) > 1 else ""
            last_stems[stem.key] = _stem_name(stem, stem.steps) + suffix
            for event in self.ledger.job(stem.key).checkpoints():
                name = _stem_name(stem, event.step) + suffix
                entries.append(Entry(stem, event, name, BASELINE))
        if self.plan.teacher:
            for event in self.ledger.job(self.plan.teacher.key).checkpoints()[-1:]:
                entries.append(Entry(self.plan.teacher, event, "teacher", "teacher"))
        for job, trial in zip(self.plan.trials, self.plan.points, strict=True):
            record = self.ledger.job(job.key)
            if record.state in ("done", "stopped") and record.checkpoints():
                best = max(record.checkpoints(), key=lambda c: (c.scores["jf"], c.sha256))
                points = self.config.sweep.points
                baseline = trial.baseline if points else last_stems[job.needs["stem"]]
                entries.append(Entry(job, best, job.name, "trial", baseline))
        return entries

    def _unscored(self, entries: Sequence[Entry]) -> list[Task]:
        """List the scoring tasks that are left.

        Jobs keep the select scores of their checkpoints, so these are tasks of the report split,
        and of a select split that has changed since the jobs ran.
        """
        tasks = []
        for entry in entries:
            for scorer in (self.select, self.report if entry.role != "teacher" else None):
                if scorer is not None and scorer.known(entry.event.sha256) is None:
                    seen = self.select.known(entry.event.sha256)
                    fps = seen.fps if seen else None
                    tasks.append(scorer.task(entry.event.sha256, entry.job.model, fps))
        return tasks

    def soup(self, sha256: str, note: str, on_frames: OnFrames = lambda done, of: None) -> Row:
        """Score a soup of the plan's trials on both splits and return its row."""
        load = self._loader(sha256, self.plan.trials[0])
        left = [s for s in (self.select, self.report) if s and s.known(sha256) is None]
        count = FrameCount(sum(scorer.frames for scorer in left), on_frames)
        for scorer in left:
            scorer.checkpoint(sha256, load, count)
        return Row(self.SOUP, "soup", self._scores(sha256), sha256=sha256, note=note)

    def reused(self) -> list[Job]:
        """List the jobs that another sweep began, whose runs in MLflow are below that sweep."""
        first = {job.key: self.ledger.job(job.key).of(Started)[:1] for job in self.plan.jobs}
        return [j for j in self.plan.jobs if any(e.sweep != self.plan.sweep for e in first[j.key])]

    def _row(self, entry: Entry) -> Row:
        job, event = entry.job, entry.event
        scores = self._scores(event.sha256)
        if entry.role == "teacher":
            scores.pop("report", None)
        record = self.ledger.job(job.key)
        # A stem's cost belongs to its last checkpoint, not to those on the way.
        done = record.done() if job.role != "stem" or event.step == job.steps else None
        return Row(
            entry.name,
            entry.role,
            scores,
            step=event.step,
            sha256=event.sha256,
            seconds=done.seconds if done else None,
            peak_mib=done.peak_mib if done else None,
            note="; ".join(filter(None, (_stop(record, job), record.warnings() if done else ""))),
            baseline=entry.baseline,
            curve=[(c.step, c.scores["j"]) for c in record.checkpoints()]
            if entry.role == "trial"
            else (),
        )

    def _scores(self, name: str) -> dict[Split, SplitScores]:
        """Look up what is known of a checkpoint, or of the copy, by split."""
        scorers: dict[Split, Scorer | None] = {"select": self.select, "report": self.report}
        known: dict[Split, SplitScores] = {}
        for split, scorer in scorers.items():
            scores = scorer.known(name) if scorer else None
            if scorer and scores:
                known[split] = SplitScores.of(scores, scorer.boundary(name))
        return known

    def _record(self, job: Job, event: Checkpoint, scorer: Scorer) -> None:
        """Write a checkpoint's report scores to the ledger, unless they are there.

        MLflow shows what the ledger has.
        """
        record = self.ledger.job(job.key)
        known = [e for e in record.of(Evaluated) if e.split == "report" and e.step == event.step]
        if not known:
            scores = scorer.checkpoint(event.sha256, self._loader(event.sha256, job))
            values = summary(scores) | strata.metrics(scores)
            with record.claim():
                record.write(Evaluated(step=event.step, scores=values, split="report"))

    def _loader(self, sha256: str, job: Job) -> Callable[[], VideoModel]:
        def load() -> VideoModel:
            return student_of(job.model, checkpoint.read_tensors(self.storage.checkpoint(sha256)))

        return load


def _stop(record: JobRecord, job: Job) -> str:
    """Say where the sweep stopped a job; empty where it did not."""
    stopped = record.stopped()
    return f"stopped by {stopped.why} at step {stopped.at} of {job.steps}" if stopped else ""


def _stem_name(stem: Job, step: int) -> str:
    """Name a stem's checkpoint: one at its start, one at each stage's end.

    The last one is named by the loss that it was trained with.
    """
    if step == 0:
        return "student as given" if stem.model.weights else "untrained student"
    if step == stem.steps:
        if stem.loss.needs_teacher:
            return "stem: distilled"
        return "stem: cross-entropy only" if stem.loss.ce else "stem: dice only"
    ends = accumulate(stage.train.steps for stage in stem.stages)
    stage = stem.stages[list(ends).index(step)]
    return f"stem after {stage.name}"
