"""Run `python -m soups.greedy`: average the checkpoints that score more together than alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config.loading import changed
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.sections import EXPERIMENT, MODEL, STORAGE
from soups.order import WORDS, Order
from vosmodels.errors import InputError, UsageError
from vosmodels.support import cli
from vosmodels.support.paths import expanded

if TYPE_CHECKING:
    from orchestrator.config import RunConfig
    from orchestrator.tracking.ledger import JobRecord
    from orchestrator.tracking.mlflow_reader import MlflowReader
    from soups.recipe import SoupResult
    from soups.sources import Pool

MODULE = "soups.greedy"
LEDGER = "ledger:"  # before a storage folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Average the checkpoints of a sweep that score more together than alone.",
        f"python -m {MODULE} --runs mlflow:omega",
        tracking=True,
    )
    parser.add_argument(
        "--runs",
        nargs="+",
        action="extend",
        metavar=f"{EXPERIMENT}EXPERIMENT[@SWEEP]|{LEDGER}FOLDER[@SWEEP]|FOLDER",
        help="where checkpoints are, one place or more: a sweep in MLflow, one in a storage "
        "folder, without MLflow, a folder of checkpoints; SWEEP: the first letters of a sweep's "
        "id; default: the newest",
    )
    parser.add_argument(
        "--replay",
        metavar="REF",
        help="make a soup again, bit for bit, from the checkpoints that its record names; its "
        "FILE, models:/ID or mlflow:EXPERIMENT; --runs FOLDER: where those of a folder lie",
    )
    parser.add_argument("--data", metavar="ROOT", help="score on this; default: as the sweep did")
    parser.add_argument("--split", metavar="S", help="split to score on; default: as the sweep did")
    parser.add_argument(
        "--select-on",
        choices=("train",),
        help="train: the training videos choose, as in the paper; every output says so",
    )
    pool = parser.add_argument_group("pool")
    pool.add_argument(
        "--filter", metavar="TEXT", help="trials in MLflow, such as \"params.`loss.omega` = '0.8'\""
    )
    pool.add_argument(
        "--include-unfinished", action="store_true", help="trials that failed or were stopped, too"
    )
    pool.add_argument("--include-soups", action="store_true", help="earlier soups may go in too")
    pool.add_argument("--every", type=int, metavar="N", help="steps that are multiples of N alone")
    pool.add_argument(
        "--apart",
        type=float,
        metavar="D",
        help="leave out what lies within this share of the norm of the weights of a better one",
    )
    pool.add_argument("--best", type=int, metavar="N", help="the N best of what is left alone")
    pool.add_argument(
        "--force", action="store_true", help="average checkpoints without a common ancestor"
    )
    pool.add_argument(
        "--bn",
        choices=("average", "recalibrate"),
        help="average: where BatchNorm statistics differ, average them too; recalibrate: give each "
        "mean those that it has on training clips of the sweep",
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--order", default="score", help=f"in which checkpoints are tried: {WORDS}; default score"
    )
    search.add_argument(
        "--min-delta",
        type=float,
        metavar="X",
        help="least gain in J&F; default: soup.min_delta of the sweep",
    )
    search.add_argument(
        "--replacement", action="store_true", help="take one again, which then weighs more"
    )
    search.add_argument(
        "--bag",
        type=int,
        metavar="N",
        help="search N times, each on videos drawn with replacement, and average all picks; that "
        "soup may score below the best single checkpoint",
    )
    search.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="score N videos at a time, on Ray; default 1",
    )
    search.add_argument(
        "--again", action="store_true", help="search anew on a pool done before; scores are kept"
    )
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.replay is not None:
        return _replay(args)
    if args.runs is None:
        raise UsageError("give --runs, where checkpoints are, or --replay, a soup to make again")
    order = _check(args)
    shown = args.tracking_uri or not all(_is_storage(text) for text in args.runs)
    from orchestrator.tracking.delivery import patiently
    from orchestrator.tracking.mlflow_reader import MlflowReader
    from orchestrator.tracking.mlflow_store import Connection, locate
    from orchestrator.tracking.mlflow_writer import Tracker
    from orchestrator.tracking.storage import Storage

    reader = None
    if any(text.startswith(EXPERIMENT) for text in args.runs):
        connection = Connection(locate(args.tracking_uri, Path(STORAGE)), create=False)
        reader = MlflowReader(connection)
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    from orchestrator.execution.worker_pool import worker_pool
    from orchestrator.planning.protocol import check_scored_videos
    from soups.bagging import Bags
    from soups.guards import chosen_on
    from soups.recipe import Search, make_soup
    from soups.select_scores import take_threads
    from soups.sources import together
    from soups.thinning import Thinning

    pool = together([_pool(text, args, reader) for text in args.runs], args.runs, force=args.force)
    pool = replace(
        pool, ingredients=Thinning(args.every, args.apart, args.best).thin(pool.ingredients)
    )
    pool, config = _configured(pool, args)
    check_scored_videos(ScoringProtocol.for_select(config.data))
    storage = Storage(config.storage_root, config.remote)
    if reader is None and shown:
        reader = MlflowReader(Connection(locate(args.tracking_uri, config.storage_root)))
    tracker = Tracker(reader.connection) if reader and shown else None
    if storage.mirror:
        storage.mirror.begin()
    threads = take_threads(storage, pool.sweep, args.workers)

    def project(record: JobRecord) -> None:
        if tracker is None:
            return
        try:
            patiently(lambda: tracker.project(record, pool.sweep), tracker.store)
        except InputError as error:
            raise InputError(
                f"{error}; the soup waits in {record.path}: run the same command again to show it"
            ) from None

    soup = make_soup(
        pool,
        config,
        storage=storage,
        project=project,
        again=args.again,
        bn=args.bn,
        search=Search(order, args.replacement, Bags(args.bag, config.seed) if args.bag else None),
        workers=args.workers,
        executor=worker_pool(args.workers, threads) if args.workers > 1 else None,
    )
    model_id = None
    if reader is not None and tracker is not None:
        records = reader.checkpoints(config.name, pool.sweep, ("soup",))
        model_id = next(record.model_id for record in records if record.key == soup.key)
    store = tracker.store.uri if tracker else None
    if not args.json:
        _print(soup, model_id, config, pool, store)
    return {
        "soup": {"file": str(soup.path), "sha256": soup.sha256, "model_id": model_id},
        "scores": dict(soup.scores),
        "ingredients": list(soup.ingredients),
        "decisions": [dict(decision) for decision in soup.decisions],
        "existing": soup.existing,
        "chosen_on": chosen_on(config.data) or "select",
        "warnings": list(soup.warnings),
        "experiment": config.name,
        "sweep": pool.sweep,
        "store": store,
    }


def _configured(pool: Pool, args: argparse.Namespace) -> tuple[Pool, RunConfig]:
    """Return the run that the soup belongs to, by the command line, and the pool.

    Scores of a pool that are not of this run's select videos do not count.
    """
    from soups.guards import select_on_train
    from soups.sources import config_of_folder

    if pool.config is None:
        config = config_of_folder(expanded(args.runs[0]), pool, args.data, args.split)
    else:
        config = pool.config
        values = {"data.root": args.data, "data.select": args.split}
        values = {key: value for key, value in values.items() if value is not None}
        if args.data is not None:
            values["data.select_root"] = None
        if values:
            config = changed(config, values, "command line")
            pool = replace(pool, scored=pool.scored and config.data == pool.config.data)
    if args.select_on:
        config = changed(config, select_on_train(config), "command line")
        pool = replace(pool, scored=False)
    if args.min_delta is not None:
        config = changed(config, {"soup.min_delta": args.min_delta}, "command line")
    return pool, config


def _replay(args: argparse.Namespace) -> Mapping[str, Any]:
    """Make the soup of --replay again."""
    searching = (
        *("data", "split", "select_on", "filter", "include_unfinished", "include_soups"),
        *("every", "apart", "best", "force", "bn", "min_delta", "replacement", "bag", "again"),
    )
    odd = [
        f"--{name.replace('_', '-')}"
        for name in searching
        if getattr(args, name) not in (None, False)
    ]
    odd += ["--workers"] if args.workers != 1 else []
    odd += ["--order"] if args.order != "score" else []
    places = args.runs or []
    odd += [f"--runs {text}" for text in places if text.startswith((EXPERIMENT, LEDGER))]
    if odd:
        raise UsageError(
            f"--replay {args.replay} searches nothing: leave out {', '.join(odd)}; --runs may name "
            "a FOLDER of ingredients"
        )
    folders = tuple(map(expanded, places))
    for folder in folders:
        cli.check_exists(folder, "folder", "give the one that has the soup's ingredients")
    from soups.records import find

    record = find(args.replay, args.tracking_uri, folders=folders)
    from soups.replay import replay

    soup = replay(record)
    if not args.json:
        names = ", ".join(soup.ingredients)
        print(f"the mean of {len(soup.ingredients)}: {names}")
        print(f"bit for bit the soup of {record.job.path}")
        print(f"file   {soup.path}{'' if soup.there else ', which was lost'}")
    return {
        "soup": {"file": str(soup.path), "sha256": soup.sha256, "was_there": soup.there},
        "ingredients": list(soup.ingredients),
        "record": str(record.job.path),
    }


def _check(args: argparse.Namespace) -> Order:
    """Return the order of the search. Raises UsageError and InputError on wrong arguments."""
    problems = []
    try:
        order = Order.of(args.order)
    except ValueError as error:
        problems.append(f"--{error}")
    if args.select_on and args.split:
        problems.append(f"--select-on {args.select_on} and --split {args.split}: give one")
    for name in ("workers", "every", "best", "bag"):
        value = getattr(args, name)
        if value is not None and value < 1:
            problems.append(f"--{name} {value}: 1 or more")
    for name, what in (("apart", "a share of a norm"), ("min_delta", "a gain in J&F")):
        value = getattr(args, name)
        if value is not None and not 0 <= value < inf:
            problems.append(f"--{name.replace('_', '-')} {value:g}: {what}, 0 or more")
    in_mlflow = [text for text in args.runs if text.startswith(EXPERIMENT)]
    if (args.filter or args.include_soups) and not in_mlflow:
        name = "filter" if args.filter else "include-soups"
        problems.append(f"--{name}: is for runs in MLflow; name one: --runs {EXPERIMENT}EXPERIMENT")
    folders = [text for text in args.runs if text not in in_mlflow and not _is_storage(text)]
    for text in folders if not args.data else ():
        there = expanded(text).exists()
        why = "a folder needs --data" if there else "no such folder"
        problems.append(f"--runs {text}: {why}; an experiment is {EXPERIMENT}{text}")
    if problems:
        raise UsageError("; ".join(problems))
    for text in args.runs:
        if text in folders or text.startswith(LEDGER):
            cli.check_exists(
                _folder(text)[0],
                "folder",
                f"give one with *.safetensors checkpoints, or {EXPERIMENT}{text} for that name",
            )
    return order


def _is_storage(text: str) -> bool:
    """Tell whether a place is a storage folder, whose sweeps lie in its ledger."""
    return text.startswith(LEDGER) or (
        not text.startswith(EXPERIMENT) and (expanded(text) / "ledger").is_dir()
    )


def _folder(text: str) -> tuple[Path, str]:
    """Return the folder of a place, and the letters of a sweep that follow it."""
    if not text.startswith(LEDGER):
        return expanded(text), ""
    folder, _, sweep = text.removeprefix(LEDGER).partition("@")
    return expanded(folder), sweep


def _pool(text: str, args: argparse.Namespace, reader: MlflowReader | None) -> Pool:
    """Gather the checkpoints of one place."""
    from soups.sources import from_experiment, from_folder, from_storage

    if _is_storage(text):
        return from_storage(
            *_folder(text), include_unfinished=args.include_unfinished, force=args.force
        )
    if reader is None or not text.startswith(EXPERIMENT):
        return from_folder(expanded(text), force=args.force)
    experiment, sweep = reader.resolve(text.removeprefix(EXPERIMENT))
    _deliver(reader, experiment, sweep)
    return from_experiment(
        reader,
        f"{experiment}@{sweep}",
        include_soups=args.include_soups,
        include_unfinished=args.include_unfinished,
        where=args.filter or "",
        force=args.force,
    )


def _deliver(reader: MlflowReader, experiment: str, sweep: str) -> None:
    """Copy the jobs of a sweep that wait for its store: the pool would lack their checkpoints.

    Raises InputError where the store does not take them, or their files are gone.
    """
    from orchestrator.tracking.delivery import copy_jobs, patiently, waiting_in
    from orchestrator.tracking.mlflow_writer import Tracker

    storage, delivery = waiting_in(reader, experiment, sweep)
    if delivery is None:
        return
    tracker = Tracker(reader.connection)
    problems = patiently(lambda: copy_jobs(delivery, storage, tracker), tracker.store)
    if problems:
        raise InputError("; ".join(problems))


def _print(
    soup: SoupResult, model_id: str | None, config: RunConfig, pool: Pool, store: str | None
) -> None:
    from vosmodels.support.grid import Grid, screen

    out = screen(columns=100)
    if soup.existing:
        out.print("this pool has a soup already; --again searches anew")
    protocol = ScoringProtocol.for_select(config.data)
    scored_on = f"{protocol.data.root} {protocol.describe()}"
    out.print(f"{config.name}, sweep {pool.sweep}: J&F on {scored_on}")
    for warning in soup.warnings:
        out.print(f"warning: {warning}")
    rows = [
        [
            f"bag {turn['bag']}: {turn['name']}" if turn.get("bag") else turn["name"],
            "" if turn["score_before"] is None else f"{turn['score_before']:.4f}",
            _score_with(turn),
            "in" if turn["accepted"] else "out",
        ]
        for turn in soup.decisions
    ]
    grid = Grid(["checkpoint", "soup without", "with it", ""], rows, left=(0, 3))
    out.print(grid.terminal())
    for label, key in (("best single", "best_single_jf"), ("uniform soup", "uniform_jf")):
        out.print(f"{label:14} {soup.scores[key]:.4f}")
    out.print(f"{'greedy soup':14} {soup.scores['jf']:.4f}  of {len(soup.ingredients)}")
    out.print(f"file   {soup.path}")
    if store is not None:
        out.print(f"model  {MODEL}{model_id}")
        out.print(f"store  {store}")


def _score_with(turn: Mapping[str, Any]) -> str:
    """Write the score of a decision, or what it could be at most where scoring stopped early."""
    if turn["score_with"] is None:
        return f"<= {turn['at_most']:.4f}"
    return f"{turn['score_with']:.4f}"


if __name__ == "__main__":
    sys.exit(main())
