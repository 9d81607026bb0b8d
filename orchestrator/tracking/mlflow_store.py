"""Locate an MLflow store, connect to it, and page through its search results.

`mlflow_writer` and `mlflow_reader` both work through a Connection.
"""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from orchestrator.tracking.mlflow_names import ROLE, SWEEP
from vosmodels.errors import InputError

logger = logging.getLogger(__name__)

PAGE = 1000  # results per page of an MLflow search
SERVER_WAIT_S = 5.0


@dataclass(frozen=True)
class Store:
    """An MLflow store. uri: absolute; artifacts: local folder, None with a server."""

    uri: str
    artifacts: Path | None


def locate(uri: str | None, storage: Path) -> Store:
    """Choose a store: `uri`, else $MLFLOW_TRACKING_URI, else a database in `storage`.

    Paths become absolute, since a relative path depends on the working directory.
    Raises InputError for a plain folder, which MLflow no longer writes to.
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
    """An MLflow store and a client of the store.

    create: make a missing database, which takes seconds; if false, a missing database is an
    InputError, so that reading creates nothing.
    """

    def __init__(self, store: Store, *, create: bool = True) -> None:
        self.store = store
        self.client = _connect(store, create)

    def experiment(self, name: str) -> Any:
        """Return the experiment with that name, else the experiment with that id.

        Raises InputError with the store and its experiments where neither exists.
        """
        by_name = {e.name: e for e in pages(self.client.search_experiments)}
        by_id = {e.experiment_id: e for e in by_name.values()}
        if name in by_name or name in by_id:
            return by_name.get(name) or by_id[name]
        names = ", ".join(sorted(by_name)) or "none"
        raise InputError(f"{self.store.uri}: no experiment {name!r}; those there: {names}")

    def runs(self, experiment_id: str, text: str) -> list[Any]:
        """List the runs of an experiment that match a filter."""
        return pages(self.client.search_runs, experiment_ids=[experiment_id], filter_string=text)

    def sweeps(self, experiment_id: str, sweep: str | None = None) -> list[Any]:
        """List the parent runs of an experiment's sweeps, or of the sweep with that id."""
        condition = "" if sweep is None else f" AND tags.`{SWEEP}` = '{sweep}'"
        return self.runs(experiment_id, f"tags.`{ROLE}` = 'sweep'{condition}")

    def models(self, experiment_id: str, text: str = "") -> list[Any]:
        """List the LoggedModels of an experiment that match a filter."""
        return pages(
            self.client.search_logged_models, experiment_ids=[experiment_id], filter_string=text
        )


def pages(search: Callable[..., Any], **query: Any) -> list[Any]:
    """Collect the results of all pages of an MLflow search."""
    results: list[Any] = []
    token = None
    while True:
        page = search(**query, max_results=PAGE, page_token=token)
        results += page
        token = page.token
        if not token:
            return results


@contextmanager
def waiting_for_mlflow(what: str) -> Iterator[None]:
    """Log an error of this block, which copies to the store, instead of raising it.

    what: said to wait in the storage folder. Training and tables go on without MLflow.
    """
    try:
        yield
    except Exception as error:  # clients of stores raise all kinds of errors
        # InputError names a file of ours that cannot be copied: the store is not away then.
        ours = isinstance(error, InputError)
        logger.warning(
            "%s; in the storage folder waits %s: run the same command again to show it",
            error if ours else f"MLflow cannot be reached ({error})",
            what,
        )


def probe(uri: str) -> None:
    """Check that a server answers, as MLflow's client would retry for minutes.

    Raises InputError where nothing answers within SERVER_WAIT_S.
    """
    if not uri.startswith("http"):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_WAIT_S):
            return
    except urllib.error.HTTPError:
        return  # it answers; the client reports what is wrong
    except (OSError, ValueError) as error:
        raise InputError(
            f"tracking uri {uri}: no answer ({error}); start the server, or name another store "
            "with --tracking-uri"
        ) from None


def _connect(store: Store, create: bool) -> Any:
    """Open a client of a store. Raises InputError as `Connection`.

    A file lock keeps two processes from creating the tables of a new database at once.
    """
    database = Path(store.uri.removeprefix("sqlite:///")) if store.artifacts else None
    if database and not create and not database.is_file():
        raise InputError(
            f"{store.uri}: no such database, so no experiments; run a sweep first, or name "
            "another store with --tracking-uri"
        )
    if database is None:
        probe(store.uri)
    # MLflow reads these: no usage statistics, and no progress bars between our progress lines.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    if database is None:
        return MlflowClient(store.uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_suffix(".lock")):
        return MlflowClient(store.uri)
