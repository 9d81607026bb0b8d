"""Make the greedy soup of a pool: search, checkpoint, lines in the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.config.content_key import digest
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer, per_sequence, student_of, summary
from orchestrator.planning.protocol import protocol_key
from orchestrator.tracking.events import Checkpoint, Done, Failed, Souped, Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from soups.average import average_of
from soups.scoring import Weights
from soups.search import Ingredient, greedy, ranked
from soups.sources import Pool, from_ledger
from vosmodels import checkpoint, registry
from vosmodels.errors import InputError
from vosmodels.evaluation.attention_maps import attentions_of
from vosmodels.evaluation.scores import Scores
from vosmodels.support.digests import check_sha256

logger = logging.getLogger(__name__)

RECIPE = 2  # raised when the same pool would make another soup than before

Score = Callable[[Weights], Scores]
OnScored = Callable[[int, int, float | None], None]  # candidates done, of all, J&F of the last


@dataclass(frozen=True)
class SoupResult:
    """A soup on disk.

    key: of its job in the ledger; scores: select J&F of the soup (`jf`), of the best single
    checkpoint and of the uniform soup; existing: whether an earlier call made it.
    """

    key: str
    path: Path
    sha256: str
    scores: Mapping[str, float]
    ingredients: Sequence[str]
    decisions: Sequence[Mapping[str, Any]]
    existing: bool


def soup_of_sweep(
    config: RunConfig,
    sweep: str,
    trials: Sequence[str],
    *,
    storage: Storage,
    project: Callable[[JobRecord], object],
    fetch: Callable[[str], Path] | None = None,
    on_scored: OnScored | None = None,
) -> SoupResult:
    """Make the greedy soup of a sweep whose trials lie in the ledger.

    trials   job keys of its plan; more in `sources.from_ledger`, fetch too, and `make_soup`
    """
    pool = from_ledger(storage, config, sweep, trials, fetch)
    return make_soup(pool, config, storage=storage, project=project, on_scored=on_scored)


def make_soup(
    pool: Pool,
    config: RunConfig,
    *,
    storage: Storage,
    project: Callable[[JobRecord], object] = lambda job: None,
    again: bool = False,
    score: Score | None = None,
    on_scored: OnScored | None = None,
) -> SoupResult:
    """Make the greedy soup of a pool: a checkpoint, and a job of the ledger.

    config    the run it belongs to: student, select protocol, soup.min_delta
    project   called with the soup's job when it has ended, well or not, to show it elsewhere
    again     search anew even where the soup of this very pool exists
    score     scores weights on config's select split; by default the network does
    on_scored takes notice of the candidates as they are scored; by default the log does
    Raises InputError as soups.search.greedy, and where another process is making the same soup.
    """
    pool = replace(pool, ingredients=tuple(ranked(pool.ingredients)))
    ledger = Ledger.of(storage)
    job, existing = _job(ledger, pool, config, again)
    if existing and (reason := _corrupt(job, storage)):
        logger.warning("%s; the soup is made anew", reason)
        job, existing = _job(ledger, pool, config, again=True)
    if existing:
        project(job)
    else:
        select = _Select.of(config, storage, score)
        with job.claim():
            try:
                _run(job, pool, select, config, storage, on_scored)
            finally:
                project(job)
    return _result(job, storage, existing=existing)


@dataclass(frozen=True)
class _Select:
    """Select scores of weights; those of a checkpoint are computed once and saved."""

    scorer: Scorer
    score: Score

    @classmethod
    def of(cls, config: RunConfig, storage: Storage, score: Score | None) -> _Select:
        scorer = Scorer(storage, ScoringProtocol.for_select(config.data))
        return cls(scorer, score or (lambda w: scorer.score(student_of(config.student, w))))

    def checkpoint(self, ingredient: Ingredient) -> Scores:
        scores = self.scorer.known(ingredient.sha256)
        if scores is None:
            scores = self.score(ingredient.load())
            self.scorer.save(ingredient.sha256, scores)
        return scores


def _run(
    job: JobRecord,
    pool: Pool,
    select: _Select,
    config: RunConfig,
    storage: Storage,
    on_scored: OnScored | None,
) -> None:
    """Search between the first and the last line of the job in the ledger."""
    job.write(
        Started(
            role="soup",
            name=f"greedy soup of {len(pool.ingredients)}",
            sweep=pool.sweep,
            experiment=config.name,
            config=config.model_dump(mode="json"),
            ancestor=pool.ingredients[0].ancestor,
        )
    )
    try:
        _search(job, pool, select, config, storage, on_scored)
    except BaseException as error:  # an interrupt too: no process works on the job any more
        first_line = (str(error).splitlines() or ["interrupted"])[0]
        job.write(Failed(error=f"{type(error).__name__}: {first_line}"))
        raise


def _search(
    job: JobRecord,
    pool: Pool,
    select: _Select,
    config: RunConfig,
    storage: Storage,
    on_scored: OnScored | None,
) -> None:
    """Search and write the soup: its file first, so that no line of the ledger lacks one."""
    began = time.monotonic()
    ingredients: Sequence[Ingredient] = pool.ingredients
    if not pool.scored:
        tell = _Progress("checkpoint", len(ingredients))
        scored = []
        for ingredient in ingredients:
            scored.append(replace(ingredient, score=select.checkpoint(ingredient).jf))
            tell(scored[-1].score)
        ingredients = ranked(scored)
    score = _with_progress(select.score, len(ingredients) - 1, on_scored)
    try:
        soup = greedy(ingredients, score, min_delta=config.soup.min_delta)
    except ValueError as error:  # of `average`, which names the checkpoints
        raise InputError(f"the checkpoints cannot be averaged: {error}") from error
    scores = soup.scored if isinstance(soup.scored, Scores) else select.checkpoint(ingredients[0])
    uniform = soup.score
    if len(ingredients) > 1:
        mean = average_of([i.load for i in ingredients], [i.name for i in ingredients])
        uniform = select.score(mean).jf
    student = config.student
    info = checkpoint.CheckpointInfo(
        name=student.name,
        config=registry.config(student.name, **student.options).model_dump(mode="json"),
        ancestor=ingredients[0].ancestor,
        step=max(ingredient.step for ingredient in soup.ingredients),
        scores=summary(scores),
    )
    path, sha256 = checkpoint.write(storage.checkpoints, soup.weights, info)
    select.scorer.save(sha256, scores)
    job.write(
        Souped(
            pool=pool.digest,
            ingredients=[i.name for i in soup.ingredients],
            decisions=[asdict(decision) for decision in soup.decisions],
            scores={
                "jf": soup.score,
                "best_single_jf": ingredients[0].score,
                "uniform_jf": uniform,
            },
        )
    )
    job.write(
        Checkpoint(
            step=info.step,
            sha256=sha256,
            path=path.relative_to(storage.root).as_posix(),
            scores=info.scores,
            sequences=per_sequence(scores),
            ancestor=info.ancestor,
        )
    )
    if attentions_of(
        registry.entry(student.name).watchable(registry.config(student.name, **student.options))
    ):
        drawn = select.scorer.attention(student_of(student, soup.weights), job.key, info.step)
        if drawn is not None:
            job.write(drawn)
    job.write(Done(seconds=time.monotonic() - began))


def _with_progress(score: Score, count: int, on_scored: OnScored | None) -> Score:
    """Tell progress after each of `count` scores: they take minutes, on many videos."""
    tell = _Progress("soup", count, on_scored)

    def logged(weights: Weights) -> Scores:
        scores = score(weights)
        tell(scores.jf)
        return scores

    return logged


class _Progress:
    """Tells how many of `count` things are scored; the log also how long the rest will take."""

    def __init__(self, what: str, count: int, on_scored: OnScored | None = None) -> None:
        self._what, self._count, self._on_scored = what, count, on_scored
        self._began, self._done = time.monotonic(), 0
        if on_scored and count:
            on_scored(0, count, None)

    def __call__(self, jf: float) -> None:
        self._done += 1
        if self._on_scored:
            self._on_scored(self._done, self._count, jf)
            return
        left_s = (time.monotonic() - self._began) / self._done * (self._count - self._done)
        logger.info(
            "%s %d of %d: J&F %.3f, %.0f s left", self._what, self._done, self._count, jf, left_s
        )


def _job(ledger: Ledger, pool: Pool, config: RunConfig, again: bool) -> tuple[JobRecord, bool]:
    """Find the ledger's job of this soup, and whether it is done already."""
    shaped_by = {
        "role": "soup",
        "recipe": RECIPE,
        "name": config.name,
        "pool": pool.digest,
        "select": protocol_key(ScoringProtocol.for_select(config.data)),
        "min_delta": config.soup.min_delta,
    }
    attempt, newest = 0, None
    while (job := ledger.job(digest({**shaped_by, "attempt": attempt}))).state == "done":
        attempt, newest = attempt + 1, job
    return (job, False) if newest is None or again else (newest, True)


def _corrupt(job: JobRecord, storage: Storage) -> str | None:
    """Say why the file of a soup's job is not the one recorded; None where it is, or is gone."""
    file = job.checkpoints()[-1]
    path = storage.root / file.path
    try:
        if path.exists():
            check_sha256(path, file.sha256, "nothing is taken from it", named_in=job.recorded)
    except InputError as error:
        return str(error)
    return None


def _result(job: JobRecord, storage: Storage, *, existing: bool) -> SoupResult:
    """Read the result of a soup's job that is done."""
    souped, file = job.of(Souped)[-1], job.checkpoints()[-1]
    return SoupResult(
        key=job.key,
        path=storage.root / file.path,
        sha256=file.sha256,
        scores=souped.scores,
        ingredients=souped.ingredients,
        decisions=souped.decisions,
        existing=existing,
    )
