"""Test which row of a sweep is called the best, and how."""

import pytest

from orchestrator.reporting.best import best_of, comparison, points
from orchestrator.reporting.results import Row
from orchestrator.reporting.split_scores import SplitScores


def row(name, jf, role="trial", baseline=None):
    own = {"sha256": f"sha of {name}", "baseline": baseline}
    return Row(name, role, {"select": SplitScores(jf, jf, jf)}, **own)


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


def test_the_best_row_is_compared_with_the_stem_and_with_its_baseline():
    rows = [
        row("stem", 0.4, "anchor"),
        row("cross-entropy", 0.45),
        row("omega=0.8", 0.57, baseline="cross-entropy"),
    ]
    assert comparison(rows) == "+.170 over the stem, +.120 over cross-entropy"
    rows.append(row("greedy soup", 0.58, "soup"))
    assert comparison(rows) == "+.180 over the stem, +.130 over cross-entropy"
    assert comparison(rows[1:3]) == "+.120 over cross-entropy"


def test_a_stem_that_no_trial_beat_is_named_with_its_score():
    rows = [row("stem", 0.6, "anchor"), row("omega=0.8", 0.57), row("omega=1.0", 0.6)]
    assert comparison(rows) == "no trial beat 'stem', J&F .600"
    assert comparison(rows[1:]) == comparison([]) == ""


def test_repeats_are_compared_by_their_means():
    rows = [
        row("stem", 0.5, "anchor"),
        *(row(f"plain repeat={n}", jf) for n, jf in enumerate((0.5, 0.6))),
        *(row(f"b repeat={n}", 0.65, baseline=f"plain repeat={n}") for n in range(2)),
    ]
    assert comparison(rows) == "+.150 over the stem, +.100 over plain"
