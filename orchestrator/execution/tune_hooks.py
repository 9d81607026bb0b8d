"""Connect a source of jobs with Ray Tune: what it runs next, stops and looks after meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.search import Searcher

from orchestrator.execution.trial_source import HOURS, TrialSource
from orchestrator.planning.plan import Job

STEP, SCORE, TASK = "step", "jf", "task"  # in the results and the configuration of a Ray trial


@dataclass(frozen=True, repr=False)
class Task:
    """Jobs in the configuration of a Ray trial, which Ray names by its text."""

    jobs: tuple[Job, ...]

    def __repr__(self) -> str:
        return self.jobs[0].key


class OfThisProcess:
    """Base of what Ray copies and stores for a restart of its own; one object, never stored."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return dict, ()


class Jobs(OfThisProcess, Searcher):  # type: ignore[misc]  # Ray has no types
    """Asks a source for jobs whenever there is room for one."""

    def __init__(self, source: TrialSource) -> None:
        super().__init__()
        self._source = source
        self.given: dict[str, tuple[Job, ...]] = {}  # by the trial's id in Ray

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of a further trial, None for not now, or that there is none."""
        jobs = self._source.next()
        if jobs is None:
            return Searcher.FINISHED
        if not jobs:
            return None
        self.given[trial_id] = jobs
        return {TASK: Task(jobs)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Take notice that a trial has ended, well or not, or was stopped."""
        self._source.ended(self.given.pop(trial_id))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the ledger has all that a restart needs."""


class OutOfTime(OfThisProcess, Stopper):  # type: ignore[misc]  # Ray has no types
    """Stops a trial at its next score when the source's time is up."""

    def __init__(self, source: TrialSource, jobs: Jobs) -> None:
        self._source = source
        self._jobs = jobs

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return whether a trial is to stop."""
        if STEP not in result or not self._source.time_is_up:
            return False
        for job in self._jobs.given[trial_id]:
            self._source.stop(job, result[STEP], HOURS)
        return True

    def stop_all(self) -> bool:
        """Return False: trials stop one by one, where they can be resumed."""
        return False


class Check(OfThisProcess, Callback):  # type: ignore[misc]  # Ray has no types
    """Calls a function several times a second, and writes which jobs were stopped."""

    def __init__(self, check: Callable[[], None], source: TrialSource) -> None:
        self._check = check
        self._source = source

    def on_step_begin(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Do so; what the function raises ends the round."""
        self._check()
        self._source.settle()
