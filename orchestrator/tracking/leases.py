"""Give one process at a time the right to a name in a store, for nodes that share no locks.

leases/NAME/NUMBER.json is the lease: the highest number counts, and only a process that creates
the next number where there is none takes over. The holder puts its object again every RENEW_S; one
that was not put again for LEASE_S, by the store's clock, has run out. So has, at once, one that was
taken from the same working copy: whoever asks holds the lock that its holder had. A record that is
put by a holder which does not know yet is refused by S3: `Mirror.put_record`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.tracking.mirror import Mirror, best_effort
from vosmodels.errors import InputError

logger = logging.getLogger(__name__)

LEASE_S = 60.0  # above the longest time that a put may take
RENEW_S = 10.0
LOOK_S = 1.0  # between two looks at a lease that another process has
MARGIN_S = 10.0  # after which, beyond LEASE_S, the lease of a process that died has run out


class Held(InputError):
    """A lease that another process has."""


@dataclass
class Lease:
    """The right to a name, from `take` to `release`. Without a store it is always there.

    name: letters, digits, - and _; of a folder of objects in the store's `leases`.
    """

    mirror: Mirror
    name: str
    number: int = 0
    lost: str = ""  # who took over
    _renewed: float = 0.0
    _token: str = field(default_factory=lambda: uuid.uuid4().hex)
    _closing: threading.Event = field(default_factory=threading.Event)

    def take(self, wait_s: float | None = None, *, hasty: bool = False) -> None:
        """Take the lease, after its holder lets go or it runs out.

        wait_s: how long to wait, None: until the lease of a process that died has run out; hasty:
        no longer than until the holder is seen to be alive. Raises Held that names the holder.
        """
        most = LEASE_S + MARGIN_S if wait_s is None else wait_s
        begun, seen, said = time.monotonic(), None, False
        while True:
            newest = self._newest()
            if self._is_free(newest):
                if self.mirror.create(self._path(newest + 1), self._content()):
                    break
                continue
            put = self._put_at(newest)
            renewed, seen = seen is not None and put != seen, put
            if (renewed and hasty) or time.monotonic() - begun >= most:
                raise Held(
                    f"{self.mirror}: {self.name} is held by {self._holder(newest)}; wait for it, "
                    "or stop it, and run the same command again"
                )
            if not said and wait_s is None:
                logger.warning(
                    "%s: %s was held by %s; waiting until its lease runs out, %g s at most",
                    *(self.mirror, self.name, self._holder(newest), LEASE_S),
                )
            said = True
            time.sleep(min(LOOK_S, most))
        self.number, self._renewed = newest + 1, time.monotonic()
        folder = self._path(0).parent
        self.mirror.drop(self._path(n) for n in self._numbers(folder) if n < self.number)
        threading.Thread(target=self._run, name=f"lease {self.name}", daemon=True).start()

    @property
    def is_held(self) -> bool:
        """True while a process of another working copy holds the lease."""
        return not self._is_free(self._newest())

    def check(self) -> None:
        """Raise InputError where another process has taken over, as after a long standstill."""
        if not self.mirror:
            return
        if not self.lost and time.monotonic() - self._renewed > 2 * RENEW_S:
            self._renew()
        if self.lost:
            raise InputError(
                f"{self.mirror}: {self.name} was taken over by {self.lost}, as this process did "
                f"not answer for {LEASE_S:g} s; nothing more is written here"
            )

    def release(self) -> None:
        """Let go, so that another process need not wait."""
        self._closing.set()
        if not self.lost:
            with best_effort(f"lease of {self.name}"):
                self.mirror.put(self._path(self.number), self._content(released=True))

    def _run(self) -> None:
        while not self._closing.wait(RENEW_S) and not self.lost:
            with best_effort(f"lease of {self.name}"):
                self._renew()

    def _renew(self) -> None:
        began, newest = time.monotonic(), self._newest()
        if newest != self.number:
            self.lost = self._holder(newest)
        elif not self._closing.is_set():
            self.mirror.put(self._path(self.number), self._content())
            self._renewed = began

    def _is_free(self, number: int) -> bool:
        if number == 0:
            return True
        known = self._known(number)
        if known.get("released") or known.get("copy") == self.mirror.copy:
            return True
        clock = self._path(0).parent / f"clock-{uuid.uuid4().hex}"
        self.mirror.put(clock, b"")
        try:
            now, put = self.mirror.modified(clock), self._put_at(number)
        finally:
            self.mirror.drop([clock])
        return put is not None and (now - put).total_seconds() > LEASE_S

    def _put_at(self, number: int) -> datetime | None:
        """Return when a lease was last put; None where another one has come in its place."""
        try:
            return self.mirror.modified(self._path(number))
        except FileNotFoundError:
            return None

    def _newest(self) -> int:
        return max(self._numbers(self._path(0).parent), default=0)

    def _numbers(self, folder: Path) -> list[int]:
        names = [name.removesuffix(".json") for name in self.mirror.names(folder)]
        return [int(name) for name in names if name.isdecimal()]

    def _path(self, number: int) -> Path:
        return self.mirror.root / "leases" / self.name / f"{number:07d}.json"

    def _content(self, *, released: bool = False) -> bytes:
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        content = {"holder": holder, "copy": self.mirror.copy, "token": self._token}
        return json.dumps(content | {"released": released}).encode()

    def _known(self, number: int) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads(self.mirror.get(self._path(number)) or b"{}")
        except ValueError:
            return {}
        return known

    def _holder(self, number: int) -> str:
        return str(self._known(number).get("holder", "another process"))


@contextmanager
def held(
    mirror: Mirror, name: str, wait_s: float | None = None, *, hasty: bool = False
) -> Iterator[Lease]:
    """Hold a lease in this block. Raises Held as `Lease.take`."""
    lease = Lease(mirror, name)
    if not mirror:
        yield lease
        return
    lease.take(wait_s, hasty=hasty)
    try:
        yield lease
    finally:
        lease.release()
