"""Compute how many jobs run at once, and the resources of each worker."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vosmodels.errors import InputError

LONG_S = 120.0  # of which two processes save a third, and 15 go into starting them
MOST_SCORERS = 8  # each holds a network and a video, about a GiB


@dataclass(frozen=True)
class Placement:
    """Jobs at once, workers per job, and CPU threads and GPUs per worker.

    A fraction of a GPU below one shares the GPU.
    """

    at_once: int
    workers: int
    threads: int
    gpus: float

    @property
    def resources(self) -> dict[str, float]:
        """Resources that one worker reserves in Ray."""
        return {"CPU": float(self.threads)} | ({"GPU": self.gpus} if self.gpus else {})


def cores() -> int:
    """Count the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def scorers(seconds: float, threads: int) -> int:
    """Return how many processes share scoring on CPUs that takes so long in one of so many threads.

    They take all cores, and are at most 8; one process where starting more costs what they save.
    """
    return max(1, min(MOST_SCORERS, cores() // threads)) if seconds > LONG_S else 1


def place(
    nodes: Sequence[Mapping[str, float]],
    *,
    jobs: int,
    workers: int = 1,
    gpus_per_worker: float = 0,
    threads: int | None = None,
) -> Placement:
    """Fit as many jobs at once on the nodes as possible, up to `jobs`.

    Every count is floored per node, because no worker spans two nodes. The workers of a job share
    a node if any node holds them all, else they spread over nodes.
    nodes: resources {"CPU": n, "GPU": m} of each node; threads: per worker, None takes as many as
    leave room for all the jobs that run at once.
    Raises InputError where not even one job fits, which Ray would let wait for ever.
    """
    if gpus_per_worker > 1 and gpus_per_worker != int(gpus_per_worker):
        raise InputError(
            f"cluster.gpus_per_worker: {gpus_per_worker:g}; "
            "a worker takes a part of one GPU (at most 1) or whole ones"
        )

    def fit(threads: int, together: bool) -> int:
        slots = [_slots(node, gpus_per_worker, threads) for node in nodes]
        return sum(n // workers for n in slots) if together else sum(slots) // workers

    together = fit(threads or 1, True) > 0
    most = fit(threads or 1, together)
    if most == 0:
        raise InputError(
            f"one job needs {workers} x ({threads or 1} CPU, {gpus_per_worker:g} GPU), "
            f"and the nodes have: {_listed(nodes)}; lower cluster.workers, "
            "cluster.gpus_per_worker or cluster.threads, or attach a larger cluster"
        )
    at_once = max(1, min(jobs, most))
    if threads is None:
        counts = range(1, int(max(node.get("CPU", 0) for node in nodes)) + 1)
        threads = max(count for count in counts if fit(count, together) >= at_once)
    return Placement(at_once, workers, threads, gpus_per_worker)


def _listed(nodes: Sequence[Mapping[str, float]]) -> str:
    """List what nodes have, those that are alike once."""
    kinds = Counter(f"{n.get('CPU', 0):g} CPU {n.get('GPU', 0):g} GPU" for n in nodes)
    return ", ".join(f"{n} x ({kind})" if n > 1 else kind for kind, n in kinds.items()) or "nothing"


def _slots(node: Mapping[str, float], gpus: float, threads: int) -> int:
    """Count the workers that fit on a node."""
    by_cpu = int(node.get("CPU", 0) // threads)
    if not gpus:
        return by_cpu
    whole = int(node.get("GPU", 0))
    by_gpu = whole * int(1 / gpus + 1e-9) if gpus <= 1 else whole // int(gpus)
    return min(by_cpu, by_gpu)
