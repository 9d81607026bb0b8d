"""Make the greedy soup of a pool: search, checkpoint, lines in the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from orchestrator.config import RunConfig
from orchestrator.config.content_key import digest
from orchestrator.config.models import StudentConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer, per_sequence, student_of, summary
from orchestrator.planning.placement import scorers
from orchestrator.planning.protocol import protocol_key
from orchestrator.tracking.events import Checkpoint, Done, Failed, Souped, Started, Warned
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from soups import guards, probe, recalibration
from soups.average import NoMean
from soups.bagging import Bags, bagged
from soups.order import Order
from soups.recalibration import Recalibration
from soups.search import Ingredient, Rule, ranked, several
from soups.select_scores import KeptParts, Network, Open, Select, SelectVideos
from soups.sources import Pool, from_ledger
from soups.speculative import Executor, Workers
from vosmodels import checkpoint, registry
from vosmodels.errors import InputError
from vosmodels.evaluation.attention_maps import attentions_of
from vosmodels.evaluation.scores import Scores
from vosmodels.support.digests import check_sha256

logger = logging.getLogger(__name__)

RECIPE = 2  # raised when the same pool would make another soup than before

Processes = Callable[[int], AbstractContextManager[Executor]]
OnScored = Callable[[int, int, float | None], None]  # candidates done, of all, J&F of the last


@dataclass(frozen=True)
class Search:
    """Say how a pool is searched, besides `soup.min_delta`; as in `soups.search.greedy`.

    bags: draws of the videos, each with a search of its own; None: one search, on all of them.
    anew: gives means their BatchNorm statistics; None: those are averaged.
    """

    order: Order = field(default_factory=Order)
    replacement: bool = False
    bags: Bags | None = None
    anew: Recalibration | None = None

    @property
    def settled(self) -> str:
        """Name what is done to means besides averaging; empty where nothing is."""
        return self.anew.key if self.anew else ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as keys and the ledger hold it, which leave out what is not asked for."""
        asked: dict[str, Any] = {"bn": self.settled} if self.anew else {}
        if self.bags:
            asked |= {"bag": self.bags.count, "bag_seed": self.bags.seed}
        return {"order": str(self.order), "replacement": self.replacement, **asked}


@dataclass(frozen=True)
class SoupResult:
    """A soup on disk.

    key: of its job in the ledger; scores: select J&F of the soup (`jf`), of the best single
    checkpoint and of the uniform soup; existing: whether an earlier call made it; warnings:
    what was done against a guard, and what bags may do.
    """

    key: str
    path: Path
    sha256: str
    scores: Mapping[str, float]
    ingredients: Sequence[str]
    decisions: Sequence[Mapping[str, Any]]
    existing: bool
    warnings: Sequence[str] = ()


def soup_of_sweep(
    config: RunConfig,
    sweep: str,
    trials: Sequence[str],
    *,
    storage: Storage,
    project: Callable[[JobRecord], object],
    fetch: Callable[[str], Path] | None = None,
    on_scored: OnScored | None = None,
    processes: Processes | None = None,
) -> SoupResult:
    """Make the greedy soup of a sweep whose trials lie in the ledger.

    trials     job keys of its plan; more in `sources.from_ledger`, fetch too, and `make_soup`
    processes  opens processes that score videos at the same time, which a search that takes long
               is given, as many as the cores allow; None: all is scored in this one
    """
    pool = from_ledger(storage, config, sweep, trials, fetch)
    workers = 1
    if processes:
        scorer = Scorer(storage, ScoringProtocol.for_select(config.data))
        workers = scorers(_seconds_alone(pool, scorer), torch.get_num_threads())
    return make_soup(
        pool,
        config,
        storage=storage,
        project=project,
        workers=workers,
        executor=processes(workers) if processes and workers > 1 else None,
        on_scored=on_scored,
    )


