"""Render the report of one of tests/benchmarks as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vosmodels.errors import InputError
from vosmodels.support.grid import Grid


def markdown(path: Path) -> str:
    """Return claims, rounds and provenance of a benchmark's JSON file.

    Raises InputError where the file holds something else.
    """
    try:
        report = json.loads(path.read_text())
        address = "`{command}` · commit {commit} · {machine} · {date}".format(**report)
        return "\n\n".join([_claims(report).markdown(), _rounds(report).markdown(), address])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not the results of a benchmark ({error}); "
            f"write it with: python -m tests.benchmarks.NAME --out {path}"
        ) from None


def _claims(report: Mapping[str, Any]) -> Grid:
    rows = []
    for claim in report["claims"]:
        bound = "at most" if claim["at_most"] else "at least"
        verdict = "holds" if claim["holds"] else "**falls short**"
        target = f"{bound} {claim['target']:.3g}"
        rows.append([claim["name"], f"{claim['value']:.3g}", target, verdict])
    return Grid(["claim", "measured", "target", ""], rows, report["benchmark"], left=(0, 3))


def _rounds(report: Mapping[str, Any]) -> Grid:
    """Lay out the median and the range of each candidate's seconds, by both clocks."""
    rows = []
    for row in report["rows"]:
        cpu, wall = (
            f"{row[f'{clock}_median_s']:.3g} "
            f"({row[f'{clock}_min_s']:.3g} to {row[f'{clock}_max_s']:.3g})"
            for clock in ("cpu", "wall")
        )
        rows.append([row["name"], cpu, wall, str(len(row["cpu"]))])
    return Grid(["", "CPU s, median (range)", "wall s, median (range)", "rounds"], rows)
