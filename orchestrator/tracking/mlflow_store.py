"""MLflow stores: which one is meant, a client of it, and whole answers to what it is asked.

`tracking` writes through a Connection, `catalogue` finds things through one.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from orchestrator.tracking.mlflow_names import ROLE, SWEEP
from vosmodels.errors import InputError

PAGE = 1000  # results MLflow gives at once
SERVER_WAIT_S = 5.0


@dataclass(frozen=True)
class Store:
    """Where records go. uri: absolute; artifacts: folder of the files, None where a server says."""

    uri: str
    artifacts: Path | None


def locate(uri: str | None, storage: Path) -> Store:
    """The store meant by tracking.uri, else $MLFLOW_TRACKING_URI, else a database in `storage`.

    Paths become absolute: a relative one would mean another file in every working directory.
    InputError for a folder of files, which MLflow no longer writes.
    """
    default = f"sqlite:///{storage.absolute() / 'mlflow.db'}"
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or default
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).absolute()
        return Store(f"sqlite:///{database}", database.parent / "artifacts")
    if "://" not in uri or uri.startswith("file:"):
        raise InputError(
            f"tracking uri {uri!r}: MLflow keeps no records in plain folders any more; "
            "use sqlite:////ABSOLUTE/PATH/mlflow.db, or http://HOST:PORT of a server"
        )
    return Store(uri, None)


class Connection:
    """A store and its client. A new database takes seconds to make; with `create` false a missing
    one is an InputError, so that asking leaves nothing behind."""

    def __init__(self, store: Store, *, create: bool = True) -> None:
        self.store = store
        self.client = _connect(store, create)

    def experiment(self, name: str) -> Any:
        """The experiment called `name`, else the one with that id; InputError with the store and
        the names in it where there is none."""
        found = {e.name: e for e in pages(self.client.search_experiments)}
        by_id = {e.experiment_id: e for e in found.values()}
        if name in found or name in by_id:
            return found.get(name) or by_id[name]
        names = ", ".join(sorted(found)) or "none"
        raise InputError(f"{self.store.uri}: no experiment {name!r}; those there: {names}")

    def runs(self, experiment_id: str, text: str) -> list[Any]:
        """Runs of an experiment that a filter lets through."""
        return pages(self.client.search_runs, experiment_ids=[experiment_id], filter_string=text)

    def sweeps(self, experiment_id: str, sweep: str | None = None) -> list[Any]:
        """Parent runs of an experiment's sweeps, or of the one with that id."""
        one = "" if sweep is None else f" AND tags.`{SWEEP}` = '{sweep}'"
        return self.runs(experiment_id, f"tags.`{ROLE}` = 'sweep'{one}")

    def models(self, experiment_id: str, text: str = "") -> list[Any]:
        """LoggedModels of an experiment that a filter lets through."""
        return pages(
            self.client.search_logged_models, experiment_ids=[experiment_id], filter_string=text
        )


def pages(search: Callable[..., Any], **query: Any) -> list[Any]:
    """All pages of one of MLflow's searches."""
    found: list[Any] = []
    token = None
    while True:
        page = search(**query, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def probe(uri: str) -> None:
    """Ask a server whether it is there: the client itself would go on asking for minutes."""
    if not uri.startswith("http"):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_WAIT_S):
            return
    except urllib.error.HTTPError:
        return  # it answers; what it thinks of us the client will say
    except (OSError, ValueError) as error:
        raise InputError(
            f"tracking uri {uri}: no answer ({error}); start the server, or name another store "
            "with --tracking-uri"
        ) from None


def _connect(store: Store, create: bool) -> Any:
    """A client of the store. A new database is made by one process at a time: two would both try
    to make its tables."""
    database = Path(store.uri.removeprefix("sqlite:///")) if store.artifacts else None
    if database and not create and not database.is_file():
        raise InputError(
            f"{store.uri}: no such database, so no experiments; run a sweep first, or name "
            "another store with --tracking-uri"
        )
    # mlflow reads these: counting our users is nobody's business, and bars break progress lines.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    if database is None:
        probe(store.uri)
        return MlflowClient(store.uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_suffix(".lock")):
        return MlflowClient(store.uri)
