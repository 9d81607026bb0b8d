"""Copy the ledger to MLflow while jobs train, in a thread that nothing waits for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Self

from orchestrator.tracking.ledger import JobRecord, Ledger
from vosmodels.errors import InputError

logger = logging.getLogger(__name__)

POLL_S = 2.0
MOST_S = 30.0  # between two tries while the store is away: 2, 4, 8, 16, 30, 30, ... s

Project = Callable[[JobRecord], object]
Mark = tuple[int, int, int]  # of a file; another one after every line


class Copier:
    """Thread that gives `project` the records of jobs whose files have changed.

    If the store cannot be reached, a later try goes on: the ledger keeps what waits.
    """

    def __init__(self, keys: Iterable[str], ledger: Ledger, project: Project) -> None:
        self._ledger = ledger
        self._project = project
        self._records = {key: ledger.job(key) for key in keys}  # replaced, never changed
        self._copied: dict[str, Mark] = {}
        self._left: frozenset[str] = frozenset()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="copy", daemon=True)
        self._away = False
        self._said: set[str] = set()

    @property
    def keys(self) -> list[str]:
        """Return the keys of the jobs that are copied."""
        return list(self._records)

    @property
    def thread(self) -> threading.Thread:
        """Return the thread that copies."""
        return self._thread

    def follow(self, key: str) -> None:
        """Copy a further job."""
        if key not in self._records:
            self._records = {**self._records, key: self._ledger.job(key)}

    def leave(self, keys: Collection[str]) -> None:
        """Leave these jobs to another process for now."""
        self._left = frozenset(keys)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = POLL_S
        while not self._closing.wait(wait_s):
            wait_s = POLL_S if self.copy() else min(2 * wait_s, MOST_S)

    def copy(self) -> bool:
        """Copy the records that have changed; tell whether the store took them."""
        for record in self._records.values():
            mark = _mark(record)
            if mark is None or mark == self._copied.get(record.key) or record.key in self._left:
                continue
            try:
                self._project(record)
            except InputError as error:  # of a file of ours: the others are copied all the same
                if str(error) not in self._said:
                    self._said.add(str(error))
                    logger.warning("%s", error)
            except Exception as error:  # clients of stores raise all kinds of errors
                if not self._away:
                    logger.warning(
                        "MLflow cannot be reached (%s); events wait in the ledger", error
                    )
                self._away = True
                return False
            self._copied[record.key] = mark
            if self._away:
                self._away = False
                logger.warning("MLflow answers again; what waited is copied")
        return True


def _mark(record: JobRecord) -> Mark | None:
    """Return what tells one state of a record's file from another; None without a file."""
    try:
        status = record.path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
