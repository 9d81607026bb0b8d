"""Test which frames a probe visits, and its error against the whole score."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.data import DataConfig
from orchestrator.config.models import StudentConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer
from orchestrator.planning.protocol import PROBED_FRAMES
from orchestrator.tracking.storage import Storage
from soups.probe import LEAST, Error, beginnings, measured
from soups.search import Decision, Ingredient, Soup
from soups.speculative import Workers
from tests.conftest import write_davis
from tests.model_tools import any_filled
from vosmodels import registry
from vosmodels.data.frames import visited_frames


class Film:
    """A video of so many frames, every one judged; one object begins in its middle."""

    unseen = None
    ids = (1,)

    def __init__(self, name: str, length: int, last_counts: bool = False) -> None:
        self.name, self.length, self.last_counts = name, length, last_counts
        self.begins = {1: 0, 2: length // 2}
        self.judged = range(length)

    def __len__(self) -> int:
        return self.length


def film(*args: Any, **options: Any) -> Any:
    """A video as far as a probe looks at it."""
    return Film(*args, **options)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=90), st.integers(1, 5))
def test_beginnings_visit_at_most_64_frames_and_the_same_of_each_video(
    lengths: list[int], stride: int
):
    films = [film(f"v{n}", length) for n, length in enumerate(lengths)]
    found = beginnings(films, stride)
    counts = [len(visited_frames(video, stride)) for video in found]
    assert sum(counts) <= PROBED_FRAMES
    each = max(LEAST, PROBED_FRAMES // len(films))
    for video, count in zip(found, counts, strict=True):
        whole = len(range(0, len(films[int(video.name[1:])]), stride))
        assert count == min(each, whole)
        assert set(video.begins) == {1}
        assert max(video.judged) < len(video)
    assert found or all(length < 2 * stride + 1 for length in lengths)


def test_the_last_frame_of_a_beginning_is_scored_as_the_video_goes_on():
    cut, whole = beginnings([film("cut", 100), film("whole", 5)], 1, frames=20)
    assert (len(cut), cut.last_counts) == (10, True)
    assert (len(whole), whole.last_counts) == (5, False)


def test_videos_whose_beginning_has_no_judged_frame_are_left_out():
    bare = film("bare", 100)
    bare.judged = range(50, 100)
    assert [video.name for video in beginnings([bare, film("full", 100)], 1)] == ["full"]


def test_the_error_of_short_videos_is_one_minus_their_score(tmp_path: Path):
    data = DataConfig(root=str(write_davis(tmp_path / "davis", 2016)), select_height=48)
    scorer = Scorer(Storage(tmp_path / "storage"), ScoringProtocol.for_select(data))
    student = StudentConfig(name="mobilevos_mobilenetv2")
    network = any_filled(student.name)
    error = Error(student, scorer.protocol)
    assert error(network.state_dict()) == pytest.approx(1 - scorer.score(network).jf)
    assert pickle.loads(pickle.dumps(error)) == error
    assert len(pickle.dumps(error)) < 20_000


def test_several_processes_measure_the_barriers_of_one(tmp_path: Path):
    data = DataConfig(root=str(write_davis(tmp_path / "davis", 2016)), select_height=48)
    student = StudentConfig(name="mobilevos_mobilenetv2")
    error = Error(student, ScoringProtocol.for_select(data))
    weights = [registry.build(student.name, seed=seed).state_dict() for seed in range(3)]
    pool = [Ingredient(n, n, 0.5, w.copy) for n, w in zip("abc", weights, strict=True)]
    decisions = tuple(Decision(n, n, 0.5, 0.5, n != "c") for n in "abc")
    soup = Soup({}, tuple(pool[:2]), decisions, 0.5)
    found = measured(soup, pool, Storage(tmp_path), error)
    assert [place["barrier"] for place in found["places"]] != [None, None]
    with ThreadPoolExecutor(2) as threads:
        assert measured(soup, pool, Storage(tmp_path), error, Workers(2, threads)) == found


def test_a_checkpoint_that_one_try_refused_and_another_took_is_in_the_soup(tmp_path: Path):
    """Take one twice, as a second bag or pass does; the first try not in the soup is c's."""
    values = {"a": 0.0, "b": 2.0, "c": 3.0, "d": 4.0}
    pool = [
        Ingredient(name, name, 0.5, {"w": torch.tensor([value])}.copy)
        for name, value in values.items()
    ]
    turns = [("a", 1, True), ("b", 1, False), ("c", 1, False), ("b", 2, True), ("d", 2, False)]
    decisions = tuple(Decision(n, n, 0.5, 0.5, taken, bag=bag) for n, bag, taken in turns)
    soup = Soup({}, tuple(pool[:2]), decisions, 0.5)
    found = measured(soup, pool, Storage(tmp_path), None)
    places = [(p["name"], p["accepted"], p["distance"]) for p in found["places"]]
    assert (found["centre"], places) == ("a", [("b", True, 2.0), ("c", False, 3.0)])
