"""Test the score that a candidate can still have, against the score that it has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from soups import select_scores
from soups.select_scores import SelectVideos
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore

FRAMES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5)
VIDEOS = st.lists(st.lists(FRAMES, min_size=1, max_size=3), min_size=1, max_size=6)


def scores_of(videos: list[list[list[tuple[float, float]]]]) -> Scores:
    return Scores(
        tuple(
            SequenceScore(
                str(number),
                {
                    i: ObjectScore(*map(tuple, zip(*frames, strict=True)))
                    for i, frames in enumerate(objects)
                },
            )
            for number, objects in enumerate(videos)
        )
    )


def videos_of(scores: Scores, monkeypatch: pytest.MonkeyPatch) -> SelectVideos:
    """The videos of whole scores, 10 frames each, as the first score shows them."""

    class Video(SimpleNamespace):
        def __len__(self) -> int:
            return 10

    videos = [Video(name=s.name, begins={1: 0}) for s in scores.sequences]
    monkeypatch.setattr(select_scores, "scored_videos", lambda protocol: videos)
    protocol: Any = SimpleNamespace(stride=1)
    return SelectVideos.of(protocol, lambda weights: lambda video: Scores(())).as_in(scores)


def parts_of(scores: Scores, fps: float | None = None) -> dict[str, Scores]:
    return {sequence.name: Scores((sequence,), fps) for sequence in scores.sequences}


@given(VIDEOS)
@example([[[(1.0, 1.0)]], [[(1.0, 1.0), (1.0, 1.0), (1.0, 1.0)]]])
def test_no_score_is_above_what_it_could_be_however_few_videos_are_known(videos):
    """The bits count: a search compares them with the score to be beaten."""
    scores = scores_of(videos)
    with pytest.MonkeyPatch.context() as patch:
        select = videos_of(scores, patch)
        parts, known, before = parts_of(scores), dict[str, Scores](), 1.0
        for name in select.names:
            known[name] = parts[name]
            most = select.at_most(known)
            assert scores.jf <= most <= before
            before = most
        assert before == select.total(parts).jf == scores.jf


def test_the_total_is_the_score_of_the_videos_as_they_are_listed(monkeypatch: pytest.MonkeyPatch):
    """The frames a second are those of all: 10 frames in 1 s and 10 in 2 s."""
    scores = scores_of([[[(0.9, 0.9)]], [[(0.1, 0.3)], [(0.2, 0.2)]]])
    select = videos_of(scores, monkeypatch)
    assert select.names == ("1", "0")  # the first lacks 0.1 of its object, the other most of two
    parts = {"1": Scores(scores.sequences[1:], 5.0), "0": Scores(scores.sequences[:1], 10.0)}
    total = select.total(parts)
    assert total.sequences == scores.sequences
    assert total.fps == pytest.approx(20 / 3)


def test_a_video_without_a_scored_frame_counts_for_nothing(monkeypatch: pytest.MonkeyPatch):
    scores = scores_of([[[(0.9, 0.9)]], [[(0.1, 0.3)]]])
    select = videos_of(scores, monkeypatch)
    parts = parts_of(scores) | {"1": Scores(())}
    assert select.total(parts).sequences == scores.sequences[:1]


@given(VIDEOS, st.data())
def test_a_bag_counts_each_video_as_often_as_it_was_drawn(videos, data):
    """Against the scores of copies, and never above what the videos that are not known allow."""
    scores = scores_of(videos)
    numbers = range(len(videos))
    drawn = data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=9))
    copies = scores_of([videos[number] for number in sorted(drawn)])
    with pytest.MonkeyPatch.context() as patch:
        whole = videos_of(scores, patch)
        counts = Counter(map(str, drawn))
        bag = replace(whole, counts=counts).as_in(scores)
        assert set(bag.names) == counts.keys()
        parts = {name: part for name, part in parts_of(scores).items() if name in counts}
        assert bag.total(parts).jf == bag.counted(scores).jf == copies.jf
        known, before = dict[str, Scores](), 1.0
        for name in bag.names:
            known[name] = parts[name]
            most = bag.at_most(known)
            assert copies.jf <= most <= before
            before = most
        assert before == copies.jf
