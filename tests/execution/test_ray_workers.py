"""Test how Ray is started, with nothing in its place but its call."""

import gc
import os
import signal

import pytest
import ray

from orchestrator.execution import ray_workers
from orchestrator.execution.interrupts import SIGNALS


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Leave none of what `start` sets for Ray to other tests."""
    settings = (*ray_workers.ENVIRONMENT.items(), *ray_workers.OF_OUR_OWN)
    for key, value in settings:
        monkeypatch.setenv(key, value)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupt_while_ray_starts_waits_for_its_end_and_then_stops_it(number, monkeypatch):
    """In the middle of it, Ray's threads would go on with what the exception left."""
    done = []

    def init(**options):
        os.kill(os.getpid(), number)
        done.append("started")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("stopped"))
    with pytest.raises(KeyboardInterrupt):
        ray_workers.start(None, dashboard=False)
    assert done == ["started", "stopped"]


def test_the_handlers_that_ray_puts_in_place_are_taken_back(monkeypatch):
    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(ray, "init", lambda **o: signal.signal(signal.SIGTERM, lambda *a: None))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    assert ray_workers.start(None, dashboard=False) == [{"CPU": 2.0, "GPU": 0.0}]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_nobody_holds_any_more_is_let_go_before_ray_shuts_down(monkeypatch):
    """Ray ends a process, with exit code 1, that lets go of one of its objects meanwhile."""
    done = []

    class Ring:
        def __init__(self):
            self.ring = self

        def __del__(self):
            done.append("let go")

    def shutdown():
        done.append("shuts down")
        gc.collect()

    monkeypatch.setattr(ray, "shutdown", shutdown)
    Ring()
    ray_workers.stop()
    assert done == ["let go", "shuts down"]
    assert gc.get_freeze_count() == 0
