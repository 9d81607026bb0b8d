"""Test the order of a folder's files, and what is noted about their numbers."""

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vosmodels.data.listing import is_hidden, natural_key, order_notes, pictures, visible


@given(st.sets(st.integers(0, 10**6), min_size=1), st.sampled_from(["", "frame_", "a1b"]))
def test_numbers_sort_as_numbers(numbers: set[int], prefix: str) -> None:
    names = [f"{prefix}{number}" for number in numbers]
    random.Random(0).shuffle(names)
    assert sorted(names, key=natural_key) == [f"{prefix}{number}" for number in sorted(numbers)]


@given(st.sets(st.integers(0, 99999), min_size=1))
def test_numbers_of_one_width_sort_as_text(numbers: set[int]) -> None:
    names = [f"{number:05d}.jpg" for number in numbers]
    assert sorted(names, key=natural_key) == sorted(names)


@given(st.lists(st.text("a1.0_", max_size=6)))
def test_any_two_names_have_an_order(names: list[str]) -> None:
    ordered = sorted(set(names), key=natural_key)
    assert all(natural_key(a) < natural_key(b) for a, b in itertools.pairwise(ordered))


@pytest.mark.parametrize("name", ["._a.jpg", ".DS_Store", "Thumbs.db", ".git", "desktop.ini"])
def test_files_of_a_system_are_hidden(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    (tmp_path / "a.jpg").touch()
    assert is_hidden(name)
    assert visible(tmp_path) == list(pictures(tmp_path).values()) == [tmp_path / "a.jpg"]


def test_a_name_comes_before_the_same_name_with_more(tmp_path: Path) -> None:
    for name in ("img (2).jpg", "img (1).jpg", "img.jpg", "shot-1.png", "shot.png"):
        (tmp_path / name).touch()
    assert list(pictures(tmp_path)) == ["img", "img (1)", "img (2)", "shot", "shot-1"]


def test_a_file_or_nothing_in_the_place_of_a_folder_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert visible(tmp_path / "file") == visible(tmp_path / "gone") == []


@pytest.mark.parametrize(
    ("stems", "says"),
    [
        (["00000", "00001", "00002"], []),
        (["00000", "00005", "00010", "00015"], []),  # every fifth, as YouTube-VOS labels
        (["1", "2", "3"], []),
        (["first"], []),
        (["sky", "sea", "sun"], []),
        (["8", "9", "10"], ["numbers without zeros in front (8 ... 10)"]),
        (["08", "9", "10", "011"], ["numbers of 1 and 2 and 3 digits"]),
        (["0", "1", "2", "5", "6", "9"], ["no frame between 2 and 5, and 1 more"]),
        (["img", "img (1)", "img (2)"], ["read in the order img, img (1), img (2); img is taken"]),
        (["cam1_0", "cam1_1", "cam2_0"], ["names of several kinds"]),
        (["0", "1", "-1"], ["names of several kinds, read in the order 0, 1, -1"]),
        (["clip2_01", "clip2_02", "clip2_04"], ["no frame between clip2_02 and clip2_04"]),
    ],
)
def test_gaps_and_mixed_widths_are_noted(stems: list[str], says: list[str]) -> None:
    notes = list(order_notes(Path("v"), stems))
    assert len(notes) == len(says)
    assert all(part in note for part, note in zip(says, notes, strict=True))
