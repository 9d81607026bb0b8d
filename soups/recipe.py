"""Make the greedy soup of a pool: search, checkpoint, ledger, MLflow run."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from orchestrator.config import RunConfig
from orchestrator.config.content_key import canonical, digest
from orchestrator.config.loading import changed
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer, per_sequence, student_of, summary
from orchestrator.planning.protocol import protocol_key
from orchestrator.tracking.events import Checkpoint, Done, Failed, Souped, Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_reader import Catalogue
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from soups.average import average
from soups.search import Ingredient, Weights, greedy, ranked
from soups.sources import Pool, from_experiment
from vosmodels import checkpoint, registry
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import Scores

logger = logging.getLogger(__name__)

RECIPE = 1  # raised when the same pool would make another soup than before


class Judge(Protocol):
    """Scores weights on one split, always the same way."""

    def score(self, weights: Weights) -> Scores: ...

    def score_of(self, ingredient: Ingredient) -> Scores:
        """The scores of a checkpoint, computed once."""
        ...

    def remember(self, sha256: str, scores: Scores) -> None: ...


class SelectJudge:
    """Scores on the select split of a run, by its protocol."""

    def __init__(self, config: RunConfig, storage: Storage) -> None:
        self._student = config.student
        self._scorer = Scorer(storage, ScoringProtocol.for_select(config.data))

    def score(self, weights: Weights) -> Scores:
        return self._scorer.score(student_of(self._student, weights))

    def score_of(self, ingredient: Ingredient) -> Scores:
        return self._scorer.checkpoint(
            ingredient.sha256, lambda: student_of(self._student, ingredient.load())
        )

    def remember(self, sha256: str, scores: Scores) -> None:
        self._scorer.remember(sha256, scores)


@dataclass(frozen=True)
class SoupResult:
    """A soup on disk. scores: J&F on the select split of soup, best single and uniform soup."""

    key: str
    path: Path
    sha256: str
    model_id: str
    scores: Mapping[str, float]
    ingredients: Sequence[str]
    decisions: Sequence[Mapping[str, Any]]
    existing: bool


def soup_of_sweep(
    experiment: str,
    *,
    storage: Storage,
    tracker: Tracker,
    sweep: str | None = None,
    again: bool = False,
) -> SoupResult:
    """The greedy soup of a sweep's trial checkpoints; None: the newest sweep. As `make_soup`."""
    pool = from_experiment(Catalogue(tracker.connection), experiment, sweep)
    assert pool.config is not None  # an experiment has one
    return make_soup(pool, pool.config, storage=storage, tracker=tracker, again=again)


def make_soup(
    pool: Pool,
    config: RunConfig,
    *,
    storage: Storage,
    tracker: Tracker,
    again: bool = False,
    judge: Judge | None = None,
) -> SoupResult:
    """The greedy soup of a pool: a checkpoint, a job of the ledger, and a run in MLflow.

    config   the run it belongs to: student, data and protocol of the scores, soup.min_delta
    again    search anew even where the soup of this very pool exists
    judge    what scores; by default config's select split
    InputError as soups.search.greedy, and where another process is making the same soup.
    """
    ingredients = ranked(pool.ingredients)
    job, existing = _job(Ledger(storage.root), ingredients, config, again)
    if not existing:
        judge = judge or SelectJudge(config, storage)
        with job.claim():
            try:
                _record(job, ingredients, judge, config, storage, pool)
            finally:
                tracker.project(job, pool.sweep)
    else:
        tracker.project(job, pool.sweep)
    return _made(job, storage, tracker, existing=existing)


def _record(
    job: JobRecord,
    ingredients: Sequence[Ingredient],
    judge: Judge,
    config: RunConfig,
    storage: Storage,
    pool: Pool,
) -> None:
    """The search between its first and its last line in the ledger."""
    job.write(
        Started(
            role="soup",
            name=f"greedy soup of {len(ingredients)}",
            sweep=pool.sweep,
            experiment=config.name,
            config=config.model_dump(mode="json"),
            ancestor=ingredients[0].ancestor,
        )
    )
    try:
        _search(job, ingredients, judge, config, storage, scored=pool.scored)
    except BaseException as error:  # an interrupt too: nobody is at it any more
        told = (str(error).splitlines() or ["interrupted"])[0]
        job.write(Failed(error=f"{type(error).__name__}: {told}"))
        raise


