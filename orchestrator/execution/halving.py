"""Stop trials that fall behind by Ray's ASHA, which is told again what the ledger has.

Ray keeps the scores of the rungs in memory alone; after a restart it would stop fewer trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from orchestrator.execution.tune_hooks import SCORE, STEP, TASK, OfThisProcess, Task
from orchestrator.planning.plan import Job


class Halving(OfThisProcess, ASHAScheduler):  # type: ignore[misc]  # Ray has no types
    """Asynchronous successive halving (arXiv:1810.05934) of trials that are known by job key.

    Rungs are at first, first * factor, first * factor^2, ... steps, below the last step. A trial
    that reaches one goes on if it is among the best 1 / factor of those that reached it before.
    """

    def __init__(self, *, first: int, factor: float, steps: int) -> None:
        super().__init__(
            time_attr=STEP,
            metric=SCORE,
            mode="max",
            grace_period=first,
            max_t=max(first, steps - 1),  # what is at its end is not stopped
            reduction_factor=factor,
            stop_last_trials=False,
        )
        self._settings = first, factor, steps
        self.on_stop: Callable[[Job, int], None] = lambda job, step: None

    def recall(self, key: str, scores: Sequence[tuple[int, float]]) -> bool:
        """Record steps and scores of a job; return whether it would be stopped at the last."""
        trial = SimpleNamespace(trial_id=key)
        super().on_trial_add(None, trial)
        action = TrialScheduler.CONTINUE
        for step, score in scores:
            action = super().on_trial_result(None, trial, {STEP: step, SCORE: score})
        return bool(action == TrialScheduler.STOP)

    def stops(self, key: str, scores: Mapping[str, Sequence[tuple[int, float]]]) -> bool:
        """Return whether a job would be stopped at its last score, among all the others' scores."""
        first, factor, steps = self._settings
        fresh = Halving(first=first, factor=factor, steps=steps)
        for other, known in scores.items():
            if other != key:
                fresh.recall(other, known)
        return fresh.recall(key, scores[key])

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Take a trial in."""
        super().on_trial_add(controller, _by_key(trial))

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        action = str(super().on_trial_result(controller, _by_key(trial), result))
        if action == TrialScheduler.STOP:
            self.on_stop(_job_of(trial), result[STEP])
        return action

    def on_trial_complete(self, controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Keep what a trial scored; its rungs are recorded already."""

    def on_trial_remove(self, controller: Any, trial: Any) -> None:
        """Keep what a trial scored."""


def _job_of(trial: Any) -> Job:
    task: Task = trial.config[TASK]
    (job,) = task.jobs  # trials that may be stopped train alone
    return job


def _by_key(trial: Any) -> Any:
    return SimpleNamespace(trial_id=_job_of(trial).key)
