"""Test samples per second, and the share of time spent waiting."""

import pytest

from orchestrator.training.throughput import Throughput


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def slow_batches(self, seconds):
        while True:
            self.now += seconds
            yield "batch"


def test_pace_counts_its_own_time_and_leaves_out_the_callers():
    clock = Clock()
    throughput, batches = Throughput(clock), clock.slow_batches(1.0)
    start = throughput.read()
    for _ in range(4):
        with throughput.running():
            assert throughput.take(batches, 8) == "batch"
            clock.now += 1.0  # the teacher
        for _ in range(2):
            clock.now += 50.0  # the caller's
            with throughput.running():
                clock.now += 1.0  # a student
    speed = throughput.read().since(start)
    assert speed == pytest.approx({"samples_per_s": 2.0, "data_wait": 0.25})


def test_two_readers_see_the_same_pace_each_since_its_own_last_reading():
    clock = Clock()
    throughput = Throughput(clock)
    one = other = throughput.read()
    for seconds, rate in ((1.0, 4.0), (0.0, 8.0)):
        with throughput.running():
            throughput.take(clock.slow_batches(seconds), 8)
            clock.now += 1.0
        assert throughput.read().since(one)["samples_per_s"] == rate
        one = throughput.read()
    assert throughput.read().since(other)["samples_per_s"] == pytest.approx(16 / 3)
