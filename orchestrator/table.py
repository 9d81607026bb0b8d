"""Run a sweep from several seeds into one table: `python -m orchestrator.table`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.config import ConfigError, load
from orchestrator.config.arguments import config_parser, words_of
from orchestrator.config.document import read_text
from vosmodels.support import cli

MODULE = "orchestrator.table"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = config_parser(
        MODULE,
        "Run a sweep from several seeds, each with its own stem and teacher, into one table.\n"
        "The table's file is written after every trial. Seeds in the file are not run again;\n"
        "other seeds are added.",
        "SWEEP.yaml",
        "sweeps/table5.yaml --seeds 0,1,2 data.report=test",
    )
    parser.add_argument(
        "--seeds", metavar="N,N,...", type=_seeds, default=(0, 1, 2), help="default: 0,1,2"
    )
    parser.add_argument(
        "--out",
        metavar="FILE.json",
        type=cli.path,
        help="default: results/NAME.json beside SWEEP.yaml",
    )
    typed = list(sys.argv[1:] if argv is None else argv)
    resume = "run the same command again to continue"
    return cli.run(parser, argv, partial(_work, typed), resume=resume)


def _seeds(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if bad := [word for word in words if not (word.isascii() and word.isdigit())]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, bad))} in {text!r}: seeds are whole numbers, 0 or more"
        )
    return tuple(dict.fromkeys(int(word) for word in words))


def _work(typed: Sequence[str], args: argparse.Namespace) -> Mapping[str, Any]:
    if any(word.split("=")[0].strip() == "seed" for word in args.overrides):
        raise ConfigError(["command line: seed: varies within a table; use --seeds"])
    configs = [load(args.file, [*args.overrides, f"seed={seed}"]) for seed in args.seeds]
    if (search := configs[0].sweep.search) != "grid":
        raise ConfigError(
            [
                f"{args.file}: sweep.search: {search!r} chooses other values for each seed, and a "
                "table compares the same rows; write what was found as sweep.points"
            ]
        )
    from orchestrator.reporting.seeds import SeedTable

    out = args.out or args.file.parent / "results" / f"{configs[0].name}.json"
    table = SeedTable.read(out) if out.exists() else SeedTable(configs[0].name, {})
    for config in configs:
        table.expect(config.model_dump(mode="json"))
    from orchestrator import dry_run, pipeline, prepared
    from orchestrator.reporting.seed_tables import show
    from vosmodels.support.provenance import command_line

    todo = [
        config
        for config in configs
        if not table.has(config)
        or (args.rerun_changed and prepared.older_code_of(config, args.tracking_uri).again)
    ]
    if args.dry_run:
        return dry_run.show_seeds(
            todo,
            table,
            tracking_uri=args.tracking_uri,
            quiet=args.json,
            rerun_changed=args.rerun_changed,
        )
    table, well = pipeline.run_seeds(
        todo,
        table,
        out,
        text=read_text(args.file),
        command=command_line(MODULE, typed),
        tracking_uri=args.tracking_uri,
        rerun_changed=args.rerun_changed,
        alone=words_of(args),
    )
    rows = [row.as_dict() for row in table.rows()]
    answer = {"table": table.name, "seeds": sorted(table.runs), "rows": rows, "file": str(out)}
    if not args.json:
        show(table)
        print(f"written to {out}")
    if not well:
        raise cli.CommandFailed(answer)
    return answer


if __name__ == "__main__":
    sys.exit(main())
