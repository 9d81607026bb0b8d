"""Keep and print the J&F of a student's exports beside their milliseconds.

A tradeoff is a plain mapping, the same in memory and in its file: what was exported, scored and
timed, and `rows`, the fields of `execution.export_rows.ExportRow`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vosmodels.errors import InputError
from vosmodels.support.grid import Grid

Tradeoff = Mapping[str, Any]
HEAD = ("model", "sha256", "data", "split", "size", "objects", "frames", "threads", "runtime")


def read(path: Path) -> Tradeoff:
    """Read a tradeoff from its file. Raises InputError where it holds something else."""
    try:
        values: Tradeoff = json.loads(path.read_text())
        for row in values["rows"]:
            _ = float(row["jf"]), float(row["median_ms"]), row["memory"], row["precision"]
        _ = [values[name] for name in (*HEAD, "command", "commit", "machine", "date")]
        return values
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: holds something else than a tradeoff ({error}), and is left as it is; "
            "write one with: python -m orchestrator.tradeoff"
        ) from None


def check_same(path: Path, head: Tradeoff) -> None:
    """Raise InputError where the tradeoff at `path` is of another student, data or setting."""
    earlier = read(path)
    for name in HEAD:
        if earlier[name] != head[name]:
            raise InputError(
                f"{path}: holds rows with {name} {earlier[name]}, not {head[name]}; "
                "give another --out"
            )


def grid(values: Tradeoff) -> Grid:
    """Lay out the rows: what each export has and costs."""
    rows = [
        [
            row["memory"],
            row["precision"],
            str(row["frames"]),
            f"{row['bytes'] / 2**20:.1f}",
            *(f"{row[score]:.3f}" for score in ("j", "f", "jf")),
            f"{row['median_ms']:.0f}",
            f"{row['p95_ms']:.0f}",
            f"{row['peak_mib']:.0f}",
        ]
        for row in values["rows"]
    ]
    head = ["memory", "weights", "frames", "MiB", "J", "F", "J&F", "ms, median", "p95", "MiB, peak"]
    return Grid(head, rows, title=title(values), left=(0, 1))


def title(values: Tradeoff) -> str:
    """Say what was measured."""
    videos = len(values["rows"][0]["videos"]) if values["rows"] else 0
    return (
        f"{values['model']}: exports of {values['size']}, {values['objects']} objects, in "
        f"{values['runtime']}; J&F of {videos} videos of {values['split']} at full size; "
        f"ms on {threads(values)}"
    )


def threads(values: Tradeoff) -> str:
    """Say on how many threads the exports were timed."""
    return f"{values['threads']} thread{'s' * (values['threads'] > 1)}"


def markdown(path: Path, readme: Path) -> str:
    """Render a tradeoff's file, with the figure beside it, for a README."""
    values = read(path)
    address = "`{command}` · commit {commit} · {machine} · {date}".format(**values)
    parts = [grid(values).markdown()]
    figure = path.with_suffix(".png")
    if figure.exists():
        parts.append(f"![{path.stem}]({os.path.relpath(figure, readme.parent)})")
    return "\n\n".join([*parts, address])
