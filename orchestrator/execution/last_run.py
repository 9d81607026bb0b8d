"""Say which trials of a sweep are new since the last run of its file, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.config import SweepConfig
from orchestrator.execution.precision import precision_of
from orchestrator.planning.plan import Job, Plan
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json, write_json

NAMED = 4  # trials that a line names at most
LONGEST = 60  # letters of a value that a line shows
# What shapes no trial, beside `cluster`, of which the workers and their threads do.
IDLE = (
    *("storage", "tracking.", "soup.", "data.report", "train.eval_every", "train.keep"),
    *("sweep.scheduler", "sweep.first_rung", "sweep.reduction", "sweep.max_hours"),
)
OF_CLUSTER = ("cluster.workers", "cluster.threads")
FREE = ("sweep.parameters", "sweep.points", "student.options", "teacher.options")  # keys vary
DERIVED = ("batch_size", "crop", "lr")  # of the stem, which are train's where it says none


def save(
    config: SweepConfig, storage: Storage, sweep: str, threads: int, trials: Sequence[Job] = ()
) -> None:
    """Write the resolved configuration of a sweep, what was decided for it, and its trials."""
    settings = {
        "threads": threads,
        "amp": precision_of(config, storage, sweep),
        "config": config.model_dump(mode="json"),
        "trials": {job.key: job.name for job in trials},
    }
    path = storage.sweeps / f"{sweep}.json"
    write_json(path, settings)
    storage.mirror.push([path])


def new_trials(plan: Plan, config: SweepConfig, storage: Storage) -> str | None:
    """Say which trials are new since the last run, and by which changes; None where none is.

    The last run is that of the same sweep, else the newest of the same name in this storage.
    Trials that Optuna chooses as it learns are never called new.
    """
    last = _last(plan.sweep, config.name, storage)
    if last is None or config.sweep.search == "optuna":
        return None
    ledger, known = Ledger.of(storage), last.get("trials")
    new = [job for job in plan.trials if ledger.job(job.key).state == "new"]
    new = [job for job in new if job.key not in (known or {})]
    changes = _changes(last, config, plan.trials[0].threads)
    if not new or (known is None and not changes):  # an older record does not name its trials
        return None
    names = [job.name for job in new[:NAMED]] + ["..."] * (len(new) > NAMED)
    count = f"{len(new)} trial{'s are' if len(new) > 1 else ' is'} new ({', '.join(names)})"
    if not changes:
        return (
            f"{count}: no value has changed since the last run of this file; files of the data or "
            "of weights have, or what this version trains to"
        )
    return f"{count}: {', '.join(changes)} since the last run of this file"


def _last(sweep: str, name: str, storage: Storage) -> Mapping[str, Any] | None:
    """Read what `save` wrote at the last run; None where there was none, or it cannot be read."""
    same = storage.sweeps / f"{sweep}.json"
    others = [path for path in storage.sweeps.glob("*.json") if path != same]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (same, *others):
        try:
            record = read_json(path)
        except InputError:
            continue
        settings = record if isinstance(record, dict) and "threads" in record else {}
        if isinstance(config := settings.get("config"), dict) and config.get("name") == name:
            return settings
    return None


def _changes(last: Mapping[str, Any], config: SweepConfig, threads: int) -> list[str]:
    """List each value that shapes trials and is another now, as `train.lr 0.001 -> 0.0005`."""
    before, now = dict(_flat(last["config"])), dict(_flat(config.model_dump(mode="json")))
    before["cluster.threads"], now["cluster.threads"] = last["threads"], threads
    changes = {}
    for key in sorted(before.keys() | now.keys()):
        elsewhere = key.startswith("cluster.") and key not in OF_CLUSTER
        unknown = (key not in before or key not in now) and not key.startswith(FREE)
        if key.startswith(IDLE) or elsewhere or unknown or before.get(key) == now.get(key):
            continue
        changes[key] = f"{_text(before, key)} -> {_text(now, key)}"
    for key in DERIVED:
        if changes.get(f"stem.{key}") == changes.get(f"train.{key}"):
            changes.pop(f"stem.{key}", None)
    return [f"{key} {change}" for key, change in changes.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections by dotted keys; a list or a range is one value."""
    for key, value in values.items():
        whole = prefix in [f"{name}." for name in FREE]
        if isinstance(value, Mapping) and not whole:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "nothing"
    value = values[key]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