def _seconds_alone(pool: Pool, scorer: Scorer) -> float:
    """Estimate how long scoring takes if every checkpoint is tried once, by earlier scores."""
    known = (scorer.known(ingredient.sha256) for ingredient in pool.ingredients)
    rates = [scores.fps for scores in known if scores and scores.fps]
    return len(pool.ingredients) * scorer.frames / max(rates) if rates else 0.0


def make_soup(
    pool: Pool,
    config: RunConfig,
    *,
    storage: Storage,
    project: Callable[[JobRecord], object] = lambda job: None,
    again: bool = False,
    bn: guards.Bn | None = None,
    search: Search | None = None,
    workers: int = 1,
    executor: AbstractContextManager[Executor] | None = None,
    opening: Open | None = None,
    on_scored: OnScored | None = None,
) -> SoupResult:
    """Make the greedy soup of a pool: a checkpoint, and a job of the ledger.

    config    the run it belongs to: student, select protocol, soup.min_delta
    project   called with the soup's job when it has ended, well or not, to show it elsewhere
    again     search anew even where the soup of this very pool exists; scores that are kept stay
    bn        as `guards.check_pool`, which is asked before the search; recalibrate: every mean that
              is scored, and the soup, takes its BatchNorm statistics from training clips of the
              run that the pool comes from, in this process whatever the workers
    workers   videos that are scored at a time, by the executor, which is entered where there is
              something to score; without one, or with one worker, in this process
    opening   makes a function that scores a select video by weights; by default the network is it
    on_scored takes notice of the candidates as they are scored; by default the log does
    Raises InputError as soups.search.greedy, and where another process is making the same soup.
    """
    pool = replace(pool, ingredients=tuple(ranked(pool.ingredients)))
    ledger = Ledger.of(storage)
    search = search or Search()
    if bn == "recalibrate":
        search = replace(search, anew=Recalibration.of(pool.config or config))
    job, existing = _job(ledger, pool, config, search, again)
    if existing and (reason := _corrupt(job, storage)):
        logger.warning("%s; the soup is made anew", reason)
        job, existing = _job(ledger, pool, config, search, again=True)
    if existing:
        project(job)
    else:
        guarded = guards.check_pool(pool.ingredients, storage, bn=bn)
        said = [search.bags.warning()] if search.bags else []
        warnings = [*pool.warnings, *guarded, *guards.warning_of(config.data), *said]
        pool = replace(pool, warnings=tuple(warnings))
        protocol = ScoringProtocol.for_select(config.data)
        barriers = None if opening else probe.Error(config.student, protocol)
        videos = SelectVideos.of(protocol, opening or Network(config.student, protocol))
        if search.bags:
            search.bags.draw(videos.names)  # refuses one video before it is scored
        with job.claim():
            try:
                with executor or nullcontext() as entered:
                    select = Select(
                        Scorer(storage, protocol),
                        videos,
                        KeptParts(storage, protocol, config.student, search.settled),
                        Workers(workers, entered) if entered else None,
                        search.anew,
                    )
                    _run(job, pool, select, barriers, config, search, on_scored)
            finally:
                project(job)
    return _result(job, storage, existing=existing)


