"""The rows of a sweep, from the ledger and from scores computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import (
    FIRST_FRAME_COPY,
    Scorer,
    Task,
    score_all,
    student_of,
    summary,
)
from orchestrator.planning.placement import cores
from orchestrator.planning.plan import Job, Plan
from orchestrator.planning.trials import trials
from orchestrator.reporting.results import COPY, Row
from orchestrator.reporting.split_scores import Split, SplitScores
from orchestrator.tracking.events import Checkpoint, Evaluated
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels import checkpoint
from vosmodels.model import VideoModel


@dataclass(frozen=True)
class _Entry:
    """A checkpoint that has a row of its own."""

    job: Job
    made: Checkpoint
    name: str
    role: str
    baseline: str | None = None


class SweepTable:
    """The rows of a plan, from the ledger and from scores computed once."""

    def __init__(self, plan: Plan, config: SweepConfig, storage: Storage) -> None:
        self.plan = plan
        self.config = config
        self.storage = storage
        self.ledger = Ledger(storage.root)
        self.select = Scorer(storage, ScoringProtocol.for_select(config.data))
        report = ScoringProtocol.for_report(config.data)
        self.report = Scorer(storage, report, errors=True) if report else None

    def rows(self) -> list[Row]:
        """Anchors, teacher, and the best checkpoint by select J&F of every trial; what lacks its
        scores is scored first."""
        entries = self._entries()
        threads = self.plan.trials[0].threads
        score_all(self._unscored(entries), at_once=cores() // threads, threads=threads)
        for scorer in (self.select, self.report):
            if scorer:
                scorer.copy()
        if self.report:
            for entry in entries:
                if entry.role != "teacher":
                    self._record(entry.job, entry.made, self.report)
        return self.so_far()

    def so_far(self) -> list[Row]:
        """The rows whose select scores are known, with what is known of their report."""
        copy = Row(COPY, "anchor", self._scores(FIRST_FRAME_COPY))
        rows = [copy, *(self._row(entry) for entry in self._entries())]
        return [row for row in rows if "select" in row.scores]

    def _entries(self) -> list[_Entry]:
        found = []
        stems = {}
        names = [stem.model.name for stem in self.plan.stems]
        for number, stem in enumerate(self.plan.stems, 1):
            several = f" ({stem.model.name if len(set(names)) == len(names) else number})"
            told = several if len(names) > 1 else ""
            stems[stem.key] = _stem_name(stem, stem.steps) + told
            for made in self.ledger.job(stem.key).checkpoints():
                found.append(_Entry(stem, made, _stem_name(stem, made.step) + told, "anchor"))
        if self.plan.teacher:
            for made in self.ledger.job(self.plan.teacher.key).checkpoints()[-1:]:
                found.append(_Entry(self.plan.teacher, made, "teacher", "teacher"))
        for job, trial in zip(self.plan.trials, trials(self.config), strict=True):
            record = self.ledger.job(job.key)
            if record.state == "done":
                best = max(record.checkpoints(), key=lambda c: (c.scores["jf"], c.sha256))
                points = self.config.sweep.points
                baseline = trial.baseline if points else stems[job.needs["stem"]]
                found.append(_Entry(job, best, job.name, "trial", baseline))
        return found

    def _unscored(self, entries: Sequence[_Entry]) -> list[Task]:
        """What lacks scores; jobs keep the select scores of their own checkpoints, so here it is
        the report, and the select split where it is another than when they ran."""
        tasks = []
        for entry in entries:
            for scorer in (self.select, self.report if entry.role != "teacher" else None):
                if scorer is not None and scorer.known(entry.made.sha256) is None:
                    tasks.append(scorer.task(entry.made.sha256, entry.job.model))
        return tasks

    def soup(self, sha256: str, note: str) -> Row:
        """The row of a soup of the plan's trials."""
        load = self._loader(sha256, self.plan.trials[0])
        for scorer in (self.select, self.report):
            if scorer:
                scorer.checkpoint(sha256, load)
        return Row("greedy soup", "soup", self._scores(sha256), sha256=sha256, note=note)

    def _row(self, entry: _Entry) -> Row:
        job, made = entry.job, entry.made
        scores = self._scores(made.sha256)
        if entry.role == "teacher":
            scores.pop("report", None)
        record = self.ledger.job(job.key)
        done = record.done()
        whole = done if job.role != "stem" or made.step == job.steps else None
        return Row(
            entry.name,
            entry.role,
            scores,
            step=made.step,
            sha256=made.sha256,
            seconds=whole.seconds if whole else None,
            peak_mib=whole.peak_mib if whole else None,
            note=record.warnings() if whole else "",
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

    def _record(self, job: Job, made: Checkpoint, scorer: Scorer) -> None:
        """Report scores go to the ledger too, so that MLflow shows them."""
        record = self.ledger.job(job.key)
        known = [e for e in record.of(Evaluated) if e.split == "report" and e.step == made.step]
        if not known:
            scores = scorer.checkpoint(made.sha256, self._loader(made.sha256, job))
            with record.claim():
                record.write(Evaluated(step=made.step, scores=summary(scores), split="report"))

    def _loader(self, sha256: str, job: Job) -> Any:
        def load() -> VideoModel:
            return student_of(job.model, checkpoint.read_tensors(self.storage.checkpoint(sha256)))

        return load


def _stem_name(stem: Job, step: int) -> str:
    """What a stem's checkpoint is called: it has one at its start and one at each stage's end."""
    if step == 0:
        return "untrained student"
    if step == stem.steps:
        return "stem: cross-entropy only"
    done = accumulate(stage.train.steps for stage in stem.stages)
    at = next(place for place, steps in enumerate(done) if steps == step)
    return f"stem after {stem.stages[at].name}"
