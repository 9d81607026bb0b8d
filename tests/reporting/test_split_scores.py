"""Test the scores of one split: evaluated, over several seeds, and in files."""

import json
from pathlib import Path
from statistics import StatisticsError

import numpy as np
import pytest

from orchestrator.execution.scoring import per_sequence, summary
from orchestrator.reporting.results import Results, Row
from orchestrator.reporting.seeds import SeedTable
from orchestrator.reporting.split_scores import ErrorCounts, SplitScores, VideoScores, mean
from vosmodels.evaluation.boundary_errors import BoundaryErrors
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore

RESULTS = Path(__file__).resolve().parents[2] / "sweeps" / "results"
OTHERS = ("speed-", "benchmark-", "tradeoff-", "worth-")  # how files begin that hold no sweep

FILES = sorted(f for f in RESULTS.rglob("*.json") if not f.name.startswith(OTHERS))
LONE = [file for file in FILES if "rows" in json.loads(file.read_text())]
TABLES = [file for file in FILES if "runs" in json.loads(file.read_text())]


def test_the_committed_results_are_all_sweeps_or_tables():
    assert len(LONE) >= 2
    assert len(TABLES) >= 4
    assert sorted(LONE + TABLES) == FILES


@pytest.mark.parametrize("file", LONE, ids=lambda file: file.stem)
def test_a_committed_sweep_loads_and_is_written_as_it_was(file):
    values = json.loads(file.read_text())
    results = Results.from_dict(values)
    assert all(row.scores["select"].sequences for row in results.rows)
    assert json.loads(json.dumps(results.as_dict())) == values


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.stem)
def test_a_committed_table_loads_and_is_written_as_it_was(file):
    values = json.loads(file.read_text())
    assert json.loads(json.dumps(SeedTable.read(file).as_dict())) == values


def evaluated():
    one, two = ObjectScore((0.5, 0.7), (0.3, 0.5)), ObjectScore((0.2,), (0.2,))
    return Scores((SequenceScore("ant", {1: one, 2: two}), SequenceScore("bee", {1: one})))


def test_an_evaluation_becomes_means_videos_and_counts():
    errors = BoundaryErrors()
    truth = np.zeros((9, 9), dtype=np.uint8)
    truth[2:6, 2:6] = 1
    errors.add(truth, np.roll(truth, 1, axis=1), [1])
    scores = SplitScores.of(evaluated(), errors.as_dict())
    assert scores.j == pytest.approx((0.6 + 0.2 + 0.6) / 3)
    assert vars(scores.sequences["ant"]) == pytest.approx({"j": 0.4, "f": 0.3, "objects": 2})
    assert scores.sequences["ant"].jf == pytest.approx(0.35)
    assert scores.errors == ErrorCounts({1: 8, 2: 8, 4: 8, 8: 8}, wrong=8, masks=1, added=4)


def test_what_is_written_has_the_keys_that_ledger_and_scorer_use():
    errors = BoundaryErrors().as_dict()
    values = SplitScores.of(evaluated(), errors).as_dict()
    wanted = {**summary(evaluated()), "sequences": per_sequence(evaluated()), "boundary": errors}
    assert values == wanted
    assert SplitScores.of(evaluated(), {}).as_dict().keys() == {"j", "f", "jf", "sequences"}


def test_a_row_is_written_with_every_key_and_an_empty_split_where_it_has_no_scores():
    values = Row("a", "trial", {"select": SplitScores(0.3, 0.5, 0.4)}, step=3).as_dict()
    assert list(values)[:5] == ["name", "role", "select", "report", "step"]
    assert values["select"] == {"j": 0.3, "f": 0.5, "jf": 0.4}
    assert values["report"] == {}
    assert Row.from_dict(values).as_dict() == values


def test_a_mean_averages_scores_and_adds_counts_up():
    errors = ErrorCounts({1: 10, 2: 20}, wrong=80, masks=4, added=60)
    one = SplitScores(0.2, 0.4, 0.3, {"ant": VideoScores(0.2, 0.4)}, errors)
    two = SplitScores(0.6, 0.6, 0.6, {"ant": VideoScores(0.6, 0.6)}, errors)
    none = SplitScores(0.1, 0.2, 0.15)
    average = mean([one, two, none])
    assert average.means == pytest.approx({"j": 0.3, "f": 0.4, "jf": 0.35})
    assert average.sequences == {}
    assert average.errors == ErrorCounts({1: 20, 2: 40}, wrong=160, masks=8, added=120)
    assert mean([none]).errors is None
    with pytest.raises(StatisticsError):
        mean([])


def test_a_count_that_an_older_file_lacks_is_left_out_of_the_sum():
    newer = ErrorCounts({1: 10, 2: 20}, wrong=80, masks=4, added=60)
    older = ErrorCounts.from_dict({"1": 1, "wrong": 8, "masks": 2})
    assert older.added is None
    assert older.as_dict() == {"1": 1, "wrong": 8, "masks": 2}
    pair = [SplitScores(0.5, 0.5, 0.5, errors=errors) for errors in (newer, older)]
    assert mean(pair).errors == ErrorCounts({1: 11}, wrong=88, masks=6)


@pytest.mark.parametrize(
    "values", [{"j": 0.5, "f": 0.5}, {"j": 1, "f": 1, "jf": 1, "boundary": {"1": 2}}]
)
def test_scores_that_lack_a_key_are_refused(values):
    with pytest.raises(KeyError, match=r"jf|wrong"):
        SplitScores.from_dict(values)
