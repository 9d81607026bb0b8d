"""Check a cluster before a sweep starts: that it answers, has our packages, sees the storage."""

from __future__ import annotations

import errno
import os
import platform
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.grid import Grid, screen

ANSWER_S = 300.0  # a node unpacks our packages and starts a worker first
CONNECT_S = 10.0
# What jobs are sent with, and what their numbers come from; each by the names it is installed by.
PACKAGES = {
    **{name: (name,) for name in ("ray", "torch", "torchvision", "numpy", "pillow", "pydantic")},
    "opencv": (
        *("opencv-python-headless", "opencv-python"),
        *("opencv-contrib-python-headless", "opencv-contrib-python"),
    ),
}
ABSENT = "absent"


@dataclass(frozen=True)
class Answer:
    """Hold what a node says of itself.

    versions: by package; storage: why jobs cannot work in the storage folder there, or empty.
    """

    versions: Mapping[str, str]
    storage: str = ""


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Attach to a cluster in this block, if something listens at its address.

    Raises InputError where nothing does, for which Ray would wait without end, where the address is
    none that a driver can take, and where Ray refuses.
    """
    remedy = (
        "start the cluster, or give auto on one of its nodes, or HOST:PORT of its head as "
        "`ray start --head` says it"
    )
    known = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    host, _, port = known.rpartition(":")
    try:
        if known != "auto":
            if "://" in known or not host or not port.isdecimal():
                raise ValueError(f"{known!r} is no address of a head")
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        yield
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise InputError(f"cluster.address: {address}: {error}; {remedy}") from error


def check_nodes(storage: Storage | None) -> None:
    """Compare all nodes of the attached cluster with this process, and look for the storage there.

    storage: whose folder every node must see, made where it is missing, or whose store, beside a
    folder of its own; None: not looked for. Prints a table of the packages that differ. Raises
    InputError where some do, where a node does not see folder or store, or does not answer.
    """
    names = _names()
    if storage is None:
        answers, problems = _ask(names, None, None)
    else:
        with object_of(storage) if storage.mirror else locked_file(storage.root) as token:
            answers, problems = _ask(names, storage, token)
    grid = differences(versions(), {names[node]: answers[node].versions for node in answers})
    if grid.rows:
        screen(stderr=True, columns=100).print(grid.terminal())
        count = len({row[0] for row in grid.rows})
        problems.append(
            f"{count} of {len(names)} nodes have other packages than this process (table above), "
            "which changes weights or breaks jobs; install the same versions on every node, e.g. "
            "from constraints.txt, or run all of them in one container image"
        )
    unseen = [f"{names[node]}: {a.storage}" for node, a in answers.items() if a.storage]
    if unseen and storage and storage.mirror:
        problems.append(
            f"cluster.storage: {storage.remote} cannot be used on {'; '.join(unseen)}; give every "
            "node the network, the credentials and the extra for it, and room for its own storage"
        )
    elif unseen and storage:
        problems.append(
            f"storage: {storage.root} cannot be used on {'; '.join(unseen)}; give a folder that "
            "every node sees at the same path, e.g. storage=/mnt/shared/results, or a "
            "cluster.storage"
        )
    if problems:
        raise InputError("; ".join(problems))


def versions() -> dict[str, str]:
    """Look up the versions of Python and PACKAGES here, without importing any."""
    found = {"python": platform.python_version()}
    for package, names in PACKAGES.items():
        found[package] = ABSENT
        for name in names:
            try:
                found[package] = metadata.version(name)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def differences(here: Mapping[str, str], nodes: Mapping[str, Mapping[str, str]]) -> Grid:
    """List node and package of every version that is not the one here.

    The build in a version, as in 2.14.0+cpu, does not count: a driver without a GPU may have
    another build than the nodes.
    """
    rows = [
        (node, package, theirs.get(package, ABSENT), version)
        for node, theirs in nodes.items()
        for package, version in here.items()
        if theirs.get(package, ABSENT).partition("+")[0] != version.partition("+")[0]
    ]
    return Grid(("node", "package", "there", "here"), rows, left=(0, 1))


def look(token: str | None, storage: Storage | None = None) -> Answer:
    """Describe the machine of this process.

    token: a locked file in the storage, or an object in its store; None: not looked for.
    """
    if token is None:
        return Answer(versions())
    if storage and storage.mirror:
        return Answer(versions(), _store_problem(storage, Path(token)))
    return Answer(versions(), _storage_problem(Path(token)))


def _store_problem(storage: Storage, token: Path) -> str:
    """Say why the store in which the driver has put an object cannot be used here."""
    try:
        storage.check()
        if storage.mirror.get(token) is None:
            return "what the driver puts there is not seen"
        storage.mirror.check()
    except InputError as error:
        return str(error)
    return ""


def _storage_problem(token: Path) -> str:
    """Say why the folder of a file that another process made and locked cannot be used here."""
    if not token.exists():
        return "what the driver writes there is not seen"
    try:
        tempfile.TemporaryFile(dir=token.parent).close()
        with FileLock(token).acquire(timeout=0):
            return "a lock of the driver does not hold there, so two jobs could write one file"
    except Timeout:
        return ""
    except OSError as error:
        return f"cannot be written ({os.strerror(error.errno or errno.EIO)})"


@contextmanager
def object_of(storage: Storage) -> Iterator[str]:
    """Put an object of a name that no other store has."""
    path = storage.leases / f"seen-by-nodes-{uuid.uuid4().hex}"
    storage.mirror.put(path, b"")
    try:
        yield str(path)
    finally:
        storage.mirror.drop([path])


@contextmanager
def locked_file(folder: Path) -> Iterator[str]:
    """Make a file of a name that no other folder has, and hold its lock."""
    path = folder / f".seen-by-nodes-{uuid.uuid4().hex}"
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)  # nobody else knows the name
    except OSError as error:
        raise InputError(
            f"storage: no file can be locked in {folder} ({error}), which keeps two "
            "processes from one job; give a folder of a file system that has locks"
        ) from error
    try:
        yield str(path)
    finally:
        lock.release()
        path.unlink(missing_ok=True)


def _names() -> dict[str, str]:
    """Name each node that is alive, by its id: host, and address where hosts share a name."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    hosts = [node["NodeManagerHostname"] for node in alive]
    return {
        node["NodeID"]: host if hosts.count(host) == 1 else f"{host} ({node['NodeID'][:8]})"
        for node, host in zip(alive, hosts, strict=True)
    }


def _ask(
    names: Mapping[str, str], storage: Storage | None, token: str | None
) -> tuple[dict[str, Answer], list[str]]:
    """Let every node look at itself; return the answers, and which nodes gave none, and why."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked: dict[Any, str] = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            token, storage
        ): node
        for node in names
    }
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
    answers: dict[str, Answer] = {}
    problems = [f"node {names[asked[one]]}: no answer in {ANSWER_S:g} s" for one in silent]
    for one in ready:
        try:
            answers[asked[one]] = ray.get(one)
        except (RayError, ImportError) as error:
            problems.append(f"node {names[asked[one]]}: runs no task ({_last_line(error)})")
    return answers, problems


def _last_line(error: Exception) -> str:
    return ([line for line in str(error).splitlines() if line.strip()] or [""])[-1].strip()