def _search(
    job: JobRecord,
    pool: Sequence[Ingredient],
    judge: Judge,
    config: RunConfig,
    storage: Storage,
    *,
    scored: bool,
) -> None:
    """Search, then write: the checkpoint first, so that no line of the ledger is of less."""
    began = time.monotonic()
    if not scored:
        pool = ranked([replace(i, score=judge.score_of(i).jf) for i in pool])
    soup = greedy(pool, _told(judge, len(pool) - 1), min_delta=config.soup.min_delta)
    scores = soup.scored if isinstance(soup.scored, Scores) else judge.score_of(pool[0])
    uniform = soup.score
    if len(pool) > 1:
        everything = average([i.load() for i in pool], [i.name for i in pool])
        uniform = judge.score(everything).jf
    student = config.student
    info = checkpoint.CheckpointInfo(
        name=student.name,
        config=registry.config(student.name, **student.options).model_dump(mode="json"),
        ancestor=pool[0].ancestor,
        step=max(int(i.meta.get("step", 0)) for i in soup.ingredients),
        scores=summary(scores),
    )
    path, sha256 = checkpoint.write(storage.checkpoints, soup.weights, info)
    judge.remember(sha256, scores)
    job.write(
        Souped(
            pool=_pool(pool),
            ingredients=[i.name for i in soup.ingredients],
            decisions=[asdict(decision) for decision in soup.decisions],
            scores={"jf": soup.score, "best_single_jf": pool[0].score, "uniform_jf": uniform},
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
    job.write(Done(seconds=time.monotonic() - began))


def _told(judge: Judge, count: int) -> Callable[[Weights], Scores]:
    """Scoring that says how far it is; a soup of many videos takes minutes."""
    began, done = time.monotonic(), 0

    def score(weights: Weights) -> Scores:
        nonlocal done
        scores = judge.score(weights)
        done += 1
        left = (time.monotonic() - began) / done * (count - done)
        logger.info("soup %d of %d: J&F %.3f, %.0f s left", done, count, scores.jf, left)
        return scores

    return score


def _pool(ingredients: Sequence[Ingredient]) -> str:
    return digest(sorted(ingredient.sha256 for ingredient in ingredients))


def _job(
    ledger: Ledger, ingredients: Sequence[Ingredient], config: RunConfig, again: bool
) -> tuple[JobRecord, bool]:
    """The ledger's job of this soup, and whether it is done already."""
    shaped_by = {
        "role": "soup",
        "recipe": RECIPE,
        "name": config.name,
        "pool": _pool(ingredients),
        "select": protocol_key(ScoringProtocol.for_select(config.data)),
        "min_delta": config.soup.min_delta,
    }
    attempt, found = 0, None
    while (job := ledger.job(digest({**shaped_by, "attempt": attempt}))).state == "done":
        attempt, found = attempt + 1, job
    return (job, False) if found is None or again else (found, True)


def _made(job: JobRecord, storage: Storage, tracker: Tracker, *, existing: bool) -> SoupResult:
    started, souped, made = job.started(), job.of(Souped)[-1], job.checkpoints()[-1]
    assert started is not None  # it is done
    records = Catalogue(tracker.connection).checkpoints(
        started.experiment, started.sweep, ("soup",)
    )
    return SoupResult(
        key=job.key,
        path=storage.root / made.path,
        sha256=made.sha256,
        model_id=next(record.model_id for record in records if record.key == job.key),
        scores=souped.scores,
        ingredients=souped.ingredients,
        decisions=souped.decisions,
        existing=existing,
    )


def config_of_folder(folder: Path, pool: Pool, data: str, split: str | None) -> RunConfig:
    """A run around checkpoints of unknown origin: their student, the data of the command line."""
    students = {canonical(i.meta["student"]) for i in pool.ingredients}
    if len(students) > 1:
        raise InputError(f"{folder}: checkpoints of {len(students)} students; soups need one")
    name = re.sub(r"[^A-Za-z0-9_-]", "-", folder.absolute().name) or "folder"
    values = {"student": pool.ingredients[0].meta["student"], "data.root": data}
    if split is not None:
        values["data.select"] = split
    return changed(RunConfig(name=name), values, "command line")
