"""Test which trials successive halving stops, and that a restart forgets nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.execution.halving import Halving
from orchestrator.execution.tune_hooks import SCORE, STEP, TASK

STEPS = 16


def halving(factor=2.0, first=2):
    return Halving(first=first, factor=factor, steps=STEPS)


def trial(key):
    return SimpleNamespace(
        trial_id=f"ray-{key}", config={TASK: SimpleNamespace(jobs=(key_of(key),))}
    )


def key_of(key):
    return SimpleNamespace(key=key)


def runs_to(scheduler, key, curve):
    """Steps that a trial takes, scored after each, until it is stopped."""
    scheduler.on_trial_add(None, trial(key))
    for step, score in enumerate(curve, 1):
        if scheduler.on_trial_result(None, trial(key), {STEP: step, SCORE: score}) == "STOP":
            return step
    return len(curve)


def curves(count, seed=0):
    rng = np.random.default_rng(seed)
    return {f"k{n}": np.sort(rng.random(STEPS)) for n in range(count)}


def by_hand(all_curves, factor=2.0, first=2):
    """The same rule written out: a trial goes on at or above the best 1 / factor so far."""
    rungs = [first * factor**k for k in range(10) if first * factor**k < STEPS]
    seen: dict[float, list[float]] = {rung: [] for rung in rungs}
    ends = []
    for curve in all_curves.values():
        for step, score in enumerate(curve, 1):
            if step in seen:
                earlier = seen[step]
                cutoff = np.percentile(earlier, 100 * (1 - 1 / factor)) if earlier else -np.inf
                earlier.append(score)
                if score < cutoff:
                    break
        ends.append(step)
    return ends


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_a_trial_goes_on_at_a_rung_if_it_is_among_the_best_that_reached_it(factor):
    scheduler, found = halving(factor), curves(12)
    ends = [runs_to(scheduler, key, curve) for key, curve in found.items()]
    assert ends == by_hand(found, factor)
    assert min(ends) < STEPS == max(ends)


def test_a_restarted_scheduler_decides_as_one_that_was_never_stopped():
    unbroken, found = halving(), curves(12)
    ends = {key: runs_to(unbroken, key, curve) for key, curve in found.items()}
    restarted = halving()
    for key in list(found)[:6]:
        scores = [(step, found[key][step - 1]) for step in range(1, ends[key] + 1)]
        assert restarted.recall(key, scores) is (ends[key] < STEPS)
    for key in list(found)[6:]:
        assert runs_to(restarted, key, found[key]) == ends[key], key
    forgetful = halving()
    assert [runs_to(forgetful, key, found[key]) for key in list(found)[6:]] != [
        ends[key] for key in list(found)[6:]
    ]


def test_a_trial_that_goes_on_after_a_restart_is_not_judged_at_its_old_rungs_again():
    scheduler = halving()
    scheduler.recall("slow", [(2, 0.1)])
    scheduler.recall("good", [(step, 0.9) for step in range(1, STEPS + 1)])
    scheduler.on_trial_add(None, trial("slow"))
    assert scheduler.on_trial_result(None, trial("slow"), {STEP: 3, SCORE: 0.1}) == "CONTINUE"
    assert scheduler.on_trial_result(None, trial("slow"), {STEP: 4, SCORE: 0.1}) == "STOP"


def test_among_more_scores_a_stopped_trial_may_go_on():
    scores = {key: [(2, jf)] for key, jf in (("a", 0.8), ("late", 0.5), ("b", 0.8))}
    assert halving().stops("late", scores)
    more = {**scores, "c": [(2, 0.1)], "d": [(2, 0.2)]}
    assert not halving().stops("late", more)
    assert halving().stops("d", more)


def test_what_is_at_its_last_step_is_not_stopped():
    scheduler = Halving(first=2, factor=2.0, steps=8)  # a rung lies at 8
    for key in ("a", "b"):
        scheduler.recall(key, [(8, 0.9)])
    scheduler.on_trial_add(None, trial("c"))
    told = [scheduler.on_trial_result(None, trial("c"), {STEP: 8, SCORE: 0.9})]
    assert told == ["CONTINUE"]


def test_a_stop_is_told_by_job_and_step():
    scheduler, stops = halving(), []
    scheduler.on_stop = lambda job, step: stops.append((job.key, step))
    scheduler.recall("good", [(2, 0.9)])
    assert runs_to(scheduler, "bad", [0.1] * STEPS) == 2
    assert stops == [("bad", 2)]


def test_a_report_without_a_score_stops_nothing():
    scheduler = halving()
    scheduler.on_trial_add(None, trial("a"))
    assert scheduler.on_trial_result(None, trial("a"), {"ended": 1}) == "CONTINUE"
