"""`python -m orchestrator.table SWEEP.yaml`: a sweep from several seeds, as one table."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator import experiment
from orchestrator.comparison import Comparison, read
from orchestrator.config import ConfigError, SweepConfig, load
from orchestrator.connection import Connection, locate
from orchestrator.figures import draw
from orchestrator.presentation import show
from orchestrator.results import Results
from orchestrator.tracking import Tracker
from vosmodels import console
from vosmodels.address import command_line
from vosmodels.files import write_json

MODULE = "orchestrator.table"

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "Run a sweep from several seeds, each with a stem and a teacher of its own, or continue\n"
        "it, and keep one table of all. Its file has what is done after every trial; seeds that\n"
        "are in it are not run again, others are added.",
        f"python -m {MODULE} sweeps/table5.yaml --seeds 0,1,2 data.report=test",
        tracking=True,
    )
    experiment.configured_by(parser, "SWEEP.yaml")
    parser.add_argument(
        "--seeds", metavar="N,N,...", type=_seeds, default=(0, 1, 2), help="default: 0,1,2"
    )
    parser.add_argument(
        "--out", metavar="FILE.json", type=Path, help="default: results/NAME.json beside SWEEP.yaml"
    )
    parser.add_argument("--dry-run", action="store_true", help="start nothing; print every sweep")
    typed = command_line(MODULE, list(sys.argv[1:] if argv is None else argv))
    return console.run(
        parser,
        argv,
        lambda args: _work(args, typed),
        resume="run the same command again to continue",
    )


def _seeds(text: str) -> tuple[int, ...]:
    found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    if min(found) < 0:
        raise ValueError(text)
    return found


def _work(args: argparse.Namespace, typed: str) -> Mapping[str, Any]:
    if any(word.split("=")[0].strip() == "seed" for word in args.overrides):
        raise ConfigError(["command line: seed: varies within a table; use --seeds"])
    configs = [load(args.file, [*args.overrides, f"seed={seed}"]) for seed in args.seeds]
    out = args.out or args.file.parent / "results" / f"{configs[0].name}.json"
    table = read(out) if out.exists() else Comparison(configs[0].name, {})
    for config in configs:
        table.expect(config.model_dump(mode="json"))
    todo = [config for config in configs if not table.has(config)]
    if args.dry_run:
        return _dry_run(table, todo, args)
    failed = False
    for config in todo:
        logger.info("table %s: seed %d", table.name, config.seed)
        table, well = _run(table, config, out, typed, args)
        failed = failed or not well
    lines = [line.as_dict() for line in table.lines()]
    answer = {"table": table.name, "seeds": sorted(table.runs), "rows": lines, "file": str(out)}
    if not args.json:
        show(table)
        print(f"written to {out}")
    if failed:
        raise console.CommandFailed(answer)
    return answer


def _run(
    table: Comparison, config: SweepConfig, out: Path, typed: str, args: argparse.Namespace
) -> tuple[Comparison, bool]:
    """The table with one more seed in it, on disk, and whether all its trials ended well."""
    kept = table.runs.get(config.seed)

    def keep(results: Results) -> None:
        if kept is None or len(results.rows) >= len(kept.rows):  # a file loses no rows on the way
            write_json(out, table.with_run(results).as_dict())

    try:
        made = experiment.run(
            config,
            text=args.file.read_text(),
            command=typed,
            tracking_uri=args.tracking_uri,
            quiet=True,
            keep=keep,
        )
        well = True
    except console.CommandFailed as failure:
        made, well = failure.result or {}, False
    table = table.with_run(Results.from_dict(made))
    write_json(out, table.as_dict())
    files = [out]
    if any(line.mean.role == "trial" for line in table.lines()):
        files.append(out.with_suffix(".png"))
        draw(table, files[-1])
    tracker = Tracker(
        Connection(locate(args.tracking_uri or config.tracking.uri, config.storage_root))
    )
    tracker.log_files(config.name, made["sweep"], files)
    return table, well


def _dry_run(
    table: Comparison, todo: Sequence[SweepConfig], args: argparse.Namespace
) -> Mapping[str, Any]:
    out = Console(stderr=args.json, highlight=False, soft_wrap=True)
    out.print(f"{table.name}: {len(table.runs)} seeds are done, {len(todo)} to run")
    sweeps = {}
    for config in todo:
        out.print(f"seed {config.seed}")
        sweeps[str(config.seed)] = experiment.dry_run(
            config, tracking_uri=args.tracking_uri, quiet=args.json
        )
    return {"table": table.name, "done": sorted(table.runs), "seeds": sweeps}


if __name__ == "__main__":
    sys.exit(main())
