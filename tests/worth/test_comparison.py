"""Test the rows of a comparison, their words and their grids, on scores made by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from soups.worth.comparison import FEW, Comparison, Table, compared, difference, verdict
from soups.worth.entrants import Entrant
from tests.soups.pantry import of_videos
from vosmodels.evaluation.bootstrap import interval
from vosmodels.evaluation.scores import Scores
from vosmodels.inference.ensemble import View
from vosmodels.support.seeding import numpy_generator

BASE = {f"v{n}": 0.5 + 0.01 * n for n in range(12)}


def entrant(key: str, **more: object) -> Entrant:
    return Entrant(key, f"the {key}", [dict], **more)  # type: ignore[arg-type]


def table(videos: int = 12, **gaps: float) -> Comparison:
    """Rows whose score on every video is the best single's and a gap, and half of it or twice."""
    base = dict(list(BASE.items())[:videos])

    def score(row: Entrant) -> Scores:
        gap = gaps.get(row.key, 0.0)
        spread = {"mixed": [-1, 1]}.get(row.key, [0.5, 2])
        return of_videos(
            {name: value + gap * spread[n % 2] for n, (name, value) in enumerate(base.items())}
        )

    rows = [entrant("best"), *(entrant(key) for key in gaps)]
    return compared("report", "three clips", [Table(rows, score, lambda row: 1.0)])


def test_the_word_better_stands_only_where_the_interval_excludes_zero():
    found = table(greedy=0.02, uniform=-0.02, mixed=0.02)
    assert [(line.key, line.verdict) for line in found.lines] == [
        ("best", ""),
        ("greedy", "better"),
        ("uniform", "worse"),
        ("mixed", ""),
    ]
    assert "is better than the best single" in verdict(found)
    assert "is worse than" in verdict(table(greedy=-0.02))
    assert "shows no difference" in verdict(table(mixed=0.02, greedy=0.0))
    assert verdict(table(uniform=0.1)) == ""


def test_differences_are_means_over_videos_with_the_interval_of_the_bootstrap():
    (_, line) = table(greedy=0.02).lines
    gaps = [[0.01 if n % 2 == 0 else 0.04 for n in range(12)]]
    assert line.difference is not None
    assert line.difference.mean == pytest.approx(0.025)
    low, high = interval(np.array(gaps), np.ones(12), numpy_generator(0, "worth", "the greedy"))
    assert (line.difference.low, line.difference.high) == pytest.approx((low, high))
    assert line.difference.above == 1.0
    assert line.jf - table().lines[0].jf == pytest.approx(0.025)


def test_a_row_equal_to_the_best_differs_by_nothing_with_even_chances():
    found = difference([of_videos(BASE)], [of_videos(BASE)], "x")
    assert (found.mean, found.low, found.high, found.above) == (0, 0, 0, 0.5)


def test_below_ten_videos_every_difference_and_the_signs_stand_beside_the_interval():
    many, few = table(FEW, greedy=0.02), table(FEW - 1, greedy=0.02)
    (grid,) = many.grids()
    assert "videos + / - / 0" not in grid.head
    scores, by_video = few.grids()
    row = dict(zip(scores.head, scores.rows[1], strict=True))
    assert row["videos + / - / 0"] == "9 / 0 / 0"
    assert by_video.head == ["difference by video", *(f"v{n}" for n in range(9))]
    assert by_video.rows[0] == ["the greedy", *(["+0.010", "+0.040"] * 5)[:9]]
    assert any("fewer than 10 videos" in note for note in few.notes)


def test_what_chose_is_said_of_its_videos_alone():
    found = table(greedy=0.0)
    assert not any("looks better" in note for note in found.notes)
    told = Comparison("select", "clips", "These videos chose", found.lines)
    assert "These videos chose: what was chosen here looks better here than it is." in told.notes


def test_a_cost_is_asked_only_of_rows_with_several_passes():
    asked = []

    def cost(row: Entrant) -> float:
        asked.append(row.key)
        return 2.5

    rows = [entrant("best"), entrant("flip", views=(View(), View(flipped=True)))]
    found = compared("select", "", [Table(rows, lambda row: of_videos(BASE), cost)])
    assert asked == ["flip"]
    assert [line.cost for line in found.lines] == [None, 2.5]
    assert found.grids()[0].rows[1][-2] == "2.5x"


def test_the_json_has_every_number_and_sign():
    told = json.loads(json.dumps(table(greedy=0.02).as_dict(), allow_nan=False))
    best, greedy = told["rows"]
    assert best["difference"] is None
    assert (told["sequences"], greedy["verdict"]) == (12, "better")
    signs = {key: greedy["difference"][key] for key in ("plus", "minus", "zero")}
    assert signs == {"plus": 12, "minus": 0, "zero": 0}
    line = table(greedy=0.02).lines[1]
    assert line.difference is not None
    assert greedy["difference"]["per_sequence"] == pytest.approx(line.difference.per_sequence)
    assert {k: v for k, v in greedy.items() if k in ("j", "f", "jf")} == {
        k: v for k, v in asdict(line).items() if k in ("j", "f", "jf")
    }
