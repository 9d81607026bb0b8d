"""Search greedily for the checkpoints whose average scores best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from soups.average import average
from vosmodels.errors import InputError

Weights = Mapping[str, Tensor]


class Scored(Protocol):
    """Anything with a `jf`, the mean of J and F, which the search compares."""

    @property
    def jf(self) -> float: ...


@dataclass(frozen=True)
class Ingredient:
    """A checkpoint that may go into a soup.

    score: its held-out score, higher is better; load: reads its weights; ancestor: sha256 of the
    stem it was trained from; step: optimisation steps since that stem.
    """

    name: str
    sha256: str
    score: float
    load: Callable[[], Weights]
    ancestor: str | None = None
    step: int = 0


@dataclass(frozen=True)
class Decision:
    """Decision on one ingredient: the score of the soup without and with it."""

    name: str
    sha256: str
    score_before: float | None  # None for the first, which the soup starts from
    score_with: float
    accepted: bool


@dataclass(frozen=True)
class Soup:
    """Averaged weights, their ingredients, and every decision in order.

    scored: what `score` returned for these weights; None where the best ingredient stayed alone.
    """

    weights: dict[str, Tensor]
    ingredients: tuple[Ingredient, ...]
    decisions: tuple[Decision, ...]
    score: float
    scored: float | Scored | None = None


def greedy(
    ingredients: Sequence[Ingredient],
    score: Callable[[Weights], float | Scored],
    workers: int = 1,
    min_delta: float = 0.0,
) -> Soup:
    """Make a greedy soup: average the ingredients that raise the held-out score.

    Model soups, arXiv:2203.05482, recipe 1. The soup starts as the best ingredient; the others
    are tried best first (ties: by sha256). An ingredient stays if the average with it scores more
    than `min_delta` above the average without it. The paper keeps ties too; the paper's code
    leaves them out, as here. The soup never scores below the best ingredient.

    score      weights -> held-out score, higher is better; called once per further ingredient
    Raises InputError for an empty pool, ingredients without one common ancestor, and
    workers > 1, which is not built yet.
    """
    if workers != 1:
        raise InputError(f"workers {workers}: a parallel search is not built yet; use 1")
    order = ranked(ingredients)
    members, weights, best = [order[0]], [order[0].load()], order[0].score
    scored: float | Scored | None = None
    decisions = [Decision(order[0].name, order[0].sha256, None, best, True)]
    for candidate in order[1:]:
        with_it = [*weights, candidate.load()]
        answer = score(average(with_it, [i.name for i in (*members, candidate)]))
        value = answer if isinstance(answer, float | int) else answer.jf
        accepted = value > best + min_delta
        decisions.append(Decision(candidate.name, candidate.sha256, best, value, accepted))
        if accepted:
            members, weights, best, scored = [*members, candidate], with_it, value, answer
    soup = average(weights, [ingredient.name for ingredient in members])
    return Soup(soup, tuple(members), tuple(decisions), best, scored)


def ranked(ingredients: Sequence[Ingredient]) -> list[Ingredient]:
    """Sort ingredients by held-out score, best first, each file once.

    InputError: none at all, or not all of one ancestor.
    """
    if not ingredients:
        raise InputError("no checkpoints to make a soup of")
    by_ancestor: dict[str, list[str]] = {}
    for ingredient in ingredients:
        by_ancestor.setdefault(ingredient.ancestor or "none", []).append(ingredient.name)
    if len(by_ancestor) > 1:
        groups = "; ".join(f"{a}: {', '.join(sorted(n))}" for a, n in sorted(by_ancestor.items()))
        raise InputError(
            f"checkpoints of {len(by_ancestor)} ancestors ({groups}); averages of weights that "
            "did not start from one stem are worthless: choose those of one"
        )
    unique = {ingredient.sha256: ingredient for ingredient in ingredients}
    return sorted(unique.values(), key=lambda i: (-i.score, i.sha256))
