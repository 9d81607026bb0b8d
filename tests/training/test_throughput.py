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
    for _ in range(4):
        assert throughput.take(batches) == "batch"
        clock.now += 3.0  # the step
        throughput.stepped(8)
        clock.now += 50.0  # the caller's
    assert throughput.report() == pytest.approx({"samples_per_s": 2.0, "data_wait": 0.25})


def test_pace_reports_what_was_since_the_last_report():
    clock = Clock()
    throughput = Throughput(clock)
    for seconds, rate in ((1.0, 4.0), (0.0, 8.0)):
        throughput.take(clock.slow_batches(seconds))
        clock.now += 1.0
        throughput.stepped(8)
        assert throughput.report()["samples_per_s"] == rate
