"""Keep what the end of a sweep has to show in MLflow until MLflow has taken it.

A server may be away when a sweep ends. What it lacks lies in the storage folder, and a file beside
it says so; the same command, `orchestrator.report` and `soups.greedy` read that file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Store, why_away
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json, write_json

logger = logging.getLogger(__name__)

WAIT_S = 60.0  # for a server that is away at the end: one that is started again takes 20 to 50 s
AGAIN_S = 1.0  # between two attempts

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Delivery:
    """What the end of a sweep shows in MLflow, by what lies in its storage folder.

    store: URI of the store that it waits for; status: how the sweep ended; jobs: their keys;
    varied: as `Tracker` takes it; title: of the sweep's run; files: names of its figures, by what
    they show; links: keys of jobs by row or job; reused: those that another sweep trained.
    """

    experiment: str
    sweep: str
    store: str
    status: str
    jobs: Sequence[str]
    varied: Sequence[str] = ()
    title: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    reused: Sequence[str] = ()

    def save(self, storage: Storage) -> None:
        """Write down that this waits."""
        write_json(_file(storage, self.sweep), asdict(self))

    def left(self, storage: Storage, tracker: Tracker) -> list[str]:
        """List the jobs of which MLflow lacks something, as far as the tracker knows."""
        ledger = Ledger(storage.root)
        return [key for key in self.jobs if not tracker.has(ledger.job(key))]


def waiting(storage: Storage, sweep: str) -> Delivery | None:
    """Read what of a sweep waits; None where nothing does. Raises InputError on a broken file."""
    file = _file(storage, sweep)
    values = read_json(file)
    try:
        return None if values is None else Delivery(**values)
    except TypeError as error:
        raise InputError(
            f"{file}: is not what a sweep writes ({error}); remove it, and run the sweep again"
        ) from None


def forget(storage: Storage, sweep: str) -> None:
    """Write down that nothing of a sweep waits: it was delivered, or a run that begins will do."""
    _file(storage, sweep).unlink(missing_ok=True)


def waiting_in(
    reader: MlflowReader, experiment: str, sweep: str
) -> tuple[Storage, Delivery | None]:
    """Read what of a sweep waits in its storage folder, where that is on this machine."""
    storage = Storage(reader.config_of(experiment, sweep).storage_root)
    return storage, waiting(storage, sweep)


def copy_jobs(delivery: Delivery, storage: Storage, tracker: Tracker) -> list[str]:
    """Copy the jobs of a delivery to MLflow; return what is wrong with files of ours."""
    ledger, problems = Ledger(storage.root), []
    tracker.varied |= set(delivery.varied)
    for key in delivery.jobs:
        try:
            tracker.project(ledger.job(key), delivery.sweep)
        except InputError as error:
            problems.append(str(error))
    return problems


def patiently(action: Callable[[], Answer], store: Store, wait_s: float | None = None) -> Answer:
    """Do what needs a store, and try again for a while where its server is away.

    wait_s: WAIT_S where it is left out. A database is asked once: its client waits by itself.
    What the store took of a try that failed, `action` must not do twice. Raises InputError where
    the time is over, and what of `action` is wrong in itself.
    """
    server = store.artifacts is None
    ends = time.monotonic() + (WAIT_S if wait_s is None else wait_s) * server
    told = False
    while True:
        reason = why_away(store.uri)
        if reason is None:
            try:
                return action()
            except InputError:
                raise
            except Exception as error:  # clients of stores raise all kinds of errors
                reason = (str(error).splitlines() or [type(error).__name__])[0]
        left_s = ends - time.monotonic()
        if left_s <= 0:
            raise InputError(f"MLflow at {store.uri} cannot be reached ({reason})")
        if not told:
            told = True
            logger.warning(
                "%s: no answer (%s); waiting up to %.0f s for it", store.uri, reason, left_s
            )
        time.sleep(min(AGAIN_S, left_s))


def _file(storage: Storage, sweep: str) -> Path:
    return storage.sweeps / f"{sweep}-waiting.json"
