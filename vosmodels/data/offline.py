"""An offline split of YouTube-VOS's training set, for when the benchmark's server does not answer.

Held out are one category in ten, with every video that shows an object of one, and one in twenty of
the videos. A name is held out by its own hash, without a list or a seed: everyone who has the same
release has the same split. Of the 65 categories of 2018 and 2019 the held-out ones are bus, cow,
eagle, elephant, knife, lizard, rabbit, raccoon, snail, snake, snowboard and turtle; person, which
stands in more videos than any other, is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from vosmodels.seeding import seed_of

BASE, TRAIN, VAL = "train", "offline_train", "offline_val"  # splits: the whole and its parts
_SHARE = {"category": 1 / 10, "video": 1 / 20}


def held_out(kind: Literal["category", "video"], name: str) -> bool:
    """Whether a category, or a video by its own name, is kept from training."""
    return seed_of("youtubevos", kind, name) < _SHARE[kind] * 2**63


def unseen(name: str, categories: Mapping[int, str]) -> frozenset[int] | None:
    """Objects of a video of offline_val whose categories, by object id, offline_train lacks.

    The server calls them unseen. None: the video is in offline_train.
    """
    objects = frozenset(i for i, category in categories.items() if held_out("category", category))
    return objects if objects or held_out("video", name) else None
