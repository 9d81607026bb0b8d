"""Run a real MLflow server of its own on this machine, to be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.tracking.mlflow_pages import HOST, READY_S, SETTINGS, WORDS
from orchestrator.tracking.mlflow_store import Store, why_away


class Server:
    """A server over a database in a folder, which also keeps the artifacts; up within `with`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def store(self) -> Store:
        return Store(self.uri, None)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, without waiting for it; its words go to a file beside the database."""
        words = [
            *WORDS,
            *("--port", str(self.port), "--serve-artifacts"),
            *("--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"),
            *("--artifacts-destination", str(self.folder / "artifacts")),
        ]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                cwd=self.folder,
                env={**os.environ, **SETTINGS},
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that a kill takes all of its processes
            )

    def wait(self) -> None:
        """Wait until the server answers."""
        ends = time.monotonic() + READY_S
        while why_away(self.uri):
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < ends, f"no answer in {READY_S} s"
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the server at once, with all of its processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        self.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
