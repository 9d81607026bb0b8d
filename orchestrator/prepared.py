"""Check what a sweep needs, and plan it: what running and a dry run do alike."""

from __future__ import annotations

import logging
from functools import partial

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.sections import MODEL
from orchestrator.execution import driver
from orchestrator.execution.asked_trials import Search
from orchestrator.execution.older_code import OlderCode, older_code
from orchestrator.execution.precision import emulated, precision_of
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Plan, Planner, plan_sweep
from orchestrator.planning.preflight import Missing, check
from orchestrator.planning.search import Study
from orchestrator.planning.taps import dead_taps
from orchestrator.planning.trials import idle_keys, trials, trials_at
from orchestrator.tracking.checkpoint_refs import find
from orchestrator.tracking.mlflow_store import Store, locate
from orchestrator.tracking.mlflow_store import check as check_store
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError

logger = logging.getLogger(__name__)


def ready(config: SweepConfig, tracking_uri: str | None) -> SweepConfig:
    """Replace weights of models:/ID by files, and check data and weights.

    Raises Missing with all problems; InputError with these too where the storage folder or the
    store cannot be written to.
    """
    for line in idle_keys(config) + dead_taps(config) + emulated(config):
        logger.warning("%s", line)
    changes, problems, broken = {}, list[str](), frozenset[str]()
    unusable = _unusable(config, tracking_uri)
    for section in ("student", "teacher"):
        model = getattr(config, section)
        if model.weights and model.weights.startswith(MODEL):
            file = None
            try:
                uri = tracking_uri or config.tracking.uri
                file = str(find(model.weights, uri, config.storage_root).path)
            except InputError as error:
                problems.append(f"{section}.weights: {error}")
            changes[section] = model.model_copy(update={"weights": file})
    config = config.model_copy(update=changes)
    try:
        check(config)
    except Missing as error:
        problems += error.problems
        broken = error.unusable
    if unusable:
        raise InputError("; ".join(unusable + problems))
    if problems:
        raise Missing(problems, broken)
    return config


def _unusable(config: SweepConfig, tracking_uri: str | None) -> list[str]:
    """List why storage and store cannot be written to. Raises UsageError as `locate`."""
    store, problems = store_of(config, tracking_uri), dict[str, str]()
    for key, attempt in (
        ("storage", Storage(config.storage_root).check),
        ("tracking.uri", partial(check_store, store)),
    ):
        try:
            attempt()
        except InputError as error:
            problems.setdefault(str(error), key)  # the default store lies in the storage
    return [f"{key}: {problem}" for problem, key in problems.items()]


def take_up(storage: Storage) -> None:
    """Begin to work with a storage folder, and take what the store has of sweeps, if there is one.

    Raises InputError as `Mirror.begin`.
    """
    storage.mirror.begin()
    storage.mirror.pull(*(storage.sweeps / name for name in storage.mirror.names(storage.sweeps)))


def store_of(config: SweepConfig, tracking_uri: str | None) -> Store:
    """Choose the MLflow store of a sweep. Raises UsageError as `locate`."""
    return locate(tracking_uri or config.tracking.uri, config.storage_root)


def plan_of(config: SweepConfig, storage: Storage, sweep: str) -> Plan:
    """Plan a sweep. Raises InputError where Optuna would choose what a stem is trained with."""
    count = len(trials(config))
    threads = driver.threads_of(config, storage, sweep, count)
    plan = plan_sweep(config, sweep, threads, precision_of(config, storage, sweep))
    if config.sweep.search == "optuna" and len(plan.stems) > 1:
        raise InputError(
            f"sweep.search optuna: {', '.join(config.sweep.parameters)}: one of them changes the "
            "stem, of which all trials of a search share one; take sweep.search=random"
        )
    return plan


def older_code_of(config: SweepConfig, tracking_uri: str | None) -> OlderCode:
    """Find the jobs of a sweep that other code trained. Raises as `ready` and `plan_of`."""
    storage, sweep = Storage(config.storage_root), sweep_id(config)
    return older_code(plan_of(ready(located(config), tracking_uri), storage, sweep), storage)


def search_of(
    config: SweepConfig, storage: Storage, sweep: str, threads: int, *, begin: bool = True
) -> Search | None:
    """Open the search of a sweep whose trials are chosen while it runs; None for another.

    begin: start a search that has not begun; else there is None, and nothing is written.
    """
    if config.sweep.search != "optuna" or config.sweep.max_trials is None:
        return None
    planner = Planner(config, sweep, threads, precision_of(config, storage, sweep))
    journal = storage.sweeps / f"{sweep}-optuna.log"
    study = Study(journal, config) if begin else Study.begun(journal, config)
    if study is None:
        return None
    return Search(
        study,
        lambda places: planner.plan(trials_at(config, places)),
        config.sweep.max_trials,
    )
