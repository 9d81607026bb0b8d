"""Locate an MLflow store, connect to it, and page through its search results.

`mlflow_writer` and `mlflow_reader` both work through a Connection.
"""

from __future__ import annotations

import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock

from orchestrator.tracking.mlflow_names import ROLE, SWEEP
from orchestrator.tracking.moved_store import point_to
from vosmodels.errors import InputError, UsageError
from vosmodels.support.paths import absolute, check_folder

logger = logging.getLogger(__name__)

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # those MLflow knows, with any driver
SERVERS = ("http", "https", "databricks")
SQLITE = b"SQLite format 3\0"  # the first bytes of a database
PAGE = 1000  # results per page of an MLflow search
SERVER_WAIT_S = 5.0
CLIENT = {  # settings of MLflow's client, where the environment has none
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # none between our progress lines
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where --json prints one object
    # By itself it asks seven times over, for four minutes, and sends what creates a run or a model
    # again without asking whether it is there. Who calls it tries again, and looks first.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # s, for a server that stands still
}


@dataclass(frozen=True)
class Store:
    """An MLflow store.

    uri: absolute; artifacts: the local folder of new experiments, None where a server has its own.
    """

    uri: str
    artifacts: Path | None

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database; None of any other store."""
        scheme, _, rest = self.uri.partition(":///")
        if _dialect(scheme) != "sqlite":
            return None
        return Path(unquote(rest.partition("?")[0]))


def locate(uri: str | None, storage: Path) -> Store:
    """Choose a store: `uri`, else $MLFLOW_TRACKING_URI, else a database in `storage`.

    Artifacts go beside the file of a SQLite database, and into `storage` for any other database,
    which has no place for files. Paths become absolute, since a relative path depends on the
    working directory.
    Raises UsageError for what MLflow cannot keep records in: a plain folder, a database in memory,
    an unknown scheme.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        uri = f"sqlite:///{_quoted(storage.absolute() / 'mlflow.db')}"
    scheme, _, rest = uri.partition("://")
    problem = "no store of MLflow"
    if _dialect(scheme) == "sqlite":
        path, mark, options = rest.partition("?")
        file = unquote(path[1:])
        if path[:1] == "/" and file and not file.startswith((":memory:", "file:")):
            database = absolute(file)
            uri = f"{scheme}:///{_quoted(database)}{mark}{options}"
            return Store(uri, database.parent / "artifacts")
        problem = "names no file, and what is in memory is lost"
    elif _dialect(scheme) in DATABASES:
        return Store(uri, storage.absolute() / "artifacts")
    elif scheme in SERVERS:
        return Store(uri, None)
    elif "://" not in uri or scheme == "file":
        problem = "MLflow keeps no records in plain folders any more"
    raise UsageError(
        f"tracking uri {without_password(uri)!r}: {problem}; use "
        "sqlite:////ABSOLUTE/PATH/mlflow.db, or http://HOST:PORT of a server"
    )


def _dialect(scheme: str) -> str:
    """Return the database of a URI's scheme, without the driver in `sqlite+pysqlite`."""
    return scheme.lower().partition("+")[0]


def without_password(uri: str) -> str:
    """Return a URI as messages show it."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


def _quoted(path: Path) -> str:
    """Write a path for the URI of a database, where `%` and `?` mean something."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def check(store: Store, *, write: bool = True) -> None:
    """Check that a store can be read, and written to; create nothing.

    Raises InputError where a file or folder is in the way, or nothing answers.
    """
    if store.artifacts is not None and write:
        check_folder(store.artifacts.parent)
        if os.path.lexists(store.artifacts):
            check_folder(store.artifacts)
    if store.file is not None:
        _check_database(store.file, os.R_OK | (os.W_OK if write else 0))
    elif store.artifacts is not None:
        _check_database_server(store.uri)
    else:
        probe(store.uri)


def _check_database(file: Path, access: int) -> None:
    if not file.exists():
        return  # its folder has been checked, where the artifacts go as well
    problem = None
    if not file.is_file():
        problem = "is no file"
    elif not os.access(file, access):
        problem = "no permission to use it"
    else:
        with file.open("rb") as stream:
            if stream.read(len(SQLITE)) not in (b"", SQLITE):
                problem = "is no SQLite database"
    if problem:
        raise InputError(f"tracking uri {file}: {problem}; name another store with --tracking-uri")


def _check_database_server(uri: str) -> None:
    """Connect once, as MLflow's client would retry for minutes."""
    try:
        from mlflow.store.db.utils import create_sqlalchemy_engine

        create_sqlalchemy_engine(uri).connect().close()
    except Exception as error:  # drivers raise all kinds of errors, or are not installed
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"tracking uri {without_password(uri)}: cannot be opened ({reason}); "
            "start the database, install its driver, or name another store with --tracking-uri"
        ) from None


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
def waiting_for_mlflow(what: str) -> Iterator[list[Exception]]:
    """Log an error of this block, which copies to the store, instead of raising it.

    what: said to wait in the storage folder. Training and tables go on without MLflow. Yields a
    list that has the error afterwards.
    """
    errors: list[Exception] = []
    try:
        yield errors
    except Exception as error:  # clients of stores raise all kinds of errors
        errors.append(error)
        # InputError names a file of ours that cannot be copied: the store is not away then.
        ours = isinstance(error, InputError)
        logger.warning(
            "%s; in the storage folder waits %s: run the same command again to show it",
            error if ours else f"MLflow cannot be reached ({error})",
            what,
        )


def why_away(uri: str) -> str | None:
    """Say why a server does not answer within SERVER_WAIT_S; None where it does, or is none."""
    if not uri.startswith("http"):
        return None
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_WAIT_S):
            return None
    except urllib.error.HTTPError:
        return None  # it answers; the client reports what is wrong
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def probe(uri: str) -> None:
    """Check that a server answers. Raises InputError where it does not."""
    if reason := why_away(uri):
        raise InputError(
            f"tracking uri {uri}: no answer ({reason}); start the server, or name another store "
            "with --tracking-uri"
        )


def _connect(store: Store, create: bool) -> Any:
    """Open a client of a store. Raises InputError as `Connection`.

    A file lock keeps two processes from creating the tables of a new database at once.
    """
    database = store.file
    if database and not create and not database.is_file():
        raise InputError(
            f"{store.uri}: no such database, so no experiments; run a sweep first, or name "
            "another store with --tracking-uri"
        )
    check(store, write=create)
    for name, value in CLIENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    if database is None:
        return MlflowClient(store.uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_suffix(".lock")):
        if store.artifacts is not None and os.access(database, os.W_OK):
            point_to(database, store.artifacts)
        return MlflowClient(store.uri)