def _run(
    job: JobRecord,
    pool: Pool,
    select: Select,
    barriers: probe.Error | None,
    config: RunConfig,
    search: Search,
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
    for number, text in enumerate(pool.warnings):
        job.write(Warned(number, text))
    try:
        _search(job, pool, select, barriers, config, search, on_scored)
    except BaseException as error:  # an interrupt too: no process works on the job any more
        first_line = (str(error).splitlines() or ["interrupted"])[0]
        job.write(Failed(error=f"{type(error).__name__}: {first_line}"))
        raise


def _search(
    job: JobRecord,
    pool: Pool,
    select: Select,
    barriers: probe.Error | None,
    config: RunConfig,
    search: Search,
    on_scored: OnScored | None,
) -> None:
    """Search and write the soup: its file first, so that no line of the ledger lacks one."""
    began, storage = time.monotonic(), select.scorer.storage
    ingredients: Sequence[Ingredient] = pool.ingredients
    whole = dict[str, Scores]()
    if search.bags or not pool.scored:
        tell = _Progress("checkpoint", len(ingredients))
        for ingredient, scores in zip(ingredients, select.checkpoints(ingredients), strict=True):
            whole[ingredient.sha256] = scores
            tell(len(whole), len(ingredients), scores.jf)
    if not pool.scored:
        ingredients = ranked([replace(i, score=whole[i.sha256].jf) for i in ingredients])
    (best,) = select.checkpoints(ingredients[:1])
    tell = _Progress("soup", len(ingredients) - 1, on_scored)
    rule = Rule(
        workers=select.workers.count if select.workers else 1,
        min_delta=config.soup.min_delta,
        order=search.order,
        replacement=search.replacement,
        executor=select.workers.executor if select.workers else None,
        settle=search.anew,
        on_decision=lambda made, done, of: tell(done, of, made.score_with, made.at_most),
    )
    try:
        sets = select.sets(best)
        if search.bags:
            soup = bagged(ingredients, sets, select.bags(search.bags, whole, best), rule)
        else:
            soup = rule.pick(ingredients, sets).soup()
        uniform = select.mean(ingredients).jf if len(ingredients) > 1 else soup.score
    except NoMean as error:  # it names the checkpoints
        raise InputError(f"the checkpoints cannot be averaged: {error}") from error
    scores = soup.scored if isinstance(soup.scored, Scores) else best
    student = config.student
    info = info_of(
        student,
        ancestor=ingredients[0].ancestor,
        step=max(ingredient.step for ingredient in soup.ingredients),
        scores=summary(scores),
    )
    path, sha256 = checkpoint.write(storage.checkpoints, soup.weights, info)
    anew = search.anew and several(soup.ingredients)
    statistics = recalibration.keep(storage, soup.weights) if anew else ""
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
            geometry=probe.measured(
                soup, ingredients, storage, barriers, select.workers, search.anew
            ),
            chosen_on=guards.chosen_on(config.data),
            search=search.as_dict(),
            statistics=statistics,
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


def info_of(
    student: StudentConfig, *, ancestor: str | None, step: int, scores: Mapping[str, float]
) -> checkpoint.CheckpointInfo:
    """Describe a soup of a student's checkpoints, for its own."""
    config = registry.config(student.name, **student.options).model_dump(mode="json")
    return checkpoint.CheckpointInfo(student.name, config, ancestor, step, scores)


class _Progress:
    """Tells how many of `count` things are scored; the log also how long the rest will take."""

    def __init__(self, what: str, count: int, on_scored: OnScored | None = None) -> None:
        self._what, self._on_scored, self._began = what, on_scored, time.monotonic()
        if on_scored and count:
            on_scored(0, count, None)

    def __call__(self, done: int, of: int, jf: float | None, most: float | None = None) -> None:
        """Tell that another one is scored; jf: None where it cannot win with `most`."""
        if self._on_scored:
            self._on_scored(done, of, jf)
            return
        left_s = (time.monotonic() - self._began) / done * (of - done)
        found = f"J&F {most:.3f} at most, it cannot win" if jf is None else f"J&F {jf:.3f}"
        logger.info("%s %d of %d: %s, %.0f s left", self._what, done, of, found, left_s)


def _job(
    ledger: Ledger, pool: Pool, config: RunConfig, search: Search, again: bool
) -> tuple[JobRecord, bool]:
    """Find the ledger's job of this soup, and whether it is done already."""
    shaped_by = {
        "role": "soup",
        "recipe": RECIPE,
        "name": config.name,
        "pool": pool.digest,
        "select": protocol_key(ScoringProtocol.for_select(config.data)),
        "min_delta": config.soup.min_delta,
        **search.as_dict(),
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
        warnings=[event.text for event in job.of(Warned)],
    )
