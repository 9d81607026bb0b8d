"""Search greedily for the checkpoints whose average scores best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from soups.average import Sum, average_of
from soups.order import Order
from soups.scoring import Answer, Scored, SetScorer, Weights
from soups.speculative import Executor, Try, Workers, answers
from vosmodels.errors import InputError

PASSES = 10  # through a pool, most, with replacement

Settle = Callable[[Weights], dict[str, Tensor]]  # what is done to a mean before it is scored


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
    """Decision on one ingredient: the score of the soup without and with it.

    score_before: None for the first, which the soup starts from; score_with: None where scoring
    stopped early, as the score could be no higher than `at_most`, which is not above
    `score_before` by more than min_delta. bag: number of the bag that was searched, from 1; None
    where there are none.
    """

    name: str
    sha256: str
    score_before: float | None
    score_with: float | None
    accepted: bool
    at_most: float | None = None
    bag: int | None = None


@dataclass(frozen=True)
class Soup:
    """Averaged weights, their ingredients, and every decision in order.

    ingredients: one as often as it was taken; scored: what `score` returned for these weights;
    None where the best ingredient stayed alone.
    """

    weights: dict[str, Tensor]
    ingredients: tuple[Ingredient, ...]
    decisions: tuple[Decision, ...]
    score: float
    scored: float | Scored | None = None


OnDecision = Callable[[Decision, int, int], None]  # the last, how many there are, and will be


def greedy(
    ingredients: Sequence[Ingredient],
    score: Callable[[Weights], float | Scored] | SetScorer,
    workers: int = 1,
    min_delta: float = 0.0,
    *,
    order: Order | None = None,
    replacement: bool = False,
    executor: Executor | None = None,
    settle: Settle | None = None,
    on_decision: OnDecision = lambda decision, done, of: None,
) -> Soup:
    """Make a greedy soup: average the ingredients that raise the held-out score.

    Model soups, arXiv:2203.05482, recipe 1. The soup starts as the best ingredient; the others
    are tried in `order`, by default best first; ties go by sha256. An ingredient stays if the
    average with it scores more than `min_delta` above the average without it: one that changes
    nothing stays out. The paper keeps ties; the paper's code leaves them out, as here. The soup
    never scores below the best ingredient.

    score        weights -> held-out score, higher is better; once per further ingredient. A
                 `SetScorer` may stop early and remember, which changes no decision
    workers      parts of scores, of one candidate or several, that are computed at a time;
                 decisions and weights are those of one
    replacement  go through the pool again, with the members, until a pass takes none, or PASSES
                 times; one that is taken again weighs more (Caruana et al., Ensemble selection,
                 ICML 2004, section 2.1)
    executor     where several workers run, such as one of concurrent.futures; by default threads
    settle       changes the mean of several checkpoints before it is scored, and that of the soup;
                 a checkpoint alone stays as it is
    on_decision  takes notice of each decision after the first

    Raises InputError for an empty pool, ingredients without one common ancestor, and fewer than
    one worker.
    """
    rule = Rule(workers, min_delta, order or Order(), replacement, executor, settle, on_decision)
    return rule.pick(ingredients, score).soup()


@dataclass(frozen=True)
class Rule:
    """Say how a pool is searched, by the names that `greedy` has for it."""

    workers: int = 1
    min_delta: float = 0.0
    order: Order = field(default_factory=Order)
    replacement: bool = False
    executor: Executor | None = None
    settle: Settle | None = None
    on_decision: OnDecision = lambda decision, done, of: None

    def pick(
        self,
        ingredients: Sequence[Ingredient],
        score: Callable[[Weights], float | Scored] | SetScorer,
    ) -> Picks:
        """Search as `greedy` does, and raise what it raises; no mean is made of the picks yet."""
        if self.workers < 1:
            raise InputError(
                f"workers {self.workers}: parts of scores computed at a time, 1 or more"
            )
        first, *others = ranked(ingredients)
        with ExitStack() as stack:
            executor = self.executor
            if self.workers > 1 and executor is None:
                executor = stack.enter_context(ThreadPoolExecutor(self.workers))
            pool = Workers(self.workers, executor) if executor else None
            picks = Picks(first, self, partial(answers, SetScorer.of(score), workers=pool))
            taken, passes = picks.go_through(self.order.sort(others)), 1
            while self.replacement and taken and passes < PASSES:
                taken, passes = picks.go_through(self.order.sort([first, *others])), passes + 1
        return picks


def mean_of(ingredients: Sequence[Ingredient], settle: Settle | None) -> dict[str, Tensor]:
    """Average ingredients as a search does, one as often as it is there. Raises NoMean."""
    loads, names = [each.load for each in ingredients], [each.name for each in ingredients]
    return _settled(average_of(loads, names), ingredients, settle)


def _settled(
    mean: dict[str, Tensor], members: Collection[Ingredient], settle: Settle | None
) -> dict[str, Tensor]:
    return settle(mean) if settle and several(members) else mean


def several(members: Collection[Ingredient]) -> bool:
    """Tell whether different checkpoints are meant; the mean of one is that checkpoint."""
    return len({each.sha256 for each in members}) > 1


class Picks:
    """A search so far: the ingredients taken, their sum once it is needed, and the decisions."""

    def __init__(
        self,
        first: Ingredient,
        rule: Rule,
        answers: Callable[[Iterable[Try]], Generator[Answer]],
    ) -> None:
        self._rule, self._answers = rule, answers
        self._taken, self._best = [first], first.score
        self._scored: float | Scored | None = None
        self._decisions = [Decision(first.name, first.sha256, None, first.score, True)]
        self._sum: Sum | None = None  # of the first `_summed` that were taken
        self._summed = 0

    def go_through(self, left: Sequence[Ingredient]) -> bool:
        """Decide on each ingredient in turn; return whether one was taken."""
        before = len(self._taken)
        while left:
            answers = self._answers(self._try(candidate) for candidate in left)
            done = 0
            try:
                for candidate, answer in zip(left, answers, strict=True):
                    done += 1
                    if self._decide(candidate, answer, len(left) - done):
                        break  # further answers are about the soup without it
            finally:
                answers.close()
            left = left[done:]
        return len(self._taken) > before

    @property
    def taken(self) -> tuple[Ingredient, ...]:
        """The ingredients taken, one as often as it was."""
        return tuple(self._taken)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every decision, in order."""
        return tuple(self._decisions)

    def soup(self) -> Soup:
        """Return the soup of the ingredients taken."""
        weights = _settled(self._total().mean(), self._taken, self._rule.settle)
        return Soup(weights, self.taken, self.decisions, self._best, self._scored)

    @property
    def _floor(self) -> float:
        return self._best + self._rule.min_delta

    def _decide(self, candidate: Ingredient, answer: Answer, left: int) -> bool:
        accepted = answer.above(self._floor)
        early = answer.at_most if answer.value is None else None
        decision = Decision(
            candidate.name, candidate.sha256, self._best, answer.value, accepted, early
        )
        self._decisions.append(decision)
        if answer.value is not None and accepted:
            self._taken.append(candidate)
            self._best, self._scored = answer.value, answer.scored
        done = len(self._decisions) - 1
        self._rule.on_decision(decision, done, done + left)
        return accepted

    def _try(self, candidate: Ingredient) -> Try:
        taken = tuple(self._taken)
        members = tuple(sorted(each.sha256 for each in (*taken, candidate)))
        return Try(candidate.name, members, self._floor, lambda: self._with(candidate))

    def _with(self, candidate: Ingredient) -> Weights:
        mean = self._total().plus(candidate.load(), candidate.name).mean()
        return _settled(mean, [*self._taken, candidate], self._rule.settle)

    def _total(self) -> Sum:
        """Sum the ingredients taken, each read once."""
        for each in self._taken[self._summed :]:
            loaded = each.load()
            self._sum = (
                self._sum.plus(loaded, each.name) if self._sum else Sum.of(loaded, each.name)
            )
            self._summed += 1
        assert self._sum is not None
        return self._sum


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
    return Order().sort(unique.values())
