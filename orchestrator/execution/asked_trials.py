"""Give out trials whose values Optuna chooses while the sweep runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from orchestrator.execution.trial_source import ASHA, TrialSource
from orchestrator.planning.plan import Job, Plan
from orchestrator.planning.search import Study
from orchestrator.tracking.ledger import Ledger

logger = logging.getLogger(__name__)

TRIES = 100  # places in a row that are known or not allowed, after which nothing new is expected


@dataclass(frozen=True)
class Search:
    """Choose the trials of a sweep: by a study, and what plans the jobs of places.

    plan_at: raises ValidationError where the values of a place do not fit each other.
    most: trials that are asked for in all.
    """

    study: Study
    plan_at: Callable[[Sequence[Mapping[str, Any]]], Plan]
    most: int

    def job_at(self, values: Mapping[str, Any]) -> Job:
        """Plan the trial of a place. Raises ValidationError as `plan_at`."""
        return self.plan_at([values]).trials[0]

    def plan(self, drawn: Plan) -> Plan:
        """Return a plan with the trials that were asked for in place of those that were drawn."""
        places: list[Mapping[str, Any]] = []
        for asked in self.study.asked:
            if asked.values not in places:
                places.append(asked.values)
        known = self.plan_at(places)
        return replace(drawn, trials=known.trials, points=known.points)

    @property
    def left(self) -> int:
        """Count the trials that are still to be asked for."""
        return max(0, self.most - len(self.study.asked))


class AskedTrials(TrialSource):
    """Trials of a search: given ones first, which were asked for before, then new ones.

    A trial that failed gets no answer; the same command gives it out again.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        search: Search,
        ledger: Ledger,
        ends: float | None = None,
        on_new: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """Take what `TrialSource` takes and a search. on_new: called with each new job."""
        super().__init__(((job,) for job in jobs), ledger, ends)
        self._search = search
        self._on_new = on_new
        self._numbers: dict[str, int] = {}  # in the study, by job key
        for asked in search.study.asked:
            job = search.job_at(asked.values)
            self._numbers.setdefault(job.key, asked.number)
            if not asked.answered:
                self._answer(job)

    def next(self) -> tuple[Job, ...] | None:
        """Return a trial to run, as `TrialSource.next`; then those that are asked for."""
        jobs = super().next()
        if jobs is not None:
            return jobs
        asked = None if self.time_is_up else self._ask()
        return None if asked is None else (asked,)

    def ended(self, jobs: tuple[Job, ...]) -> None:
        """Answer the study with what a trial scored."""
        super().ended(jobs)
        for job in jobs:
            self._answer(job)

    def _ask(self) -> Job | None:
        study = self._search.study
        for _ in range(TRIES):
            if len(self._numbers) >= self._search.most:
                return None
            asked = study.ask()
            try:
                job = self._search.job_at(asked.values)
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                logger.warning("%s cannot be run (%s); another is asked", asked.values, reason)
                study.refuse(asked.number)
                continue
            if job.key in self._numbers:  # Optuna may ask for the same choices twice
                study.refuse(asked.number)
                continue
            self._numbers[job.key] = asked.number
            self.given.add(job.key)
            self._on_new(job)
            return job
        return None

    def _answer(self, job: Job) -> None:
        """Tell the study how a trial ended, if it did."""
        self._ledger.pull([job.key])
        record, number = self._ledger.job(job.key), self._numbers[job.key]
        stopped = self._stopped.get(job.key) or record.stopped()
        if record.state == "done":
            self._search.study.tell(number, max(c.scores["jf"] for c in record.checkpoints()))
        elif stopped is not None and stopped.why == ASHA:
            self._search.study.tell_stopped(number, record.scores())
