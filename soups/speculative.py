"""Score the parts of a set at the same time, and of the next sets, as if each were rejected."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from safetensors import torch as safetensors

from soups.scoring import Answer, Floor, Members, Sequences, SetScorer, Weights
from vosmodels.errors import InputError

DEPTH = 4  # tries that are begun and not asked for yet, for each worker
SPARE = 1  # parts that wait for a worker, so that it need not wait for the next mean
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

    It has so many workers as `Workers.count` says; what is submitted beyond them waits. Where a
    worker dies, the future of what it ran raises BrokenExecutor, and others go on.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


@dataclass(frozen=True)
class Workers:
    """Processes or threads that score parts of sets: so many, of an executor."""

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
        yield scorer.answer(each.members, each.floor, each.weights)


def ahead(
    scorer: SetScorer, tries: Iterable[Try], executor: Executor, workers: int
) -> Generator[Answer]:
    """Answer the tries in order as `one_by_one` does, with `workers` parts scored at a time.

    The parts of a try are handed out before those of the next, which supposes that all before it
    are rejected: with more workers than parts several tries are scored at a time. One that wins,
    or fails, makes those after it useless: they are cancelled, and no further ones begin. So are
    all where the caller closes the iterator, as after an acceptance, and the parts of a try that is
    answered without them. The part of a worker that dies is scored again.
    Raises InputError where LOSSES workers died of one try.
    """
    begun: deque[_Begun] = deque()
    source, useful, most = iter(tries), True, DEPTH * workers
    try:
        while True:
            while sum(len(each.futures) for each in begun) < workers + SPARE:
                if waiting := next((each for each in begun if each.waits), None):
                    waiting.hand_out(executor)
                elif not useful or any(each.ends for each in begun) or len(begun) == most:
                    break
                elif following := next(source, None):
                    begun.append(_Begun(following, scorer))
                else:
                    break
            last = next((n for n, each in enumerate(begun) if each.ends), None)
            useful = useful and last is None
            while last is not None and len(begun) > last + 1:
                begun.pop().cancel()
            if not begun:
                return
            if begun[0].done:
                yield begun.popleft().answer()
                continue
            running = [future for each in begun for future in each.futures.values()]
            wait(running, return_when=FIRST_COMPLETED)
            for each in begun:
                each.look()
    finally:
        for each in begun:
            each.cancel()


class _Begun:
    """A try that was begun; futures: of its parts that are scored elsewhere, by their names."""

    def __init__(self, what: Try, scorer: SetScorer) -> None:
        self._try, self._sequences = what, scorer.sequences
        self._attempt = scorer.begin(what.members, what.floor)
        self._mean: _Mean | None = None
        self._left = list(self._attempt.missing)  # that were not handed out, or are again
        self._errors = dict[str, BaseException]()
        self._lost = 0
        self.futures = dict[str, Future[Any]]()

    @property
    def waits(self) -> bool:
        """Tell whether there is a part to be handed out."""
        return bool(self._left)

    @property
    def done(self) -> bool:
        return self._attempt.answer is not None or self._error is not None

    @property
    def ends(self) -> bool:
        """Tell whether no try after this one is of use: it wins, or failed."""
        answer = self._attempt.answer
        return self._error is not None or (answer is not None and answer.above(self._try.floor))

    def hand_out(self, executor: Executor) -> None:
        """Send the first part that waits, with the weights, which are computed here, once."""
        self._mean = self._mean or _Mean(self._try.weights())
        name = self._left.pop(0)
        self.futures[name] = executor.submit(_part, self._sequences, self._mean, name)
        if not self._left:
            self._mean = None
        self.look()

    def look(self) -> None:
        """Take the parts and errors of futures that have ended, or begin again."""
        for name in [name for name, future in self.futures.items() if future.done()]:
            future = self.futures.pop(name)
            error = future.exception()
            if isinstance(error, BrokenExecutor):
                self._lost += 1
                if self._lost < LOSSES:
                    self._left.insert(0, name)
                    continue
                error = InputError(
                    f"{self._try.name}: {LOSSES} processes died while they scored the soup with it "
                    f"({error}); free memory, or take fewer workers"
                )
            if error is not None:
                self._errors[name] = error
            else:
                self._attempt.take(name, future.result())
        if self.done:
            self.cancel()

    @property
    def _error(self) -> BaseException | None:
        """Return the error of a part that one process would have come to."""
        missing = self._attempt.missing
        return self._errors.get(missing[0]) if missing else None

    def answer(self) -> Answer:
        """Return the answer, or raise the error of a try that is done."""
        if error := self._error:
            raise error
        assert self._attempt.answer is not None
        return self._attempt.answer

    def cancel(self) -> None:
        """Stop what is scored, and hand out no more."""
        for future in self.futures.values():
            future.cancel()
        self.futures.clear()
        self._left.clear()
        self._mean = None


class _Mean:
    """The weights of a try on their way to workers: written once, and read once by each."""

    def __init__(self, weights: Weights) -> None:
        self.key = uuid4().hex
        self._weights: Weights | None = weights
        self._written: bytes | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self._written is None and self._weights is not None:
            # In a fifth of the time of pickle, for which each tensor is an object of its own.
            whole = {key: tensor.contiguous() for key, tensor in self._weights.items()}
            self._written = safetensors.save(whole)
        return {"key": self.key, "_weights": None, "_written": self._written}

    def weights(self) -> Weights:
        if self._weights is not None:
            return self._weights
        assert self._written is not None
        read: Weights = safetensors.load(self._written)
        return read


_opened = threading.local()  # what a worker opened last: the parts of a set follow each other


def _part(sequences: Sequences, mean: _Mean, name: str) -> Any:
    """Score a part, in a worker."""
    if getattr(_opened, "key", None) != mean.key:
        _opened.key, _opened.score = None, None  # frees the last before the next
        _opened.score = sequences.opened(mean.weights())
        _opened.key = mean.key
    return _opened.score(name)
