"""Test the scores of parts of a set."""

import json

import numpy as np
import pytest

from orchestrator.reporting.score_table import show_scores
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore, Tally
from vosmodels.evaluation.strata import as_dict, changing_scale, metrics, strata


def scored(j: float, *areas: int) -> ObjectScore:
    return ObjectScore((j,) * len(areas), (j - 0.1,) * len(areas), areas)


def video(name: str, *objects: ObjectScore) -> SequenceScore:
    return SequenceScore(name, dict(enumerate(objects, 1)))


def square(side: int) -> np.ndarray:
    ids = np.zeros((40, 40), dtype=np.uint8)
    ids[:side, :side] = 1
    return ids


@pytest.mark.parametrize(
    ("areas", "strong"),
    [
        ((100, 401), True),
        ((401, 300, 100), True),
        ((100, 400), False),  # by four, and no more
        ((400, 0, 390), False),  # a frame without the object is none of its sizes
        ((0, 0), False),
        ((7,), False),
    ],
)
def test_an_object_changes_scale_strongly_by_more_than_a_factor_of_four(areas, strong):
    assert changing_scale(video("ant", scored(0.5, *areas))) == [1] * strong


def test_a_stratum_is_the_mean_over_its_objects_wherever_they_are():
    grown = [scored(0.9, 10, 90), scored(0.5, 90, 10), scored(0.4, 5, 500)]
    scores = Scores(
        (
            video("ant", grown[0], scored(0.1, 50, 60)),
            video("bee", scored(0.2, 50, 60)),
            video("cat", grown[1], grown[2]),
        )
    )
    (part,) = strata(scores)
    assert (part.name, part.objects, part.videos) == ("scale change", 3, 2)
    assert part.j == pytest.approx(0.6)
    assert part.f == pytest.approx(0.5)
    assert metrics(scores) == {"jf_scale_change": pytest.approx(0.55)}
    assert as_dict(scores)["scale_change"]["jf"] == pytest.approx(0.55)


def test_a_set_without_such_an_object_or_without_areas_has_no_stratum():
    old = ObjectScore((0.5, 0.5), (0.5, 0.5))
    for one in (old, scored(0.5, 10, 11)):
        scores = Scores((video("ant", one),))
        assert strata(scores) == []
        assert not metrics(scores)
        assert not as_dict(scores)


def test_areas_are_counted_in_the_true_masks_and_survive_a_file():
    tally = Tally()
    for side in (20, 9, 30):
        tally.add(square(side), square(5), [1])
    scores = Scores((SequenceScore("ant", tally.scores()),))
    assert scores.sequences[0].objects[1].areas == (400, 81, 900)
    again = Scores.from_dict(json.loads(json.dumps(scores.as_dict())))
    assert again == scores
    assert strata(again)[0].objects == 1


def test_areas_of_another_number_than_the_scores_are_refused():
    values = Scores((video("ant", scored(0.5, 10, 90)),)).as_dict()
    values["sequences"]["ant"]["objects"]["1"]["areas"].pop()
    with pytest.raises(ValueError, match="2 values of J and 1 areas"):
        Scores.from_dict(values)


def test_a_score_table_ends_with_the_strata(capsys):
    scores = Scores((video("ant", scored(0.9, 10, 90), scored(0.1, 50, 60)),))
    show_scores(scores, "model")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["scale", "change", "1", "0.900", "0.800", "0.850"] in lines
