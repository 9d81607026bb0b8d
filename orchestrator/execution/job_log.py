"""Write the lines of our loggers to the log files of the jobs that a process trains."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TextIO

PACKAGES = ("orchestrator", "soups", "vosmodels")  # whose loggers are written
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_at_work: ContextVar[str | None] = ContextVar("at_work", default=None)


@contextmanager
def only(key: str) -> Iterator[None]:
    """Write the lines of the block to the log of one job alone."""
    token = _at_work.set(key)
    try:
        yield
    finally:
        _at_work.reset(token)


def _concerns(key: str, _: logging.LogRecord) -> bool:
    return _at_work.get() in (None, key)


@contextmanager
def written_to(paths: Mapping[str, Path]) -> Iterator[TextIO]:
    """Write lines to the files of jobs by key, each line to all but those within `only`.

    Yields the open file of the first job.
    """
    loggers = [logging.getLogger(package) for package in PACKAGES]
    with ExitStack() as files:
        handlers = []
        for key, path in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handler = logging.StreamHandler(files.enter_context(path.open("a", buffering=1)))
            handler.setFormatter(logging.Formatter(FORMAT))
            handler.addFilter(partial(_concerns, key))
            handlers.append(handler)
        for logger in loggers:
            logger.setLevel(logging.INFO)
            for handler in handlers:
                logger.addHandler(handler)
        try:
            yield handlers[0].stream
        finally:
            for logger in loggers:
                for handler in handlers:
                    logger.removeHandler(handler)
