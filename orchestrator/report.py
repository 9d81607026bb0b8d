"""`python -m orchestrator.report`: a sweep's table again, as JSON, and the README's Results."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.comparison import read
from orchestrator.config import ConfigError
from orchestrator.presentation import markdown, show
from orchestrator.references import reader
from orchestrator.results import Results
from vosmodels import console
from vosmodels.evaluation import speed_tables
from vosmodels.files import write_json
from vosmodels.types import InputError

MODULE = "orchestrator.report"
SCHEME = "mlflow:"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
SPEED = "speed-"  # how the files of vosmodels.evaluation.speed begin
BENCHMARK = "benchmark-"  # and those of tests/benchmarks; the others are sweeps


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "Print the table of a sweep, or write the committed results into a README.",
        f"python -m {MODULE} mlflow:omega --out sweeps/results/omega.json\n"
        f"  python -m {MODULE} sweeps/results/table5.json\n"
        f"  python -m {MODULE} sweeps/results --readme README.md",
        tracking=True,
    )
    parser.add_argument("source", metavar="mlflow:EXPERIMENT|TABLE.json|FOLDER")
    parser.add_argument("--sweep", metavar="ID", help="another sweep than the newest")
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="keep the results")
    parser.add_argument("--readme", metavar="FILE.md", type=Path, help="rewrite its Results")

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        if args.source.startswith(SCHEME):
            return _experiment(args)
        if Path(args.source).is_file():
            table = read(Path(args.source))
            if not args.json:
                show(table)
            return {**table.as_dict(), "rows": [line.as_dict() for line in table.lines()]}
        if args.readme is None:
            raise ConfigError(["a folder of results needs --readme FILE.md"])
        return _readme(Path(args.source), args.readme, quiet=args.json)

    return console.run(parser, argv, work)


def _experiment(args: argparse.Namespace) -> Mapping[str, Any]:
    catalogue = reader(args.tracking_uri)
    name = catalogue.find_experiment(args.source.removeprefix(SCHEME))
    sweep = args.sweep or catalogue.newest_sweep(name)
    results = Results.from_dict(catalogue.results_of(name, sweep))
    if args.out:
        write_json(args.out, results.as_dict())
    if not args.json:
        out = Console(highlight=False, width=max(120, Console().width))
        out.print(f"sweep {sweep} of {name}, {results.date}, commit {results.commit}")
        out.print(results.table())
        if args.out:
            out.print(f"written to {args.out}")
    return results.as_dict()


def _readme(folder: Path, readme: Path, *, quiet: bool) -> Mapping[str, Any]:
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: no results (*.json) in this folder")
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"{readme}: needs one line {BEGIN!r} and one {END!r}, the results between")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    speeds = [path for path in files if path.name.startswith(SPEED)]
    benchmarks = [path for path in files if path.name.startswith(BENCHMARK)]
    sweeps = [path for path in files if path not in (*speeds, *benchmarks)]
    sections = [_section(path, readme) for path in sweeps]
    if speeds:
        read_whole = [speed_tables.read(path, whole=True) for path in speeds]
        sections.append(speed_tables.markdown(read_whole))
    sections += [_benchmark(path) for path in benchmarks]
    readme.write_text(before + "\n\n".join([BEGIN, *sections, END]) + after)
    if not quiet:
        print(f"{readme}: {len(files)} results")
    return {"readme": str(readme), "results": [path.name for path in files]}


def _section(path: Path, readme: Path) -> str:
    """What one file has to say, as Markdown."""
    try:
        values = json.loads(path.read_text())
        if "table" not in values:
            return Results.from_dict(values).markdown()
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not the results of a sweep ({error}); "
            f"write it with: python -m {MODULE} mlflow:EXPERIMENT --out {path}"
        ) from None
    figure = path.with_suffix(".png")
    seen = os.path.relpath(figure, readme.parent) if figure.exists() else None
    return markdown(read(path), seen)


def _benchmark(path: Path) -> str:
    """Rounds, claims and address of one benchmark, as Markdown."""
    try:
        made = json.loads(path.read_text())
        lines = [
            f"**{made['benchmark']}**",
            "",
            "| claim | measured | target | |",
            "|---|---:|---:|---|",
        ]
        for claim in made["claims"]:
            bound = "at most" if claim["at_most"] else "at least"
            verdict = "holds" if claim["holds"] else "**falls short**"
            target = f"{bound} {claim['target']:.3g}"
            lines.append(f"| {claim['name']} | {claim['value']:.3g} | {target} | {verdict} |")
        lines += [
            "",
            "| | CPU s, median (range) | wall s, median (range) | rounds |",
            "|---|---:|---:|---:|",
        ]
        for row in made["rows"]:
            cpu, wall = (
                f"{row[f'{clock}_median_s']:.3g} "
                f"({row[f'{clock}_min_s']:.3g} to {row[f'{clock}_max_s']:.3g})"
                for clock in ("cpu", "wall")
            )
            lines.append(f"| {row['name']} | {cpu} | {wall} | {len(row['cpu'])} |")
        address = (made["command"], made["commit"], made["machine"], made["date"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not the results of a benchmark ({error}); "
            f"write it with: python -m tests.benchmarks.NAME --out {path}"
        ) from None
    return "\n".join([*lines, "", "`{}` · commit {} · {} · {}".format(*address)])


if __name__ == "__main__":
    sys.exit(main())
