"""Run or continue a sweep and print its table: `python -m orchestrator.sweep`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.config import load
from orchestrator.config.arguments import config_parser, words_of
from orchestrator.config.document import read_text
from vosmodels.support import cli

MODULE = "orchestrator.sweep"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = config_parser(
        MODULE,
        "Run a sweep, or continue it from its finished jobs and last checkpoints.",
        "SWEEP.yaml",
        "sweeps/davis16.yaml data.root=/data/DAVIS",
    )
    typed = list(sys.argv[1:] if argv is None else argv)
    resume = "run the same command again to continue"
    return cli.run(parser, argv, partial(_work, typed), resume=resume)


def _work(typed: Sequence[str], args: argparse.Namespace) -> Mapping[str, Any]:
    config = load(args.file, args.overrides)
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
        alone=words_of(args),
    )


if __name__ == "__main__":
    sys.exit(main())
