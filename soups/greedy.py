"""`python -m soups.greedy`: averages the checkpoints of a sweep that are better together."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from orchestrator.catalogue import Catalogue
from orchestrator.config import STORAGE, ConfigError, RunConfig, changed
from orchestrator.connection import Connection, locate
from orchestrator.evaluation import Scorer, per_sequence, student_of, summary
from orchestrator.keys import canonical, digest
from orchestrator.ledger import Checkpoint, Done, Failed, Job, Ledger, Souped, Started
from orchestrator.storage import Storage
from orchestrator.tracking import Tracker
from soups.average import average
from soups.search import Ingredient, Weights, greedy, ranked
from soups.sources import SCHEME, Pool, from_experiment, from_folder
from vosmodels import checkpoint, console, registry
from vosmodels.evaluation.scores import Scores
from vosmodels.types import InputError

logger = logging.getLogger(__name__)

MODULE = "soups.greedy"
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
        self._scorer = Scorer.choosing(storage, config.data)

    def score(self, weights: Weights) -> Scores:
        return self._scorer.score(student_of(self._student, weights))

    def score_of(self, ingredient: Ingredient) -> Scores:
        return self._scorer.checkpoint(
            ingredient.sha256, lambda: student_of(self._student, ingredient.load())
        )

    def remember(self, sha256: str, scores: Scores) -> None:
        self._scorer.remember(sha256, scores)


@dataclass(frozen=True)
class Made:
    """A soup on disk. scores: J&F on the select split of soup, best single and uniform soup."""

    key: str
    path: Path
    sha256: str
    model_id: str
    scores: Mapping[str, float]
    ingredients: Sequence[str]
    decisions: Sequence[Mapping[str, Any]]
    existing: bool


def make_soup(
    experiment: str,
    *,
    storage: Storage,
    tracker: Tracker,
    sweep: str | None = None,
    again: bool = False,
) -> Made:
    """The greedy soup of a sweep's trial checkpoints; None: the newest sweep. As `cook`."""
    pool = from_experiment(Catalogue(tracker.connection), experiment, sweep)
    assert pool.config is not None  # an experiment has one
    return cook(pool, pool.config, storage=storage, tracker=tracker, again=again)


def cook(
    pool: Pool,
    config: RunConfig,
    *,
    storage: Storage,
    tracker: Tracker,
    again: bool = False,
    judge: Judge | None = None,
) -> Made:
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
    job: Job,
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
    job: Job,
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
) -> tuple[Job, bool]:
    """The ledger's job of this soup, and whether it is done already."""
    data = config.data
    shaped_by = {
        "role": "soup",
        "recipe": RECIPE,
        "name": config.name,
        "pool": _pool(ingredients),
        "data": [data.root, data.select, data.select_height, data.select_stride],
        "min_delta": config.soup.min_delta,
    }
    attempt, found = 0, None
    while (job := ledger.job(digest({**shaped_by, "attempt": attempt}))).state == "done":
        attempt, found = attempt + 1, job
    return (job, False) if found is None or again else (found, True)


