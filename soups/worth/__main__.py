"""Run `python -m soups.worth`: tell whether a soup was worth making."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.config.loading import changed
from orchestrator.config.sections import EXPERIMENT, MODEL
from soups.worth.rows import rows_of
from vosmodels.errors import UsageError
from vosmodels.support import cli
from vosmodels.support.outputs import check_output

MODULE = "soups.worth"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Compare a soup, or several together, with its best ingredient, other averages, views and "
        "the ensemble of its ingredients, on the videos that chose and on those of data.report.",
        f"python -m {MODULE} mlflow:omega --report test",
        tracking=True,
    )
    parser.add_argument(
        "soups",
        nargs="+",
        metavar="REF",
        help="its FILE, models:/ID or mlflow:EXPERIMENT; of several, such as those of seeds, the "
        "rows are means over soups",
    )
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
    parser.add_argument(
        "--out",
        metavar="FILE.json",
        type=cli.path,
        help="where the answer goes, with a .md and of one soup a .png beside it; default: beside "
        "the results of the sweep",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier answer wrote to --out"
    )
    typed = sys.argv[1:] if argv is None else argv
    return cli.run(parser, argv, partial(_work, typed=typed))


def _work(args: argparse.Namespace, *, typed: Sequence[str]) -> Mapping[str, Any]:
    rows = rows_of(args.rows)
    if args.out is not None:
        if args.out.suffix != ".json":
            raise UsageError(
                f"--out {args.out}: the answer is JSON; give a name that ends in .json"
            )
        for suffix in (".json", ".md", ".png"):
            place = args.out.with_suffix(suffix)
            check_output(place, {}, folder=False, overwrite=args.overwrite)
    from soups.records import find

    records = [find(reference, args.tracking_uri) for reference in args.soups]
    soups = []
    for record in records:
        config = record.config
        if args.report is not None:
            config = changed(config, {"data.report": args.report}, "command line")
        soups.append((record, config))
    from soups.worth.judge import judge
    from vosmodels.support import provenance
    from vosmodels.support.memory import keep_freed_memory

    keep_freed_memory()
    address = {
        "command": provenance.command_line(MODULE, typed),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "date": provenance.today(),
    }
    judgement = judge(soups, rows, address=address)
    files = judgement.keep(args.out)
    store = ""
    for reference, record in zip(args.soups, records, strict=True):
        if reference.startswith((EXPERIMENT, MODEL)) and record.reader is not None:
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
