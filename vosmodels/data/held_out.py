"""Split a training set into offline_train and offline_val by a hash of the names.

A held-out part allows model selection, and scores where no benchmark server is at hand. The hash
needs no list and no seed, so everyone with the same release gets the same split. DAVIS: one video
in six is held out; of the 30 videos of 2016 these are dance-jump, horsejump-low, lucia,
mallard-water, rollerblade and surf. YouTube-VOS: one category in ten is held out, with every video
that shows an object of such a category, and one video in twenty; of the 65 categories of 2018 and
2019 these are bus, cow, eagle, elephant, knife, lizard, rabbit, raccoon, snail, snake, snowboard
and turtle. The category person, the one in most videos, is not held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from vosmodels.support.seeding import seed_of

BASE, TRAIN, VAL = "train", "offline_train", "offline_val"  # the split and its two parts
_SHARE = {
    ("davis", "video"): 1 / 6,
    ("youtubevos", "category"): 1 / 10,
    ("youtubevos", "video"): 1 / 20,
}


def held_out(
    dataset: Literal["davis", "youtubevos"], kind: Literal["category", "video"], name: str
) -> bool:
    """Return True if the name's hash keeps a category or video out of training."""
    return seed_of(dataset, kind, name) < _SHARE[dataset, kind] * 2**63


def parts(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Split DAVIS's training videos into offline_train and offline_val.

    Returns the names by split; an empty mapping if one part would have no video.
    """
    val = tuple(name for name in names if held_out("davis", "video", name))
    train = tuple(name for name in names if name not in val)
    return {TRAIN: train, VAL: val} if train and val else {}


def unseen(name: str, categories: Mapping[int, str]) -> frozenset[int] | None:
    """Return the objects of an offline_val video whose category offline_train lacks.

    The benchmark's server calls such objects unseen. categories: by object id. Returns None for a
    video of offline_train.
    """
    objects = frozenset(
        i for i, category in categories.items() if held_out("youtubevos", "category", category)
    )
    return objects if objects or held_out("youtubevos", "video", name) else None
