"""Run `python -m soups.worth`: tell whether a soup was worth making."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.loading import changed
from orchestrator.config.sections import EXPERIMENT, MODEL
from soups.worth.rows import rows_of
from vosmodels.support import cli

MODULE = "soups.worth"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Compare a soup with its best ingredient, other averages, views and the ensemble of its "
        "ingredients, on the videos that chose and on those of data.report.",
        f"python -m {MODULE} mlflow:omega --report test",
        tracking=True,
    )
    parser.add_argument("soup", metavar="REF", help="its FILE, models:/ID or mlflow:EXPERIMENT")
    parser.add_argument(
        "--report",
        metavar="S",
        help="split that tells what the soup is worth; default: data.report of the sweep",
    )
    parser.add_argument(
        "--rows",
        metavar="ROW,ROW",
        help="what it is compared with: stem, last, tail, uniform, line, stock, flip, scales, all; "
        "greedy is the soup, best always there; default: everything",
    )
    return cli.run(parser, argv, _work)


def _work(args: argparse.Namespace) -> Mapping[str, Any]:
    rows = rows_of(args.rows)
    from soups.records import find

    record = find(args.soup, args.tracking_uri)
    config = record.config
    if args.report is not None:
        config = changed(config, {"data.report": args.report}, "command line")
    from soups.worth.judge import judge
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    judgement = judge(record, config, rows)
    files = judgement.keep()
    store = ""
    if args.soup.startswith((EXPERIMENT, MODEL)) and record.reader is not None:
        from orchestrator.tracking.mlflow_writer import Tracker

        tracker = Tracker(record.reader.connection)
        tracker.log_job_files(record.job, files, "worth")
        store = tracker.store.uri
    if not args.json:
        from vosmodels.support.grid import screen

        out = screen(columns=140)
        for comparison in judgement.comparisons:
            for grid in comparison.grids():
                out.print(grid.terminal())
        for text in (*judgement.remarks, *judgement.verdicts):
            out.print(text)
        for file in files:
            out.print(f"file   {file}")
        if store:
            out.print(f"store  {store}")
    return {**judgement.as_dict(), "files": [str(file) for file in files], "store": store}


if __name__ == "__main__":
    sys.exit(main())
