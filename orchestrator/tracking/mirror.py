"""Keep a storage folder's files in an object store, for nodes that share no file system.

The storage folder is then a working copy, on each node its own, and the store is what everybody
relies on: whoever starts to write a job's record first makes its copy what the store has. A file is
put whole, after the files that it names, so that a kill between any two puts leaves a store to
continue from. `leases` admits one writer to a record.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from filelock import FileLock

from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json, write_whole

logger = logging.getLogger(__name__)

RETRY_S = 60.0  # how long a store that does not answer is asked again; below cluster.stall_s
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0  # between two tries
BOUND = "remote.json"  # in the storage folder: of which store it is a copy, and the copy's own id
EXTRAS = {"s3": "pip install '.[s3]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}
DATE = "%Y%m%dT%H%M%S"
ANSWERS = (FileNotFoundError, FileExistsError)  # of a store that works

Given = ParamSpec("Given")
Got = TypeVar("Got")


class Unreachable(InputError, OSError):
    """A store that did not answer for RETRY_S; the same steps may pass on another try."""


class Mirror:
    """A storage folder's copy in a store. Without a store (url None) every method does nothing.

    url: for fsspec, or a path on a file system that all nodes share. Paths are those of the working
    copy; the store has the same names below `url`.
    """

    def __init__(self, root: Path, url: str | None) -> None:
        self.root = root
        self.url = url
        self._lost = False  # then each call tries once, until one succeeds
        self._versions: dict[str, str] = {}  # of records in S3, as last put or taken here

    def __bool__(self) -> bool:
        return self.url is not None

    def begin(self) -> None:
        """Check that the store can be used, and that the storage folder is a copy of it.

        Raises InputError where it is not, or has jobs of its own: neither side is overwritten.
        """
        folder = self.root / BOUND
        bound = (read_json(folder) or {}).get("url")
        if bound and bound != self.url:
            other = f"cluster.storage is {self.url}" if self else "cluster.storage is not given"
            raise InputError(
                f"storage: {self.root} is a working copy of {bound}, but {other}; give "
                f"cluster.storage={bound}, or another folder, e.g. storage={self.root}-2"
            )
        if not self:
            return
        if self._fs.protocol[0] == "file" and Path(self._base).resolve() == self.root.resolve():
            raise InputError(
                f"cluster.storage: {self.url} is the folder `storage` itself, which is to be each "
                "node's own; give storage= a local folder"
            )
        if not bound and any((self.root / "ledger").glob("*.jsonl")):
            raise InputError(
                f"storage: {self.root} has jobs that are no copy of {self.url}; give a new folder, "
                f"or copy them there first and delete them here: fsspec, aws s3 sync or rsync"
            )
        self.check()
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".remote.lock"):  # jobs of a node may begin together
            if not folder.exists():
                copy = {"url": self.url, "copy": uuid.uuid4().hex}
                write_whole(folder, json.dumps(copy).encode())

    @cached_property
    def copy(self) -> str:
        """Id of this working copy, which no other folder has, be it a copy of this one."""
        bound = self.root / BOUND
        return f"{read_json(bound)['copy']} {socket.gethostname()} {bound.stat().st_ino}"

    def check(self) -> None:
        """Write, read and delete an object. Raises InputError where that cannot be done here."""
        name = self.root / "leases" / f"check-{uuid.uuid4().hex}"
        self.create(name, b"1")
        if self.create(name, b"2"):
            logger.warning(
                "%s replaces an object where one is to be created: of two drivers, or two writers "
                "of one job, it notices only those that begin some seconds apart",
                self.url,
            )
        self._call(self._fs.cat_file, self.remote(name))
        self.drop([name])

    def push(self, paths: Iterable[Path]) -> None:
        """Put files into the store, whole and in this order; those that are not here are left out.

        Raises InputError where the store cannot be written, Unreachable where it does not answer.
        """
        for path in paths if self else ():
            with suppress(FileNotFoundError):
                self.put(path, path.read_bytes())

    def put(self, path: Path, data: bytes) -> None:
        """Put an object into the store."""
        self._call(self._write, self.remote(path), data)

    def put_record(self, path: Path) -> None:
        """Put a record; in S3 only where it is there as this process last put or took it.

        A put that a network held up beyond the lease then replaces nothing newer; in other stores
        nothing but the lease keeps it from that. Raises InputError where another process has put
        the record.
        """
        name, data = self.remote(path), path.read_bytes()
        if self._fs.protocol[0] != "s3":
            self.put(path, data)
            return
        known = self._versions.get(name)
        condition = {"IfMatch": known} if known else {"IfNoneMatch": "*"}
        try:
            self._versions[name] = self._call(self._replace, name, data, **condition)
        except ANSWERS as error:
            if self.get(path) != data:  # else by this very call, whose answer was lost
                raise InputError(
                    f"{self.url}: another process has put {path.name} meanwhile; nothing is "
                    "written over it, and the same command goes on from there"
                ) from error
            self._know(name)

    def _replace(self, name: str, data: bytes, **condition: str) -> str:
        """Put an object in S3 on a condition; return its version. Raises one of ANSWERS."""
        try:
            return str(self._fs.pipe_file(name, data, **condition)["ETag"])
        except OSError as error:
            if error.errno == errno.EINVAL:  # by which s3fs says that a condition does not hold
                raise FileExistsError(name) from error
            raise

    def _know(self, name: str) -> None:
        """Remember the version of a record that is about to be taken from S3."""
        self._versions.pop(name, None)
        if self._fs.protocol[0] == "s3":
            with suppress(FileNotFoundError):
                self._versions[name] = self._call(self._fs.info, name, refresh=True)["ETag"]

    def create(self, path: Path, data: bytes) -> bool:
        """Put an object where there is none; return False where there is one."""
        try:
            self._call(self._write, self.remote(path), data, mode="create")
        except FileExistsError:  # perhaps put by this very call, whose answer was lost
            return self.get(path) == data
        return True

    def get(self, path: Path) -> bytes | None:
        """Get an object of the store; None where there is none."""
        try:
            data: bytes = self._call(self._fs.cat_file, self.remote(path))
        except FileNotFoundError:
            return None
        return data

    def fetch(self, *paths: Path) -> None:
        """Get those of the files that are not here, where the store has them."""
        for path in paths if self else ():
            if not path.exists() and (data := self.get(path)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)

    def pull(self, *paths: Path) -> None:
        """Make files what the store has; those that it lacks stay."""
        for path in paths if self else ():
            data = self.get(path)
            if data is not None and not (path.exists() and path.read_bytes() == data):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)

    def pull_folder(self, folder: Path) -> None:
        """Make a folder what the store has, with nothing else in it."""
        names = self.names(folder)
        for path in sorted(folder.glob("*")) if self else ():
            if path.name not in names:
                path.unlink()
        self.pull(*(folder / name for name in sorted(names, reverse=True)))  # see `push_folder`

    def push_folder(self, folder: Path, newest: str) -> None:
        """Make a flat folder of the store what it is here; `newest` begins the names to put anew.

        A description (.json) is put after what it describes, and deleted before it.
        """
        if not self:
            return
        there = self.names(folder)
        here = sorted((p.name for p in folder.glob("[!.]*")), reverse=True)
        self.drop(folder / name for name in there if name == f"{newest}.json")
        self.push(folder / n for n in here if n.startswith(newest) or n not in there)
        self.drop(folder / name for name in sorted(there) if name not in here)

    def restore_record(self, path: Path) -> None:
        """Make a record, whose lock is held, what the store has of it.

        What only the working copy has is of an attempt that nobody could continue; it is kept under
        a dated name.
        """
        if not self:
            return
        self._know(self.remote(path))
        data, here = self.get(path), path.read_bytes() if path.exists() else b""
        if not (data or b"").startswith(here):
            kept = path.with_name(f"{path.name}.{time.strftime(DATE)}")
            logger.warning("%s: %s is not so far; what it lacks is kept in %s", path, self, kept)
            path.rename(kept)
        if data is not None and data != here:
            write_whole(path, data)

    def names(self, folder: Path) -> dict[str, int]:
        """List the objects of a folder of the store, with their sizes."""
        if not self:
            return {}
        try:
            found = self._call(self._fs.ls, self.remote(folder), detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        within = f"{self.remote(folder)}/"  # a file's own name lists the file
        return {
            each["name"].removeprefix(within): each["size"]
            for each in found
            if each["type"] == "file" and each["name"].startswith(within)
        }

    def modified(self, path: Path) -> datetime:
        """Return when an object was put, by the clock of the store."""
        when: datetime = self._call(self._fs.modified, self.remote(path))
        return when

    def drop(self, paths: Iterable[Path]) -> None:
        """Delete objects of the store, in this order."""
        for path in paths if self else ():
            with suppress(FileNotFoundError):
                self._call(self._fs.rm_file, self.remote(path))

    def drop_folder(self, folder: Path) -> None:
        """Delete all objects of a flat folder of the store."""
        if self:
            self.drop(folder / name for name in sorted(self.names(folder)))

    def rename(self, path: Path, new: Path) -> None:
        """Give an object, or all of a flat folder, another name."""
        if not self:
            return
        moves = [(path / name, new / name) for name in sorted(self.names(path))] or [(path, new)]
        for old, other in moves:
            if (data := self.get(old)) is not None:
                self.put(other, data)
                self.drop([old])

    def remote(self, path: Path) -> str:
        """Return the name in the store of a path below the storage folder."""
        return f"{self._base}/{path.relative_to(self.root).as_posix()}"

    def __str__(self) -> str:
        return str(self.url)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        assert self.url is not None
        protocol = self.url.partition("://")[0] if "://" in self.url else "file"
        options = {"auto_mkdir": True} if protocol == "file" else {"use_listings_cache": False}
        try:
            fs, base = fsspec.core.url_to_fs(self.url, **options)
        except ImportError as error:
            extra = EXTRAS.get(protocol, f"pip install what fsspec needs for {protocol}")
            raise InputError(f"cluster.storage: {self.url} needs an extra: {extra}") from error
        except ValueError as error:
            raise InputError(
                f"cluster.storage: {self.url}: {error}; give a shared path, s3:// or gs://"
            ) from error
        return fs, base.rstrip("/")

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    @property
    def _base(self) -> str:
        return self._opened[1]

    def _write(self, name: str, data: bytes, mode: str = "overwrite") -> None:
        """Put an object whole or not at all, as stores do; a file system needs help."""
        if self._fs.protocol[0] != "file":
            self._fs.pipe_file(name, data, mode=mode)
            return
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "overwrite":
            write_whole(path, data)
            return
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            write_whole(scratch, data)
            path.hardlink_to(scratch)
        finally:
            scratch.unlink(missing_ok=True)

    def _call(
        self, operation: Callable[Given, Got], *args: Given.args, **kwargs: Given.kwargs
    ) -> Got:
        """Ask the store, again for RETRY_S where it does not answer. Raises one of ANSWERS too."""
        ends, wait = time.monotonic() + RETRY_S * (not self._lost), FIRST_WAIT_S
        while True:
            try:
                answer = operation(*args, **kwargs)
                self._lost = False
                return answer
            except ANSWERS:
                self._lost = False
                raise
            except Exception as error:  # clients of stores raise all kinds of errors
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                if isinstance(error, PermissionError):
                    raise InputError(
                        f"cluster.storage: {self.url}: {reason}; see that this node's credentials "
                        "may list, read, write and delete there"
                    ) from error
                if time.monotonic() + wait > ends:
                    self._lost = True
                    raise Unreachable(
                        f"cluster.storage: {self.url} cannot be reached ({reason}); when it can, "
                        "run the same command again to continue"
                    ) from error
                if wait == FIRST_WAIT_S:
                    logger.warning("%s: %s; it is tried again for %g s", self.url, reason, RETRY_S)
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Let a store that cannot be reached cost no more than a warning in this block."""
    try:
        yield
    except InputError as error:
        logger.warning("%s: %s", what, error)
