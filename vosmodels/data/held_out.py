"""Parts of a training set held back at home: to choose by, or for when no server answers.

A name is held out by its own hash, without a list or a seed: everyone who has the same release has
the same split. Of DAVIS one video in six is held out; of the 30 of 2016 these are dance-jump,
horsejump-low, lucia, mallard-water, rollerblade and surf. Of YouTube-VOS one category in ten, with
every video that shows an object of one, and one video in twenty; of the 65 categories of 2018 and
2019 these are bus, cow, eagle, elephant, knife, lizard, rabbit, raccoon, snail, snake, snowboard
and turtle; person, which stands in more videos than any other, is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from vosmodels.support.seeding import seed_of

BASE, TRAIN, VAL = "train", "offline_train", "offline_val"  # splits: the whole and its parts
_SHARE = {
    ("davis", "video"): 1 / 6,
    ("youtubevos", "category"): 1 / 10,
    ("youtubevos", "video"): 1 / 20,
}


def held_out(
    dataset: Literal["davis", "youtubevos"], kind: Literal["category", "video"], name: str
) -> bool:
    """Whether a category, or a video by its own name, is kept from training."""
    return seed_of(dataset, kind, name) < _SHARE[dataset, kind] * 2**63


def parts(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The two parts of DAVIS's training videos, by split; none where one had no video."""
    kept = tuple(name for name in names if held_out("davis", "video", name))
    rest = tuple(name for name in names if name not in kept)
    return {TRAIN: rest, VAL: kept} if rest and kept else {}


def unseen(name: str, categories: Mapping[int, str]) -> frozenset[int] | None:
    """Objects of a video of offline_val whose categories, by object id, offline_train lacks.

    The server calls them unseen. None: the video is in offline_train.
    """
    objects = frozenset(
        i for i, category in categories.items() if held_out("youtubevos", "category", category)
    )
    return objects if objects or held_out("youtubevos", "video", name) else None
