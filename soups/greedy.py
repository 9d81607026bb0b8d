"""Run `python -m soups.greedy`: average the checkpoints that score more together than alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config import ConfigError
from orchestrator.config.loading import changed
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.sections import EXPERIMENT, MODEL, STORAGE
from vosmodels.errors import InputError, UsageError
from vosmodels.support import cli
from vosmodels.support.paths import expanded

if TYPE_CHECKING:
    from orchestrator.config import RunConfig
    from orchestrator.tracking.ledger import JobRecord
    from orchestrator.tracking.mlflow_reader import MlflowReader
    from orchestrator.tracking.mlflow_writer import Tracker
    from soups.recipe import SoupResult
    from soups.sources import Pool

MODULE = "soups.greedy"


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
        metavar="mlflow:EXPERIMENT[@SWEEP]|FOLDER",
        help="where checkpoints are; SWEEP: the first letters of a sweep's id; default: the newest",
    )
    parser.add_argument(
        "--replay",
        metavar="REF",
        help="make a soup again, bit for bit, from the checkpoints that its record names; its "
        "FILE, models:/ID or mlflow:EXPERIMENT; --runs FOLDER: where those of a folder lie",
    )
    parser.add_argument("--data", metavar="ROOT", help="score on this; default: as the sweep did")
    parser.add_argument("--split", metavar="S", help="split to score on; default: as the sweep did")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="1 for now")
    parser.add_argument("--include-soups", action="store_true", help="earlier soups may go in too")
    parser.add_argument(
        "--select-on",
        choices=("train",),
        help="train: the training videos choose, as in the paper; every output says so",
    )
    parser.add_argument(
        "--force", action="store_true", help="average checkpoints without a common ancestor"
    )
    parser.add_argument(
        "--bn",
        choices=("average",),
        help="average: where BatchNorm statistics differ, average them too",
    )
    parser.add_argument("--again", action="store_true", help="search anew on a pool done before")
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.replay is not None:
        return _replay(args)
    if args.runs is None:
        raise UsageError("give --runs, where checkpoints are, or --replay, a soup to make again")
    if args.workers != 1:
        raise ConfigError([f"--workers {args.workers}: a parallel search is not built yet; use 1"])
    if args.select_on and args.split:
        raise UsageError(f"--select-on {args.select_on} and --split {args.split}: give one")
    folder = not args.runs.startswith(EXPERIMENT)
    if folder and not args.data and not expanded(args.runs).exists():
        raise UsageError(
            f"--runs {args.runs}: no such folder; an experiment is {EXPERIMENT}{args.runs}"
        )
    if folder and (args.include_soups or not args.data):
        raise ConfigError(
            [f"--runs {args.runs}: a folder needs --data, and has no --include-soups"]
        )
    if folder:
        cli.check_exists(
            expanded(args.runs),
            "folder",
            f"give one with *.safetensors checkpoints, or {EXPERIMENT}{args.runs} for that name",
        )
    from orchestrator.tracking.delivery import patiently
    from orchestrator.tracking.mlflow_reader import MlflowReader
    from orchestrator.tracking.mlflow_store import Connection, locate
    from orchestrator.tracking.mlflow_writer import Tracker
    from orchestrator.tracking.storage import Storage

    uri = args.tracking_uri
    if not folder:
        connection = Connection(locate(uri, Path(STORAGE)), create=False)
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    from orchestrator.planning.protocol import check_scored_videos
    from soups.guards import chosen_on, select_on_train
    from soups.recipe import make_soup
    from soups.sources import config_of_folder, from_experiment, from_folder

    if folder:
        pool = from_folder(expanded(args.runs), force=args.force)
        config = config_of_folder(expanded(args.runs), pool, args.data, args.split)
    else:
        reader = MlflowReader(connection)
        experiment, sweep = reader.resolve(args.runs.removeprefix(EXPERIMENT))
        _deliver(reader, experiment, sweep)
        name = f"{experiment}@{sweep}"
        pool = from_experiment(reader, name, include_soups=args.include_soups, force=args.force)
        assert pool.config is not None  # an experiment has one
        config = pool.config
        values = {"data.root": args.data, "data.select": args.split}
        values = {key: value for key, value in values.items() if value is not None}
        if args.data is not None:
            values["data.select_root"] = None
        if values:
            config = changed(config, values, "command line")
            pool = replace(pool, scored=config.data == pool.config.data)
    if args.select_on:
        config = changed(config, select_on_train(config), "command line")
        pool = replace(pool, scored=False)
    check_scored_videos(ScoringProtocol.for_select(config.data))
    if folder:
        connection = Connection(locate(uri, config.storage_root))
    tracker, storage = Tracker(connection), Storage(config.storage_root, config.remote)
    if storage.mirror:
        storage.mirror.begin()

    def project(record: JobRecord) -> None:
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
        average_statistics=args.bn is not None,
    )
    records = MlflowReader(tracker.connection).checkpoints(config.name, pool.sweep, ("soup",))
    model_id = next(record.model_id for record in records if record.key == soup.key)
    if not args.json:
        _print(soup, model_id, config, pool, tracker)
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
        "store": tracker.store.uri,
    }


def _replay(args: argparse.Namespace) -> Mapping[str, Any]:
    """Make the soup of --replay again."""
    searching = ("data", "split", "include_soups", "select_on", "force", "bn", "again")
    odd = [f"--{name.replace('_', '-')}" for name in searching if getattr(args, name)]
    odd += ["--workers"] if args.workers != 1 else []
    odd += [f"--runs {args.runs}"] if (args.runs or "").startswith(EXPERIMENT) else []
    if odd:
        raise UsageError(
            f"--replay {args.replay} searches nothing: leave out {', '.join(odd)}; --runs may name "
            "a FOLDER of ingredients"
        )
    folders = (expanded(args.runs),) if args.runs else ()
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
    soup: SoupResult, model_id: str, config: RunConfig, pool: Pool, tracker: Tracker
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
            turn["name"],
            "" if turn["score_before"] is None else f"{turn['score_before']:.4f}",
            f"{turn['score_with']:.4f}",
            "in" if turn["accepted"] else "out",
        ]
        for turn in soup.decisions
    ]
    grid = Grid(["checkpoint", "soup without", "with it", ""], rows, left=(0, 3))
    out.print(grid.terminal())
    for label, key in (("best single", "best_single_jf"), ("uniform soup", "uniform_jf")):
        out.print(f"{label:14} {soup.scores[key]:.4f}")
    out.print(f"{'greedy soup':14} {soup.scores['jf']:.4f}  of {len(soup.ingredients)}")
    for label, place in (
        ("file", str(soup.path)),
        ("model", f"{MODEL}{model_id}"),
        ("store", tracker.store.uri),
    ):
        out.print(f"{label:6} {place}")


if __name__ == "__main__":
    sys.exit(main())