def _made(job: Job, storage: Storage, tracker: Tracker, *, existing: bool) -> Made:
    started, souped, made = job.started(), job.of(Souped)[-1], job.checkpoints()[-1]
    assert started is not None  # it is done
    records = Catalogue(tracker.connection).checkpoints(
        started.experiment, started.sweep, ("soup",)
    )
    return Made(
        key=job.key,
        path=storage.root / made.path,
        sha256=made.sha256,
        model_id=next(record.model_id for record in records if record.key == job.key),
        scores=souped.scores,
        ingredients=souped.ingredients,
        decisions=souped.decisions,
        existing=existing,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "Average the checkpoints of a sweep that score more together than alone.",
        f"python -m {MODULE} --runs mlflow:omega",
        tracking=True,
    )
    parser.add_argument(
        "--runs", required=True, metavar="mlflow:EXPERIMENT|FOLDER", help="where checkpoints are"
    )
    parser.add_argument("--data", metavar="ROOT", help="score on this; default: as the sweep did")
    parser.add_argument("--split", metavar="S", help="split to score on; default: as the sweep did")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="1 for now")
    parser.add_argument("--sweep", metavar="ID", help="a sweep of the experiment; default: newest")
    parser.add_argument("--include-soups", action="store_true", help="earlier soups may go in too")
    parser.add_argument("--again", action="store_true", help="search anew on a pool done before")
    return console.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.workers != 1:
        raise ConfigError([f"--workers {args.workers}: a parallel search is not built yet; use 1"])
    folder = not args.runs.startswith(SCHEME)
    if folder and (args.sweep or args.include_soups or not args.data):
        raise ConfigError(
            [f"--runs {args.runs}: a folder needs --data, and has no --sweep, --include-soups"]
        )
    uri = args.tracking_uri
    if folder:
        pool = from_folder(Path(args.runs))
        config = _config_of_folder(args, pool)
        tracker = Tracker(Connection(locate(uri, config.storage_root)))
    else:
        connection = Connection(locate(uri, Path(STORAGE)), create=False)
        tracker, catalogue = Tracker(connection), Catalogue(connection)
        name = args.runs.removeprefix(SCHEME)
        pool = from_experiment(catalogue, name, args.sweep, include_soups=args.include_soups)
        assert pool.config is not None  # an experiment has one
        config = pool.config
        values = {"data.root": args.data, "data.select": args.split}
        values = {key: value for key, value in values.items() if value is not None}
        if values:
            config = changed(config, values, "command line")
            pool = replace(pool, scored=config.data == pool.config.data)
    storage = Storage(config.storage_root)
    made = cook(pool, config, storage=storage, tracker=tracker, again=args.again)
    if not args.json:
        _print(made, config, pool, tracker)
    return {
        "soup": {"file": str(made.path), "sha256": made.sha256, "model_id": made.model_id},
        "scores": dict(made.scores),
        "ingredients": list(made.ingredients),
        "decisions": [dict(decision) for decision in made.decisions],
        "existing": made.existing,
        "experiment": config.name,
        "sweep": pool.sweep,
        "store": tracker.store.uri,
    }


def _config_of_folder(args: argparse.Namespace, pool: Pool) -> RunConfig:
    """A run around checkpoints of unknown origin: their student, the data of the command line."""
    students = {canonical(i.meta["student"]) for i in pool.ingredients}
    if len(students) > 1:
        raise InputError(f"{args.runs}: checkpoints of {len(students)} students; soups need one")
    name = re.sub(r"[^A-Za-z0-9_-]", "-", Path(args.runs).absolute().name) or "folder"
    values = {"student": pool.ingredients[0].meta["student"], "data.root": args.data}
    if args.split is not None:
        values["data.select"] = args.split
    return changed(RunConfig(name=name), values, "command line")


def _print(made: Made, config: RunConfig, pool: Pool, tracker: Tracker) -> None:
    out = Console(highlight=False, width=max(100, Console().width))
    if made.existing:
        out.print("this pool has a soup already; --again searches anew")
    data = config.data
    told = f"{data.root} {data.select} at {data.select_height} px, stride {data.select_stride}"
    out.print(f"{config.name}, sweep {pool.sweep}: J&F on {told}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("checkpoint", "soup without", "with it", ""):
        table.add_column(heading, justify="right" if heading.endswith(("out", "it")) else "left")
    for turn in made.decisions:
        before = turn["score_before"]
        table.add_row(
            turn["name"],
            "" if before is None else f"{before:.4f}",
            f"{turn['score_with']:.4f}",
            "in" if turn["accepted"] else "out",
        )
    out.print(table)
    for label, key in (("best single", "best_single_jf"), ("uniform soup", "uniform_jf")):
        out.print(f"{label:14} {made.scores[key]:.4f}")
    out.print(f"{'greedy soup':14} {made.scores['jf']:.4f}  of {len(made.ingredients)}")
    for label, place in (
        ("file", str(made.path)),
        ("model", f"models:/{made.model_id}"),
        ("store", tracker.store.uri),
    ):
        out.print(f"{label:6} {place}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
