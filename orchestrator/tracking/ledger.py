"""Keep the events of every job in an append-only file, named by its content key.

The ledger is the truth; MLflow holds a copy of it. A line is one event, flushed and synced before
the writer continues. A crash can tear only the last line, and a power cut can leave NULs there:
readers skip a torn line, and the next writer cuts it off. A resumed job repeats some steps; the
first event of (kind, step) counts.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout

from orchestrator.tracking import leases
from orchestrator.tracking.events import (
    KINDS,
    Checkpoint,
    Done,
    Evaluated,
    Event,
    Failed,
    Losses,
    Started,
    Stopped,
    Warned,
)
from orchestrator.tracking.leases import Lease
from orchestrator.tracking.mirror import Mirror, best_effort
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.digests import check_file, check_sha256

logger = logging.getLogger(__name__)

State = Literal["new", "running", "stopped", "failed", "done"]
CLAIM_WAIT_S = 1.0  # longer than `JobRecord.claimed` holds the lock to test it

Kind = TypeVar("Kind", bound=Event)


class Claimed(InputError):
    """Another process holds the claim of a job."""


class Ledger:
    """All jobs under a storage folder."""

    def __init__(self, storage: Path, mirror: Mirror | None = None) -> None:
        """Take a storage folder, and the store whose working copy it is, which writers need."""
        self.storage = storage
        self.folder = storage / "ledger"
        self.mirror = mirror or Mirror(storage, None)

    @classmethod
    def of(cls, storage: Storage) -> Ledger:
        """Open the ledger of a storage folder for readers and writers."""
        return cls(storage.root, storage.mirror)

    def job(self, key: str) -> JobRecord:
        """Return the record of a job, started or not. Raises ValueError on a bad key."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            raise ValueError(f"key {key!r}; a job key is letters, digits, _ and -")
        return JobRecord(self.storage, key, self.mirror)

    def pull(self, keys: Iterable[str], *, anew: bool = False) -> None:
        """Take from the store what it has of jobs that run on other nodes, and the files of that.

        anew: take it in place of what only the working copy has, as when a driver begins; else
        that stays, as it tells why a job of this node could not write to the store.
        """
        sizes = self.mirror.names(self.folder) if self.mirror else {}
        for record in [self.job(key) for key in keys] if self.mirror else []:
            size = record.path.stat().st_size if record.path.exists() else 0
            if anew or size != sizes.get(record.path.name, 0):
                record.pull(anew=anew)

    def jobs(self) -> list[JobRecord]:
        """Return the records of all jobs ever started, sorted by key."""
        return [self.job(path.stem) for path in sorted(self.folder.glob("*.jsonl"))]


