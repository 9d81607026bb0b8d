"""Rewrite the Results of a README from committed result files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.reporting import benchmarks, tradeoff
from orchestrator.reporting.results import Results
from orchestrator.reporting.seed_tables import figures_beside, markdown, sweep_markdown
from orchestrator.reporting.seeds import SeedTable
from vosmodels.errors import InputError
from vosmodels.evaluation.speed import tables

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
SPEED = "speed-"  # prefix of files by vosmodels.evaluation.speed
BENCHMARK = "benchmark-"  # prefix of files by tests/benchmarks
TRADEOFF = "tradeoff-"  # prefix of files by orchestrator.tradeoff
WORTH = "worth-"  # prefix of files by soups.worth; all other files hold sweeps


def rewrite(folder: Path, readme: Path) -> Mapping[str, Any]:
    """Rewrite a README between BEGIN and END with the results in a folder.

    Sweeps come first, then soups, speed, tradeoffs, benchmarks, each by file name. Returns the
    README's path and the names of the files. Raises InputError where the folder has no results, a
    file holds something else, or the README lacks the marks; then the README is left as it was.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: no results (*.json) in this folder")
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"{readme}: needs one line {BEGIN!r} and below it one {END!r}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    speeds = [path for path in files if path.name.startswith(SPEED)]
    benchmark_files = [path for path in files if path.name.startswith(BENCHMARK)]
    tradeoffs = [path for path in files if path.name.startswith(TRADEOFF)]
    soups = [path for path in files if path.name.startswith(WORTH)]
    others = {*speeds, *benchmark_files, *tradeoffs, *soups}
    sections = [_section(path, readme) for path in files if path not in others]
    sections += [_soups(path, readme) for path in soups]
    if speeds:
        sections.append(tables.markdown([tables.read(path, whole=True) for path in speeds]))
    sections += [tradeoff.markdown(path, readme) for path in tradeoffs]
    sections += [benchmarks.markdown(path) for path in benchmark_files]
    readme.write_text(before + "\n\n".join([BEGIN, *sections, END]) + after)
    return {"readme": str(readme), "results": [path.name for path in files]}


def _section(path: Path, readme: Path) -> str:
    """Return the Markdown of a sweep, or of a seed table with its figure."""
    try:
        values = json.loads(path.read_text())
        if "table" not in values:
            return sweep_markdown(Results.from_dict(values))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not the results of a sweep ({error}); "
            f"write it with: python -m orchestrator.report mlflow:EXPERIMENT --out {path}"
        ) from None
    figures = [os.path.relpath(f, readme.parent) for f in figures_beside(path) if f.exists()]
    return markdown(SeedTable.read(path), figures)


def _soups(path: Path, readme: Path) -> str:
    """Return what soups.worth wrote beside its JSON, with the figure of a single soup."""
    words = path.with_suffix(".md")
    if not words.is_file():
        raise InputError(
            f"{path}: {words.name} is not beside it; write both with: python -m soups.worth REF "
            f"--out {path}"
        )
    parts = [f"**{path.stem}**", words.read_text().strip()]
    if (figure := path.with_suffix(".png")).exists():
        parts.append(f"![{path.stem}]({os.path.relpath(figure, readme.parent)})")
    return "\n\n".join(parts)
