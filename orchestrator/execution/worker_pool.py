"""Run functions in processes on Ray, behind the `submit` of concurrent.futures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from orchestrator.execution import ray_workers
from orchestrator.planning.placement import cores
from vosmodels.support.memory import keep_freed_memory

SLOT = "worker"  # Ray's resource, of which each process takes one


@contextmanager
def worker_pool(count: int, threads: int | None = None) -> Iterator[WorkerPool]:
    """Open a pool of `count` processes on a Ray of this machine, which ends with the block.

    threads: of each process; None: the cores, shared.
    """
    ray_workers.start(None, dashboard=False, slots={SLOT: count})
    try:
        yield WorkerPool(count, threads)
    finally:
        ray_workers.stop()


class WorkerPool:
    """Processes that run functions, as an executor of concurrent.futures.

    They share the cores of the machine, each with as many threads as are asked for, or an equal
    number, at least one. What is submitted to all of them, and more, waits. A process that dies
    makes its future raise BrokenExecutor, and another takes its place. A future that is cancelled
    stops the work behind it.
    """

    def __init__(self, count: int, threads: int | None = None) -> None:
        import ray

        self._threads = threads or max(1, cores() // count)
        self._stop = ray.cancel
        self._run = ray.remote(num_cpus=0, resources={SLOT: 1}, max_retries=0)(_run)

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run a function in one of the processes; it and its arguments travel by pickle."""
        reference = self._run.remote(self._threads, fn, *args)
        future = _Cancelling(partial(self._stop, reference))
        reference.future().add_done_callback(partial(_pass_on, future))
        return future


class _Cancelling(Future[Any]):
    """Future that stops the work behind it when it is cancelled."""

    def __init__(self, stop: Callable[[], object]) -> None:
        super().__init__()
        self._stop = stop

    def cancel(self) -> bool:
        """Cancel the work, also where it runs; return whether it had not ended."""
        cancelled = super().cancel()
        if cancelled:
            self._stop()
        return cancelled


def _pass_on(future: Future[Any], ended: Future[Any]) -> None:
    """Set what Ray's future ended with; of an error of the function, that error."""
    from ray import exceptions

    if not future.set_running_or_notify_cancel():
        return
    error = ended.exception()
    if error is None:
        future.set_result(ended.result())
    elif isinstance(error, exceptions.RayTaskError):
        future.set_exception(error.cause if isinstance(error.cause, BaseException) else error)
    else:  # the process died, for want of memory too, or its node did
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        future.set_exception(BrokenExecutor(first_line))


def _run(threads: int, fn: Callable[..., Any], /, *args: Any) -> Any:
    keep_freed_memory()
    torch.set_num_threads(threads)
    return fn(*args)
