"""Ask Optuna which values to try next, and tell it what they scored.

Optuna's study is a journal file in the storage folder. A value that was asked for and not answered
belongs to a trial that is at work, or whose process died: it is given out again, not asked anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config import RunConfig, SweepConfig, ranges
from orchestrator.config.content_key import canonical, digest
from vosmodels.support.seeding import seed_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import JournalStorage

MOST_STARTUP = 10  # trials at random before the model of Optuna's TPE
STARTUP_SHARE = 4  # one in so many of a small budget


@dataclass(frozen=True)
class Asked:
    """A place that was asked for: its number in the study, its values, whether it is answered."""

    number: int
    values: Mapping[str, Any]
    answered: bool


class Study:
    """A search by Optuna's TPE, which maximises a score.

    Another set of keys or ranges is another study in the same file. The sampler is seeded by the
    number of the trial, so that an interrupted search asks what an unbroken one would have asked
    of the same answers.
    """

    def __init__(self, path: Path, config: SweepConfig) -> None:
        """Open the study of a sweep in a journal file, or begin it; only that writes."""
        import optuna

        parameters = config.sweep.parameters
        self._varied = {k: ranges.read(RunConfig, k, of) for k, of in parameters.items()}
        self._seed = config.seed
        self._startup = min(MOST_STARTUP, (config.sweep.max_trials or 1) // STARTUP_SHARE + 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        storage, name = _journal(path), _name(config)
        if name in optuna.get_all_study_names(storage):
            self._study = optuna.load_study(study_name=name, storage=storage)
        else:
            self._study = optuna.create_study(
                study_name=name, storage=storage, direction="maximize"
            )

    @classmethod
    def begun(cls, path: Path, config: SweepConfig) -> Study | None:
        """Open the study of a sweep; None where it has not begun. Writes nothing."""
        import optuna

        if not path.exists() or _name(config) not in optuna.get_all_study_names(_journal(path)):
            return None
        return cls(path, config)

    @property
    def asked(self) -> list[Asked]:
        """Return every place that was asked for and not refused, in order."""
        from optuna.trial import TrialState

        return [
            Asked(trial.number, self._values(trial.params), trial.state.is_finished())
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state != TrialState.FAIL and trial.params.keys() == self._varied.keys()
        ]

    def ask(self) -> Asked:
        """Ask for another place."""
        import optuna

        number = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed_of(self._seed, "optuna", number) % 2**32,
            n_startup_trials=self._startup,
            constant_liar=True,  # trials at work count as bad, so that others are tried elsewhere
        )
        trial = self._study.ask({key: _distribution(one) for key, one in self._varied.items()})
        return Asked(trial.number, self._values(trial.params), answered=False)

    def tell(self, number: int, score: float) -> None:
        """Answer with the score of a trial that ran to its end."""
        self._study.tell(number, score, skip_if_finished=True)  # one that was stopped went on

    def tell_stopped(self, number: int, scores: Sequence[tuple[int, float]]) -> None:
        """Answer with the steps and scores of a trial that was stopped early."""
        import optuna

        known = self._study.get_trials(deepcopy=False)[number]
        if known.state.is_finished():
            return
        trial = optuna.trial.Trial(self._study, known._trial_id)
        for step, score in scores:
            trial.report(score, step)
        self._study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def refuse(self, number: int) -> None:
        """Answer that a place cannot be run, or was there before."""
        import optuna

        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        values = {}
        for key, one in self._varied.items():
            value = params[key]
            if isinstance(one, ranges.Choice):
                value = json.loads(value)
            elif not one.whole:
                value = one.rounded(value)
            values[key] = value
        return values


def _journal(path: Path) -> JournalStorage:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(str(path)))


def _name(config: SweepConfig) -> str:
    return digest([config.sweep.parameters, config.seed])


def _distribution(one: ranges.Varied) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(one, ranges.Choice):  # Optuna takes text and numbers; a value may be a list
        return CategoricalDistribution([canonical(value) for value in one.values])
    log = one.scale == "loguniform"
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=log)
    return FloatDistribution(one.low, one.high, log=log)
