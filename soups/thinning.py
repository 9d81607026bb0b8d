"""Thin a pool: leave out checkpoints by step, by score, and near-duplicates by their weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

from torch import Tensor

from soups.geometry import distance
from soups.scoring import Weights
from soups.search import Ingredient, ranked
from vosmodels.errors import InputError

logger = logging.getLogger(__name__)

HELD = 16  # state dicts that are kept in memory to compare others with; further ones are read anew


@dataclass(frozen=True)
class Thinning:
    """Rules for which checkpoints stay in a pool; each None: all do. They apply in this order.

    every: those whose step is a multiple of it; apart: those that lie farther from every better one
    that stays than this share of its norm (`distance`); best: so many with the highest scores.
    """

    every: int | None = None
    apart: float | None = None
    best: int | None = None

    def thin(self, ingredients: Sequence[Ingredient]) -> tuple[Ingredient, ...]:
        """Return those that stay, in the order given, and log how many each rule left out.

        Reads weights only for `apart`. Raises InputError where none stays.
        """
        stays = list(ingredients)
        for rule, value in vars(self).items():
            if value is None:
                continue
            before, stays = len(stays), getattr(self, f"_{rule}")(stays)
            logger.info("--%s %g: %d of %d checkpoints stay", rule, value, len(stays), before)
            if not stays:
                steps = ", ".join(map(str, sorted({each.step for each in ingredients})[:8]))
                raise InputError(
                    f"--{rule} {value:g}: none of {before} checkpoints stays; their steps: {steps}"
                )
        return tuple(each for each in ingredients if each in stays)

    def _every(self, ingredients: Sequence[Ingredient]) -> list[Ingredient]:
        return [each for each in ingredients if not each.step % (self.every or 1)]

    def _best(self, ingredients: Sequence[Ingredient]) -> list[Ingredient]:
        return ranked(ingredients)[: self.best]

    def _apart(self, ingredients: Sequence[Ingredient]) -> list[Ingredient]:
        stays = list[_Kept]()
        for each in ranked(ingredients):
            weights = each.load()
            if all(kept.share_from(weights) > (self.apart or 0.0) for kept in stays):
                stays.append(_Kept(each, weights if len(stays) < HELD else None))
        return [kept.ingredient for kept in stays]


@dataclass(frozen=True)
class _Kept:
    """An ingredient that stays, with its weights if they are held."""

    ingredient: Ingredient
    weights: Weights | None = field(repr=False)

    def share_from(self, others: Weights) -> float:
        own = self.ingredient.load() if self.weights is None else self.weights
        norm = sqrt(sum(_square(tensor) for tensor in _floating(own).values()))
        return distance(own, others) / norm if norm else 0.0


def _floating(weights: Weights) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in weights.items() if tensor.is_floating_point()}


def _square(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())
