"""Greedy search: which of many checkpoints to average, given a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from soups.average import average
from vosmodels.errors import InputError

Weights = Mapping[str, Tensor]


class Scored(Protocol):
    """Scores of weights; soups go by the mean of J and F."""

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
    """One ingredient's turn: the soup's score without and with it."""

    name: str
    sha256: str
    score_before: float | None  # None for the first, which the soup starts from
    score_with: float
    accepted: bool


@dataclass(frozen=True)
class Soup:
    """Averaged weights, what is in them, and the record of every decision, in order.

    scored: what `score` said of these weights; None where the best ingredient stayed alone.
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
    """Greedy soup      Model soups, arXiv:2203.05482, recipe 1

    Ingredients are taken by held-out score, best first (ties: by sha256); one stays where the
    average with it scores more than `min_delta` above the average without it. The paper keeps
    ties too; its code does not, and neither does this: an ingredient that adds nothing is left out.
    Starts from the best ingredient's own `score`, so the answer is never below the best single.

    score      weights -> held-out score, higher is better; called once per further ingredient
    Raises InputError for an empty pool, ingredients without one common ancestor, and
    workers > 1, which is not built yet.
    """
    if workers != 1:
        raise InputError(f"workers {workers}: a parallel search is not built yet; use 1")
    order = ranked(ingredients)
    kept, weights, best = [order[0]], [order[0].load()], order[0].score
    scored: float | Scored | None = None
    decisions = [Decision(order[0].name, order[0].sha256, None, best, True)]
    for candidate in order[1:]:
        tried = [*weights, candidate.load()]
        answer = score(average(tried, [i.name for i in (*kept, candidate)]))
        value = answer if isinstance(answer, float | int) else answer.jf
        accepted = value > best + min_delta
        decisions.append(Decision(candidate.name, candidate.sha256, best, value, accepted))
        if accepted:
            kept, weights, best, scored = [*kept, candidate], tried, value, answer
    soup = average(weights, [ingredient.name for ingredient in kept])
    return Soup(soup, tuple(kept), tuple(decisions), best, scored)


def ranked(ingredients: Sequence[Ingredient]) -> list[Ingredient]:
    """The pool, best held-out score first, each file once; InputError where it is no pool."""
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
