"""Print a sweep's table again, or write the README's Results section."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config import ConfigError
from orchestrator.config.sections import EXPERIMENT
from vosmodels.support import cli
from vosmodels.support.paths import expanded

MODULE = "orchestrator.report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Print the table of a sweep, or write the committed results into a README.",
        f"python -m {MODULE} mlflow:omega --out sweeps/results/omega.json\n"
        f"  python -m {MODULE} sweeps/results/table5.json\n"
        f"  python -m {MODULE} sweeps/results --readme sweeps/results/README.md",
        tracking=True,
    )
    parser.add_argument("source", metavar="mlflow:EXPERIMENT[@SWEEP]|TABLE.json|FOLDER")
    parser.add_argument(
        "--out", metavar="FILE.json", type=cli.path, help="write the results to a file"
    )
    parser.add_argument(
        "--readme", metavar="FILE.md", type=cli.path, help="rewrite the Results section of a file"
    )

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.source.startswith(EXPERIMENT):
            from orchestrator.reporting.experiment import results_in
            from orchestrator.tracking.checkpoint_refs import open_reader

            reader = open_reader(args.tracking_uri)
            experiment, sweep = reader.resolve(args.source.removeprefix(EXPERIMENT))
            from orchestrator.outcome import deliver_waiting  # loads torch

            deliver_waiting(reader, experiment, sweep)
            results = results_in(reader, experiment, sweep, args.out)
            if not args.json:
                from orchestrator.reporting.seed_tables import show_sweep

                print(results.address())
                show_sweep(results, whole=True)
                if args.out:
                    print(f"written to {args.out}")
            return results.as_dict()
        source = expanded(args.source)
        if source.is_file():
            from orchestrator.reporting.seeds import SeedTable

            table = SeedTable.read(source)
            from orchestrator.reporting.seed_tables import show

            if not args.json:
                show(table)
            return {**table.as_dict(), "rows": [row.as_dict() for row in table.rows()]}
        cli.check_exists(
            source,
            "file or folder",
            f"give {EXPERIMENT}EXPERIMENT, a table's .json, or a folder of results with --readme",
        )
        if args.readme is None:
            raise ConfigError(["a folder of results needs --readme FILE.md"])
        cli.check_exists(args.readme, "file", "give the Markdown file whose Results to rewrite")
        from orchestrator.reporting import readme

        rewritten = readme.rewrite(source, args.readme)
        if not args.json:
            print(f"{args.readme}: {len(rewritten['results'])} results")
        return rewritten

    return cli.run(parser, argv, work)


if __name__ == "__main__":
    sys.exit(main())
