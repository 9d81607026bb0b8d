"""Score the next candidates of a search at the same time, assuming that each is rejected."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from soups.scoring import Answer, Floor, Members, SetScorer, Weights
from vosmodels.errors import InputError

DEPTH = 4  # tries that are begun and not asked for yet, for each worker
LOSSES = 3  # workers that may die of one try


@dataclass(frozen=True)
class Try:
    """A set that the search asks about: a candidate with the members so far.

    weights: computes its mean; floor: it wins if it scores higher.
    """

    name: str
    members: Members
    floor: Floor
    weights: Callable[[], Weights]


class Executor(Protocol):
    """Run a function elsewhere, as those of concurrent.futures do.

    Where a worker dies, the future of what it ran raises BrokenExecutor, and others go on.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


@dataclass(frozen=True)
class Workers:
    """Processes or threads that score sets: so many, of an executor."""

    count: int
    executor: Executor


def answers(scorer: SetScorer, tries: Iterable[Try], workers: Workers | None) -> Generator[Answer]:
    """Answer the tries in order, with workers or, where there are none, here."""
    if workers is None or workers.count == 1:
        return one_by_one(scorer, tries)
    return ahead(scorer, tries, workers.executor, workers.count)


def one_by_one(scorer: SetScorer, tries: Iterable[Try]) -> Generator[Answer]:
    """Answer the tries in order, each when it is asked for."""
    for each in tries:
        answer = scorer.known(each.members, each.floor)
        yield answer or scorer.answer(each.weights(), each.members, each.floor)


def ahead(
    scorer: SetScorer, tries: Iterable[Try], executor: Executor, workers: int
) -> Generator[Answer]:
    """Answer the tries in order as `one_by_one` does, with `workers` of them scored at a time.

    A try supposes that all before it are rejected. One that wins, or fails, makes those after it
    useless: they are cancelled, and no further ones begin. So are all where the caller closes the
    iterator, as after an acceptance. The try of a worker that dies is scored again.
    Raises InputError where LOSSES workers died of one try.
    """
    begun: deque[_Begun] = deque()
    source, useful = iter(tries), True
    try:
        while True:
            while useful and len(begun) < DEPTH * workers and _running(begun) < workers:
                following = next(source, None)
                if following is None:
                    useful = False
                else:
                    begun.append(_Begun(following, scorer, executor))
                    useful = not begun[-1].ends
            if not begun:
                return
            if begun[0].done:
                yield begun.popleft().answer()
                continue
            wait([each.future for each in begun if each.future], return_when=FIRST_COMPLETED)
            for each in begun:
                each.look()
            last = next((n for n, each in enumerate(begun) if each.ends), None)
            while last is not None and len(begun) > last + 1:
                begun.pop().cancel()
            useful = useful and last is None
    finally:
        for each in begun:
            each.cancel()


def _running(begun: Iterable[_Begun]) -> int:
    return sum(each.future is not None for each in begun)


class _Begun:
    """A try that was begun: `future` while it is scored elsewhere."""

    def __init__(self, what: Try, scorer: SetScorer, executor: Executor) -> None:
        self._try, self._scorer, self._executor = what, scorer, executor
        self._answer: Answer | None = scorer.known(what.members, what.floor)
        self._error: BaseException | None = None
        self._lost = 0
        self.future: Future[Answer] | None = None
        if self._answer is None:
            self._submit()

    def _submit(self) -> None:
        """Send the try, whose weights are computed here, and not kept."""
        each = self._try
        self.future = self._executor.submit(
            self._scorer.answer, each.weights(), each.members, each.floor
        )
        self.look()

    @property
    def done(self) -> bool:
        return self.future is None

    @property
    def ends(self) -> bool:
        """Tell whether no try after this one is of use: it wins, or failed."""
        return self._error is not None or (
            self._answer is not None and self._answer.above(self._try.floor)
        )

    def look(self) -> None:
        """Take the answer or the error of a future that has ended, or begin again."""
        if self.future is None or not self.future.done():
            return
        error = self.future.exception()
        if isinstance(error, BrokenExecutor):
            self._lost += 1
            if self._lost < LOSSES:
                self._submit()
                return
            error = InputError(
                f"{self._try.name}: {LOSSES} processes died while they scored the soup with it "
                f"({error}); free memory, or take fewer workers"
            )
        if error is None:
            self._answer = self.future.result()
        self._error, self.future = error, None

    def answer(self) -> Answer:
        """Return the answer, or raise the error of a try that is done."""
        if self._error is not None:
            raise self._error
        assert self._answer is not None
        return self._answer

    def cancel(self) -> None:
        if self.future is not None:
            self.future.cancel()
