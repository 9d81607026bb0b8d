"""Test how a source of jobs is asked, told and stopped through Ray Tune."""

import copy
import pickle
from threading import RLock
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from orchestrator.execution.tune_hooks import SCORE, STEP, TASK, Check, Jobs, OutOfTime


def named(key):
    return SimpleNamespace(key=key)


class Source:
    """Groups of jobs by their names of one letter, and what it was told of them."""

    def __init__(self, *names):
        self.names = list(names)
        self.time_is_up = False
        self.told = []

    def next(self):
        return tuple(map(named, self.names.pop(0))) if self.names else None

    def ended(self, jobs):
        self.told.append(("ended", *(job.key for job in jobs)))

    def stop(self, job, step, why):
        self.told.append(("stop", job.key, step, why))

    def settle(self):
        self.told.append(("settle",))


def test_ray_is_given_a_group_at_a_time_until_there_is_none():
    source: Any = Source("a", "bc")
    jobs = Jobs(source)
    tasks = [jobs.suggest(trial)[TASK] for trial in ("t1", "t2")]
    assert [str(task) for task in tasks] == ["a", "b"]  # names of Ray's folders
    assert jobs.suggest("t3") == Searcher.FINISHED
    jobs.on_trial_complete("t2", {SCORE: 0.5})
    jobs.on_trial_complete("t1", error=True)
    assert source.told == [("ended", "b", "c"), ("ended", "a")]


def test_a_group_stops_at_its_next_score_when_the_time_is_up():
    source: Any = Source("ab")
    jobs = Jobs(source)
    jobs.suggest("t1")
    stopper = OutOfTime(source, jobs)
    assert not stopper("t1", {STEP: 10, SCORE: 0.3})
    source.time_is_up = True
    assert not stopper("t1", {"ended": 1})
    assert source.told == []
    assert stopper("t1", {STEP: 20, SCORE: 0.3})
    assert source.told == [("stop", name, 20, "sweep.max_hours") for name in "ab"]
    assert not stopper.stop_all()


def test_an_interrupt_reaches_the_round_and_stops_are_written_meanwhile():
    source: Any = Source()
    calls: list[int] = []
    Check(lambda: calls.append(1), source).on_step_begin(1, [])
    assert calls == [1]
    assert source.told == [("settle",)]

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Check(interrupted, source).on_step_begin(1, [])


def test_nothing_of_this_process_is_copied_or_stored_by_ray():
    source: Any = Source("a")
    jobs: Any = Jobs(source)
    jobs.lock = RLock()  # as a study has, which cannot be pickled
    assert copy.deepcopy(jobs) is jobs
    assert pickle.loads(pickle.dumps(jobs)) == {}
