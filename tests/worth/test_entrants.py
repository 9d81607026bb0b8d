"""Test which rows a soup is compared with, and that each has the weights of its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soups.records import Member, SoupRecord
from soups.worth.entrants import Entrant, best_of, entrants, runs_of
from soups.worth.rows import ROWS, rows_of
from tests.soups.pantry import Pantry
from vosmodels.errors import InputError, UsageError

RUNS = (((10, 1.0), (20, 0.5), (30, 2.0)), ((10, -3.0), (20, 4.0), (30, 0.2)))


def unknown(sha256: str) -> None:
    return None


@pytest.fixture
def pantry(tmp_path: Path) -> Pantry:
    return Pantry(tmp_path, RUNS, stem=0.0, target=0.4)


@pytest.fixture
def record(pantry: Pantry) -> SoupRecord:
    return pantry.cook()


def weights(entrant: Entrant) -> list[Any]:
    return [pytest.approx(float(load()["w"])) for load in entrant.loads]


def test_every_row_has_the_weights_of_its_name(record: SoupRecord):
    """The target is 0.4: best 0.5, then 0.2, whose mean is 0.35; all others make it worse."""
    found, remarks = entrants(record, unknown)
    assert remarks == []
    assert [entrant.key for entrant in found if entrant.key != "line"] == [
        key for key in ROWS if key != "line"
    ]
    by_key: dict[str, Any] = {entrant.key: weights(entrant) for entrant in found}
    assert by_key == {
        "stem": [0.0],
        "best": [0.5],
        "last": [2.0],
        "tail": [(0.5 + 2.0) / 2],
        "uniform": [sum(value for run in RUNS for _, value in run) / 6],
        "greedy": [0.35],
        "line": [0.375],
        "stock": [0.35],  # both champions, 0.5 and 0.2, lie the same way from the stem
        "flip": [0.5],
        "scales": [0.5],
        "all": [0.5, 0.2],
    }
    assert [(e.alpha, weights(e)) for e in found if e.alpha is not None] == [
        (0.0, [0.0]),
        (1.0, [0.5]),
        (0.25, [0.125]),
        (0.5, [0.25]),
        (0.75, [0.375]),
    ]
    assert {entrant.key: entrant.passes for entrant in found if entrant.passes > 1} == {
        "flip": 2,
        "scales": 2,
        "all": 2,
    }


def test_what_a_search_did_to_means_is_done_to_every_row_that_is_a_mean(record: SoupRecord):
    plain = {e.name: weights(e) for e in entrants(record, unknown)[0]}
    settled, _ = entrants(record, unknown, settle=lambda w: {key: w[key] + 100 for key in w})
    moved = [e for e in settled if weights(e) != plain[e.name]]
    assert {e.key for e in moved} == {"tail", "uniform", "line", "stock"}
    assert all(float(load()["w"]) > 90 for e in moved for load in e.loads)


def test_checkpoints_are_known_by_their_sha256_and_averages_by_none(
    record: SoupRecord, pantry: Pantry
):
    known = {e.key: e.sha256 for e in entrants(record, unknown)[0] if e.sha256}
    assert known == {
        "stem": pantry.stem,
        "best": pantry.shas[0][1],
        "last": pantry.shas[0][2],
        "greedy": record.file.sha256,
    }


def test_scores_of_the_protocol_that_chose_count_before_those_of_the_ledger(
    record: SoupRecord, pantry: Pantry
):
    """Scored anew, the checkpoint at 4 is best; its run is the other one."""
    scores = {pantry.shas[1][1]: 0.99}
    (best, last), _ = entrants(record, scores.get, ["best", "last"])
    assert (weights(best), weights(last)) == ([4.0], [0.2])


def test_ties_of_the_best_go_by_sha256_and_without_scores_the_first_is_it():
    members = [Member("x", "b"), Member("y", "a"), Member("z", "c")]
    assert best_of(members, {members[0]: 0.5, members[1]: 0.5, members[2]: None}).name == "y"
    assert best_of(members, {}).name == "x"


def test_rows_that_cannot_be_made_are_left_out_with_the_reason(tmp_path: Path):
    record = Pantry(tmp_path, [[(10, 0.5)]], stem=None).cook()
    found, remarks = entrants(record, unknown)
    assert [entrant.key for entrant in found] == [
        "best",
        "last",
        "uniform",
        "greedy",
        "flip",
        "scales",
    ]
    text = "\n".join(remarks)
    for key, why in (
        ("tail", "fewer than two checkpoints"),
        ("stem", f"the stem, sha256 {'0' * 64}, is not here"),
        ("line", "is not here"),
        ("stock", "is not here"),
        ("all", "a single checkpoint"),
    ):
        assert f"no row {key!r}" in text
        assert why in text
    assert entrants(record, unknown, ["greedy"])[1] == []


def test_model_stock_wants_several_runs(tmp_path: Path):
    record = Pantry(tmp_path, [[(10, 0.5), (20, 0.3), (30, 0.6)]]).cook()
    assert entrants(record, unknown)[1] == [
        "no row 'stock': the pool is of one run, and the angle is between runs"
    ]


def test_a_checkpoint_that_is_gone_is_named_unless_no_row_asks_for_it(
    record: SoupRecord, pantry: Pantry
):
    pantry.storage.checkpoint(pantry.shas[1][0]).unlink()
    with pytest.raises(InputError, match=f"step 10 \\(sha256 {pantry.shas[1][0]}"):
        entrants(record, unknown)
    assert len(entrants(record, unknown, ["best", "greedy"])[0]) == 2


def test_runs_have_their_checkpoints_by_step(record: SoupRecord, pantry: Pantry):
    runs = runs_of(record.storage)
    assert len(runs) == 6
    assert [event.step for event in runs[pantry.shas[1][2]].checkpoints] == [10, 20, 30]


def test_rows_are_read_from_a_list_and_a_wrong_one_is_refused():
    assert rows_of(None) == ROWS
    assert rows_of("best, greedy") == ("best", "greedy")
    with pytest.raises(UsageError, match="--rows nosuch, x: no such row; there are stem, best"):
        rows_of("best,nosuch,x")
