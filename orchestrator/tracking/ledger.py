"""What has been done, by content key: one append-only file per job, the truth MLflow projects.

A line is one event, written whole, flushed and synced before the writer goes on. A crash can tear
only the last line: readers skip it, the next writer cuts it off. After a resume steps are played
again; the first record of (kind, step) is the one that counts.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout

from orchestrator.tracking.events import (
    KINDS,
    Checkpoint,
    Done,
    Event,
    Failed,
    Losses,
    Started,
    Warned,
)
from vosmodels.errors import InputError

State = Literal["new", "running", "failed", "done"]
CLAIM_WAIT_S = 1.0  # long enough for a reader that only asks whether a job is claimed


Kind = TypeVar("Kind", bound=Event)


class Ledger:
    """The jobs under a storage folder."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.folder = storage / "ledger"

    def job(self, key: str) -> JobRecord:
        """The job of a content key, started or not."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            raise ValueError(f"key {key!r}; a job key is letters, digits, _ and -")
        return JobRecord(self.storage, key)

    def jobs(self) -> list[JobRecord]:
        """Every job that was ever started, by key."""
        return [JobRecord(self.storage, path.stem) for path in sorted(self.folder.glob("*.jsonl"))]


class JobRecord:
    """One file of the ledger. Reading needs nothing; writing needs the claim."""

    def __init__(self, storage: Path, key: str) -> None:
        folder = storage / "ledger"
        self.key = key
        self.storage = storage
        self.path = folder / f"{key}.jsonl"
        self._lock = FileLock(folder / f"{key}.lock", thread_local=False)
        self._holder = folder / f"{key}.holder"
        self._forget()

    @contextmanager
    def claim(self) -> Iterator[JobRecord]:
        """The right to run and write this job; InputError naming the process that has it.

        The lock is the operating system's: it ends with the process, however that ends.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=CLAIM_WAIT_S)
        except Timeout:
            raise InputError(
                f"{self.path}: job {self.key} is being run by {self._who()}; "
                "wait for it, or stop it, and run the same command again"
            ) from None
        try:
            self._holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            if self.path.exists():
                os.truncate(self.path, len(self._whole_lines()))  # a line torn by a crash
            yield self
        finally:
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    @property
    def claimed(self) -> bool:
        """True while some process, this one included, holds the claim."""
        if self._lock.is_locked:
            return True
        if not self.path.parent.exists():
            return False
        try:
            with self._lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    def write(self, event: Event) -> None:
        """Append one event; it is on disk when this returns.

        Raises InputError where it cannot be written; then the file is as it was.
        """
        if not self._lock.is_locked:
            raise ValueError(f"job {self.key}: write {event.kind!r} without its claim")
        line = json.dumps(
            {"kind": event.kind, **dataclasses.asdict(event)},
            separators=(",", ":"),
            allow_nan=False,
        )
        data = line.encode() + b"\n"
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(end)  # else the next line would be the end of this one
                raise InputError(
                    f"{self.path}: cannot be written ({error.strerror}); free space, and run the "
                    "same command again to continue"
                ) from error

    def events(self) -> list[Event]:
        """All events in order; of replayed steps the first record.

        Asked again, it reads what was appended since: a long job is followed line by line. Not for
        several threads at once.
        """
        if not self.path.exists() or self.path.stat().st_size < self._read:
            self._forget()  # the file was moved away
        for line in self._whole_lines(self._read).split(b"\n")[:-1]:
            event = self._parse(line, self._lines + 1)
            self._lines += 1
            self._read += len(line) + 1
            step = getattr(event, "step", None)
            mark = (event.kind, step, getattr(event, "split", None))
            if step is None or mark not in self._seen:
                self._kept.append(event)
            self._seen.add(mark)
        return list(self._kept)

    def _forget(self) -> None:
        """Begin to read the file anew."""
        self._read = self._lines = 0  # bytes and lines of it that are in `_kept`
        self._seen: set[tuple[object, ...]] = set()
        self._kept: list[Event] = []

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind, in order."""
        return [event for event in self.events() if isinstance(event, kind)]

    def checkpoints(self) -> list[Checkpoint]:
        return self.of(Checkpoint)

    def losses(self) -> list[Losses]:
        return self.of(Losses)

    def warnings(self) -> str:
        """What was warned of, on one line; empty where nothing was."""
        return "; ".join(event.text for event in self.of(Warned))

    def started(self) -> Started | None:
        """The newest start, None where there was none."""
        return next(reversed(self.of(Started)), None)

    def done(self) -> Done | None:
        return next(reversed(self.of(Done)), None)

    def failed(self) -> Failed | None:
        """The failure the job stands at, None where it went on or never failed."""
        last = self._last()
        return last if isinstance(last, Failed) else None

    @property
    def state(self) -> State:
        """`running` means begun and not ended; `claimed` says whether anyone is at it now."""
        last = self._last()
        if isinstance(last, Done):
            return "done"
        if isinstance(last, Failed):
            return "failed"
        return "running" if last else "new"

    def _last(self) -> Event | None:
        """The newest of started, failed, done; done is for good."""
        turns = [event for event in self.events() if isinstance(event, Started | Failed | Done)]
        done = [event for event in turns if isinstance(event, Done)]
        return (done or turns or [None])[-1]

    def _whole_lines(self, start: int = 0) -> bytes:
        """From a byte on, without a last line that is still being written."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return b""
        return data[: data.rfind(b"\n") + 1]

    def _parse(self, line: bytes, number: int) -> Event:
        try:
            fields = json.loads(line)
            return KINDS[fields.pop("kind")](**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path}: line {number}: {line[:60]!r} is no ledger event ({error}); "
                f"known kinds: {', '.join(KINDS)}; move the file away to run the job anew"
            ) from None

    def _who(self) -> str:
        try:
            return self._holder.read_text() or "another process"
        except FileNotFoundError:
            return "another process"
