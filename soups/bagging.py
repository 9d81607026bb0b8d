"""Search once by each of several draws of the sequences that score, and average all picks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from soups.scoring import Scored, SetScorer, Weights
from soups.search import Decision, Ingredient, OnDecision, Rule, Soup, mean_of, ranked
from vosmodels.errors import InputError


@dataclass(frozen=True)
class Bags:
    """Draw so many times with replacement, by a seed; a further draw changes none before it."""

    count: int
    seed: int = 0

    def warning(self) -> str:
        """Say what a soup of so many searches may do that a greedy one does not."""
        return (
            f"the soup is the mean of what {self.count} searches took, each on other draws of the "
            f"select videos (--bag {self.count}): no search has seen it, and it may score below "
            "the best single checkpoint"
        )

    def draw(self, names: Sequence[str]) -> list[Counter[str]]:
        """Count how often each bag has each name, in as many draws as there are names.

        Raises InputError for fewer than two names.
        """
        if len(names) < 2:
            raise InputError(
                f"--bag {self.count}: {len(names)} select video, of which all bags are the same; "
                "choose on more videos, --data or --split, or leave --bag out"
            )
        rng = np.random.default_rng(self.seed)
        draws = [rng.integers(len(names), size=len(names)) for _ in range(self.count)]
        return [Counter(names[place] for place in each) for each in draws]


@dataclass(frozen=True)
class Bag:
    """Scores by one draw: those of the ingredients, by sha256, and what scores sets."""

    scores: Mapping[str, float]
    score: Callable[[Weights], float | Scored] | SetScorer


def bagged(
    ingredients: Sequence[Ingredient],
    score: Callable[[Weights], float | Scored] | SetScorer,
    bags: Sequence[Bag],
    rule: Rule,
) -> Soup:
    """Make a soup of what greedy searches by several bags take, one as often as it was taken.

    theta = 1/K sum_b sum_(i in picks of b) theta_i, K picks in all.   Each bag's search starts from
    the best ingredient by the bag's own score and goes in the rule's order by it. Each is fitted to
    other sequences, so that what a few of them favour weighs less. Bagged ensemble selection
    (Caruana et al., ICML 2004, section 2.3) draws the models instead, and averages the ensembles:
    there each bag weighs the same, here each pick, so that a bag with more of them weighs more.
    Unlike `greedy` the soup may score below the best ingredient: no search has seen it.

    score  of weights on all sequences, which the soup is given in the end, once
    bags   one at least; decisions name them from 1. `rule.on_decision` is told of those of all bags

    Raises InputError as `greedy`.
    """
    by_sha256 = {each.sha256: each for each in ranked(ingredients)}
    taken, decisions = list[Ingredient](), list[Decision]()
    for number, bag in enumerate(bags, 1):
        own = [replace(one, score=bag.scores[one.sha256]) for one in by_sha256.values()]
        tell = partial(
            _tell,
            rule.on_decision,
            number,
            before=len(decisions) - (number - 1),  # the first of each search is not told
            after=(len(bags) - number) * (len(own) - 1),
        )
        picks = replace(rule, on_decision=tell).pick(own, bag.score)
        taken += [by_sha256[each.sha256] for each in picks.taken]
        decisions += [replace(each, bag=number) for each in picks.decisions]
    weights = mean_of(taken, rule.settle)
    members = tuple(sorted(each.sha256 for each in taken))
    answer = SetScorer.of(score).answer(members, None, lambda: weights)
    assert answer.value is not None  # nothing is to be beaten, so that it is scored to the end
    return Soup(weights, tuple(taken), tuple(decisions), answer.value, answer.scored)


def _tell(
    on_decision: OnDecision,
    number: int,
    decision: Decision,
    done: int,
    of: int,
    *,
    before: int,
    after: int,
) -> None:
    """Tell of a decision in a bag: so many were told before, and so many will be after it."""
    on_decision(replace(decision, bag=number), before + done, before + of + after)
