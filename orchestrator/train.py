"""Train one student, with its teacher and stem, or one job: `python -m orchestrator.train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.config import load, load_run
from orchestrator.config.arguments import config_parser
from orchestrator.config.document import read_text
from vosmodels.errors import UsageError
from vosmodels.support import cli

MODULE = "orchestrator.train"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = config_parser(
        MODULE,
        "Train one student, or continue its training. A sweep file is refused, but for one of its\n"
        "jobs: --job.",
        "RUN.yaml",
        "run.yaml loss.omega=0.95 data.root=/data/DAVIS",
    )
    parser.add_argument(
        "--job",
        metavar="NAME",
        help="one job of a sweep file, by its name or key as --dry-run lists them, with those it "
        "needs; no scores of other splits, no soup, no table",
    )
    typed = list(sys.argv[1:] if argv is None else argv)
    resume = "run the same command again to continue"
    return cli.run(parser, argv, partial(_work, typed), resume=resume)


def _work(typed: Sequence[str], args: argparse.Namespace) -> Mapping[str, Any]:
    if args.job is not None:
        return _one_job(args)
    config = load_run(args.file, args.overrides).as_sweep()
    from orchestrator import dry_run, pipeline
    from vosmodels.support.provenance import command_line

    if args.dry_run:
        return dry_run.show(
            config,
            tracking_uri=args.tracking_uri,
            quiet=args.json,
            rerun_changed=args.rerun_changed,
        )
    return pipeline.run(
        config,
        text=read_text(args.file),
        command=command_line(MODULE, typed),
        tracking_uri=args.tracking_uri,
        quiet=args.json,
        rerun_changed=args.rerun_changed,
    )


def _one_job(args: argparse.Namespace) -> Mapping[str, Any]:
    if args.dry_run or args.rerun_changed:
        raise UsageError("--job: takes no --dry-run and no --rerun-changed; the sweep does")
    config = load(args.file, args.overrides)
    from orchestrator import one_job

    return one_job.run(config, args.job, tracking_uri=args.tracking_uri, quiet=args.json)


if __name__ == "__main__":
    sys.exit(main())