class JobRecord:
    """A job's file in the ledger. Only writing needs the claim."""

    def __init__(self, storage: Path, key: str, mirror: Mirror | None = None) -> None:
        folder = storage / "ledger"
        self.key = key
        self.storage = storage
        self.mirror = mirror or Mirror(storage, None)
        self._lease: Lease | None = None
        self.path = folder / f"{key}.jsonl"
        self._lock = FileLock(folder / f"{key}.lock", thread_local=False)
        self._holder = folder / f"{key}.holder"
        self._reset()

    @contextmanager
    def claim(self, wait_s: float = CLAIM_WAIT_S) -> Iterator[JobRecord]:
        """Hold the exclusive right to run and write this job.

        The lock belongs to the operating system, which releases it however the process ends. In a
        store it is a lease, which runs out and is waited for; record and resume states become what
        is there. wait_s: how long to wait for another process to end that shares the folder.
        Raises Claimed, which names the process that holds the claim.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=wait_s)
        except Timeout:
            raise Claimed(
                f"{self.path}: job {self.key} is being run by {self.holder_name}; "
                "wait for it, or stop it, and run the same command again"
            ) from None
        try:
            self._holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            with ExitStack() as rights:
                if self.mirror:
                    try:
                        self._lease = rights.enter_context(leases.held(self.mirror, self.key))
                    except leases.Held as error:
                        raise Claimed(str(error)) from None
                    self.mirror.restore_record(self.path)
                    self.mirror.pull_folder(self._files.resume(self.key))
                    self._reset()
                    rights.callback(self._push_log)
                self._cut_torn_line()
                yield self
        finally:
            self._lease = None
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    @property
    def _files(self) -> Storage:
        return Storage(self.storage)

    def _push_log(self) -> None:
        with best_effort("log"):
            self.mirror.push([self._files.log(self.key)])

    def push_state(self, step: int) -> None:
        """Put the resume state of a step into the store, with the log so far."""
        if self._lease:
            self._lease.check()
            self.mirror.push_folder(self._files.resume(self.key), f"{step:07d}")
            self._push_log()

    def pull(self, *, anew: bool = False, last: bool = False) -> None:
        """Take what the store has of this job where no process here writes it, as `Ledger.pull`.

        last: of the files that the events name only the last checkpoint.
        """
        data = self.mirror.get(self.path) if self.mirror else None
        here = self.path.read_bytes() if self.path.exists() else b""
        if data is None and not (anew and here):
            return
        named = self._named(data or b"")
        if last:
            named = [path for path in named if path.parent == self._files.checkpoints][-1:]
        self.mirror.fetch(*named)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not anew and here.startswith(data or b""):
            return
        with suppress(Timeout), FileLock(self._lock.lock_file).acquire(timeout=CLAIM_WAIT_S / 2):
            if (self.path.read_bytes() if self.path.exists() else b"") == here:
                self.mirror.restore_record(self.path)

    def _named(self, data: bytes) -> list[Path]:
        """List the files that the events of a record name."""
        with suppress(ValueError, AttributeError):  # `events` names the line
            lines = [json.loads(line) for line in data.splitlines()]
            return [self.storage / line["path"] for line in lines if line.get("path")]
        return []

    def _cut_torn_line(self) -> None:
        """Cut off what a crash left of an event after the last whole line, and say so."""
        if not self.path.exists():
            return
        whole, size = len(self._whole_lines()), self.path.stat().st_size
        if whole < size:
            logger.warning(
                "%s: its last %d bytes are no whole line, as after a crash; they are cut off",
                self.path,
                size - whole,
            )
            os.truncate(self.path, whole)

    @property
    def claimed(self) -> bool:
        """True while any process holds the claim: this one, and on other nodes of a store too."""
        if self._lock.is_locked:
            return True
        try:
            if self.path.parent.exists():
                self._lock.acquire(timeout=0)
                self._lock.release()
        except Timeout:
            return True
        return bool(self.mirror) and Lease(self.mirror, self.key).is_held

    def write(self, event: Event) -> None:
        """Append one event and sync it to disk; put it into the store, after the file it names.

        Raises InputError where the file cannot be written, which leaves the file unchanged, or
        the store cannot be; ValueError without the claim.
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
                file.truncate(end)  # else the next line would continue this one
                raise InputError(
                    f"{self.path}: cannot be written ({error.strerror}); free space, and run the "
                    "same command again to continue"
                ) from error
        if self._lease:
            self._lease.check()
            self.mirror.push(self._named(data))
            self.mirror.put_record(self.path)

    def events(self) -> list[Event]:
        """Return all events in order; of a repeated step the first event.

        Each call reads only the lines appended since the call before, so that polling a long job
        is cheap. Not thread-safe. Raises InputError on a line that is no event.
        """
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < self._read:
            self._reset()  # the file was moved away
        new = self._whole_lines(self._read) if size > self._read else b""
        for line in new.split(b"\n")[:-1]:
            event = self._parse(line, self._lines + 1)
            self._lines += 1
            self._read += len(line) + 1
            step = getattr(event, "step", None)
            mark = (event.kind, step, getattr(event, "split", None))
            if step is None or mark not in self._seen:
                self._events.append(event)
            self._seen.add(mark)
        return list(self._events)

    def _reset(self) -> None:
        """Drop all events read so far, to read the file from its start."""
        self._read = self._lines = 0  # bytes and lines that `_events` holds
        self._seen: set[tuple[object, ...]] = set()
        self._events: list[Event] = []

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of one kind, in order."""
        return [event for event in self.events() if isinstance(event, kind)]

    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoints, in order."""
        return self.of(Checkpoint)

    @property
    def recorded(self) -> str:
        """Name the place where a checkpoint's sha256 is recorded, for messages."""
        return f"the one recorded in {self.path}"

    @property
    def remedy(self) -> str:
        """Say what to do about a checkpoint of this job whose file is lost or corrupt."""
        return (
            f"put a sound copy there, or move {self.path} away and run the same command again to "
            f"train it anew"
        )

    def last_file(self) -> tuple[str, Path] | None:
        """Return sha256 and file of the last checkpoint, None without any.

        Raises InputError with the remedy where the file is lost or is not the one recorded.
        """
        checkpoints = self.checkpoints()
        if not checkpoints:
            return None
        path, sha256 = self.storage / checkpoints[-1].path, checkpoints[-1].sha256
        check_file(path, self.remedy)
        check_sha256(path, sha256, self.remedy, named_in=self.recorded)
        return sha256, path

    def losses(self) -> list[Losses]:
        """Return the logged losses, in order."""
        return self.of(Losses)

    def warnings(self) -> str:
        """Join all warnings on one line; empty without warnings."""
        return "; ".join(event.text for event in self.of(Warned))

    def started(self) -> Started | None:
        """Return the latest start; None where the job never started."""
        return next(reversed(self.of(Started)), None)

    def done(self) -> Done | None:
        """Return the event that finished the job, or None."""
        return next(reversed(self.of(Done)), None)

    def failed(self) -> Failed | None:
        """Return the failure that ended the latest attempt, or None."""
        last = self._last()
        return last if isinstance(last, Failed) else None

    def stopped(self) -> Stopped | None:
        """Return why the sweep stopped the latest attempt, or None."""
        last = self._last()
        return last if isinstance(last, Stopped) else None

    def scores(self) -> list[tuple[int, float]]:
        """Return step and select J&F of every time that the model was scored, by step."""
        found = {e.step: e.scores["jf"] for e in self.checkpoints() if "jf" in e.scores}
        for event in self.of(Evaluated):
            if event.split == "select" and "jf" in event.scores:
                found[event.step] = event.scores["jf"]
        return sorted(found.items())

    @property
    def state(self) -> State:
        """State of the job; `running` also after a kill, see `claimed`."""
        last = self._last()
        if isinstance(last, Done):
            return "done"
        if isinstance(last, Failed):
            return "failed"
        if isinstance(last, Stopped):
            return "stopped"
        return "running" if last else "new"

    def _last(self) -> Event | None:
        """Return the latest of started, stopped, failed, done; `done` wins over later events."""
        kinds = Started | Stopped | Failed | Done
        turns = [event for event in self.events() if isinstance(event, kinds)]
        done = [event for event in turns if isinstance(event, Done)]
        return (done or turns or [None])[-1]

    def _whole_lines(self, start: int = 0) -> bytes:
        """Read from a byte offset, without what is torn at the end: no event holds a NUL."""
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return b""
        whole = data[: data.rfind(b"\n") + 1]
        while whole and b"\0" in (last := whole[whole.rfind(b"\n", 0, -1) + 1 :]):
            whole = whole[: -len(last)]
        return whole

    def _parse(self, line: bytes, number: int) -> Event:
        try:
            fields = json.loads(line)
            return KINDS[fields.pop("kind")](**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path}: line {number}: {line[:60]!r} is no ledger event ({error}); "
                f"known kinds: {', '.join(KINDS)}; move the file away to run the job anew"
            ) from None

    @property
    def holder(self) -> int | None:
        """Id of the process that holds the claim, or was killed while it did; None without one."""
        match = re.match(r"process (\d+) on ", self.holder_name)
        return int(match[1]) if match else None

    @property
    def holder_name(self) -> str:
        """Name the process that holds the claim, or was killed while it did."""
        try:
            return self._holder.read_text() or "another process"
        except FileNotFoundError:
            return "another process"
