"""Test processes on Ray behind the `submit` of concurrent.futures."""

from __future__ import annotations

import operator
import os
import time
from concurrent.futures import BrokenExecutor

import pytest
import torch

from orchestrator.execution.worker_pool import WorkerPool, worker_pool
from orchestrator.planning.placement import cores

pytestmark = pytest.mark.slow

WAIT_S = 600  # for an answer, however busy the machine


@pytest.fixture(scope="module")
def pool():
    with worker_pool(2) as pool:
        yield pool


def test_a_function_runs_in_another_process_on_its_share_of_the_cores(pool):
    assert pool.submit(os.getpid).result(WAIT_S) != os.getpid()
    assert pool.submit(torch.get_num_threads).result(WAIT_S) == max(1, cores() // 2)


@pytest.mark.usefixtures("pool")
def test_a_process_has_as_many_threads_as_are_asked_for():
    assert WorkerPool(2, 3).submit(torch.get_num_threads).result(WAIT_S) == 3


def nap(seconds: float) -> None:
    """Sleep as work does that can be stopped: Ray interrupts Python, and no call of C."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.05)


def span(seconds: float) -> tuple[float, float]:
    """When a nap of so long began and ended."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def test_what_is_more_than_the_processes_waits(pool):
    naps = [each.result(WAIT_S) for each in [pool.submit(span, 3.0) for _ in range(10)]]
    at_once = [sum(began <= start < ended for began, ended in naps) for start, _ in naps]
    assert max(at_once) == 2


def test_an_error_of_the_function_comes_as_it_is(pool):
    with pytest.raises(ZeroDivisionError, match=r"division by zero$"):
        pool.submit(operator.truediv, 1, 0).result(WAIT_S)


def test_a_process_that_dies_breaks_its_future_alone(pool):
    sleeping = pool.submit(nap, 3600.0)
    other = pool.submit(operator.add, 1, 2)
    time.sleep(1)
    killed = pool.submit(os._exit, 1)
    with pytest.raises(BrokenExecutor):
        killed.result(WAIT_S)
    assert other.result(WAIT_S) == 3
    assert not sleeping.done()
    sleeping.cancel()
    assert pool.submit(operator.add, 2, 2).result(WAIT_S) == 4


def test_a_future_that_is_cancelled_frees_its_process(pool):
    sleeping = [pool.submit(nap, 3600.0) for _ in range(2)]
    time.sleep(1)
    assert all(future.cancel() for future in sleeping)
    assert pool.submit(operator.add, 1, 1).result(WAIT_S) == 2
