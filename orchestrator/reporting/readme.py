"""Rewrite the Results of a README from committed result files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.reporting.results import Results
from orchestrator.reporting.seed_tables import markdown
from orchestrator.reporting.seeds import read
from vosmodels.errors import InputError
from vosmodels.evaluation.speed import tables

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
SPEED = "speed-"  # how the files of vosmodels.evaluation.speed begin
BENCHMARK = "benchmark-"  # and those of tests/benchmarks; the others are sweeps


def rewrite(folder: Path, readme: Path) -> Mapping[str, Any]:
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
        read_whole = [tables.read(path, whole=True) for path in speeds]
        sections.append(tables.markdown(read_whole))
    sections += [_benchmark(path) for path in benchmarks]
    readme.write_text(before + "\n\n".join([BEGIN, *sections, END]) + after)
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
            f"write it with: python -m orchestrator.report mlflow:EXPERIMENT --out {path}"
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
