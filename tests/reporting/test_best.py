"""Test which row of a sweep is called the best, and how."""

import pytest

from orchestrator.reporting.best import best_of, points
from orchestrator.reporting.results import Row
from orchestrator.reporting.split_scores import SplitScores


def row(name, jf, role="trial"):
    return Row(name, role, {"select": SplitScores(jf, jf, jf)})


def test_the_best_trial_is_named_also_where_a_soup_is_better():
    rows = [row("stem", 0.9, "anchor"), row("omega=0.8", 0.681), row("omega=1.0", 0.5)]
    best = best_of(rows)
    assert best is not None
    assert (best.name, best.row.name, str(best)) == ("omega=0.8", "omega=0.8", "omega=0.8 J&F .681")
    best = best_of([*rows, row("greedy soup", 0.69, "soup")])
    assert best is not None
    assert (best.name, best.row.name) == ("greedy soup", "greedy soup")
    assert str(best) == "omega=0.8 J&F .681, greedy soup .690"


def test_a_soup_that_equals_the_best_trial_is_that_trial():
    best = best_of([row("greedy soup", 0.681, "soup"), row("omega=0.8", 0.681)])
    assert best is not None
    assert best.name == "omega=0.8"


def test_a_point_counts_by_the_mean_of_its_repeats():
    rows = [
        row("a repeat=0", 0.9),
        row("a repeat=1", 0.1),
        row("b repeat=0", 0.6),
        row("b repeat=1", 0.8),
    ]
    best = best_of(rows)
    assert best is not None
    assert str(best) == "b J&F .700 (mean of 2)"
    assert best.row.name == "b repeat=1"
    assert [point.name for point in points(rows)] == ["b", "a"]
    assert best.point.spread == pytest.approx(0.1 * 2**0.5)


def test_without_a_scored_trial_nothing_is_best():
    assert best_of([row("stem", 0.9, "anchor"), Row("omega=0.8", "trial")]) is None
