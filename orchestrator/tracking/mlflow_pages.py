"""Serve MLflow's pages of a store on this machine, and say where they are."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from orchestrator.tracking.mlflow_names import VIEW_TAG, runs_page
from orchestrator.tracking.mlflow_store import Store
from vosmodels.errors import InputError

HOST = "127.0.0.1"
READY_S = 300.0  # within which a server answers, also on a busy machine
POLL_S = 0.2
# One worker is enough for one person. Four workers and six consumers of jobs, which MLflow starts
# by itself, took 99 s to the first page and 1.5 GiB beside two trainings on two cores; these two
# processes 21 s and 0.4 GiB (MLflow 3.17.2, 2026-11-29).
WORDS = ("--host", HOST, "--workers", "1", "--uvicorn-opts", "--log-level warning")
SETTINGS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PYTHONWARNINGS": "ignore",  # of the server's own libraries
}
EXPERIMENTS = """
    SELECT experiment_id, name,
        experiment_id IN (SELECT experiment_id FROM experiment_tags WHERE key = ?)
    FROM experiments WHERE lifecycle_stage = 'active' AND experiment_id > 0
    ORDER BY experiment_id DESC
"""


def pages_of(store: Store, port: int) -> Mapping[str, str]:
    """Return the address of the runs of each experiment, by name, the newest first.

    Reads the database itself, as MLflow's client takes seconds to load. Raises InputError where the
    store is no database file that is there, or not MLflow's.
    """
    if store.file is None:
        raise InputError(f"{store.uri}: no database file; its pages are served where it is")
    if not store.file.is_file():
        raise InputError(f"{store.file}: no store here yet; run a sweep first: make sweep")
    try:
        with closing(sqlite3.connect(f"{store.file.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(EXPERIMENTS, [VIEW_TAG]).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"{store.file}: no store of MLflow ({error}); give another") from None
    return {
        name: f"http://{HOST}:{port}/{runs_page(str(number), with_view=bool(viewed))}"
        for number, name, viewed in rows
    }


@contextmanager
def served(store: Store, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server until the block ends; enter the block when it answers.

    Raises InputError where the port is taken, or the server ends or does not answer.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port} on {HOST}: {error.strerror}; give another: make ui PORT=N"
            ) from None
    words = [*WORDS, "--port", str(port), "--backend-store-uri", store.uri]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", *words],
        env={**os.environ, **SETTINGS},
        stdout=subprocess.DEVNULL,  # what is wrong goes to stderr
    )
    try:
        _wait_for(server, port)
        yield server
    finally:
        server.terminate()
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends:
        if server.poll() is not None:
            raise InputError(f"MLflow's server ended with code {server.returncode}; see above")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(POLL_S)
    raise InputError(f"MLflow's server on port {port}: no answer in {READY_S:.0f} s; try again")
