"""Test that the held-out split is the same list of videos everywhere."""

import itertools

import numpy as np
import pytest

from vosmodels.data.held_out import held_out, parts, unseen

HELD_OUT = "bus cow eagle elephant knife lizard rabbit raccoon snail snake snowboard turtle"
KEPT = """
airplane ape bear bike bird boat bucket camel cat crocodile deer dog dolphin duck earless_seal
fish fox frisbee frog giant_panda giraffe hand hat hedgehog horse leopard lion monkey motorbike
mouse others owl paddle parachute parrot penguin person plant sedan shark sheep sign skateboard
squirrel surfboard tennis_racket tiger toilet train truck umbrella whale zebra
"""
PINNED = ["4510bdf882", "dcf94b3a16", "5266084c41"]  # of the first 60 names drawn below


def test_the_held_out_categories_of_the_releases_stay_what_they_are() -> None:
    names = sorted(f"{HELD_OUT} {KEPT}".split())
    assert len(names) == 65
    assert [name for name in names if held_out("youtubevos", "category", name)] == HELD_OUT.split()


def test_one_video_in_twenty_is_held_out_by_its_own_name() -> None:
    names = [f"{number:010x}" for number in np.random.default_rng(0).integers(0, 2**40, 4000)]
    share = np.mean([held_out("youtubevos", "video", name) for name in names])
    assert share == pytest.approx(0.05, abs=0.01)
    assert [name for name in names[:60] if held_out("youtubevos", "video", name)] == PINNED


def test_a_video_is_left_to_training_where_neither_it_nor_a_category_is_held_out() -> None:
    inside, outside = PINNED[0], "fox"
    assert unseen(outside, {1: "person", 2: "cat"}) is None
    assert unseen(outside, {1: "person", 2: "bus", 5: "cow"}) == frozenset({2, 5})
    assert unseen(inside, {1: "person"}) == frozenset()
    assert unseen(inside, {1: "person", 4: "snake"}) == frozenset({4})


def test_daviss_training_videos_are_parted_one_in_six_and_keep_their_order() -> None:
    kept = ("surf", "rollerblade", "lucia", "mallard-water", "dance-jump", "horsejump-low")
    rest = ("bear", "swing", "hike")
    names = [name for pair in itertools.zip_longest(kept, rest) for name in pair if name]
    assert parts(names) == {"offline_train": rest, "offline_val": kept}
    assert parts(["bear", "swing"]) == {}
