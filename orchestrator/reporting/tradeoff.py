"""Keep, print and draw the J&F of a student's exports against their milliseconds.

A tradeoff is a plain mapping, the same in memory and in its file: what was exported, scored and
timed, and `rows`, the fields of `execution.export_rows.ExportRow`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from orchestrator.reporting.sweep_figures import save
from vosmodels.errors import InputError
from vosmodels.support.grid import Grid

Tradeoff = Mapping[str, Any]
HEAD = ("model", "sha256", "data", "split", "size", "objects", "frames", "threads", "runtime")
# (what, ms a frame, J&F in %): MobileVOS without ASPP, arXiv:2303.07815, abstract and Table 1, a
# queue of two; EdgeTAM, arXiv:2501.07256, 15.7 frames a second.
PUBLISHED = (
    ("MobileVOS MobileNetV2, Galaxy S22, DAVIS-2016 val", 32.0, 90.1),
    ("EdgeTAM, iPhone 15 Pro Max, DAVIS-2017 val", 1000 / 15.7, 87.7),
)


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
        f"ms on {_threads(values)}"
    )


def _threads(values: Tradeoff) -> str:
    return f"{values['threads']} thread{'s' * (values['threads'] > 1)}"


def markdown(path: Path, readme: Path) -> str:
    """Render a tradeoff's file, with the figure beside it, for a README."""
    values = read(path)
    address = "`{command}` · commit {commit} · {machine} · {date}".format(**values)
    parts = [f"**{title(values)}**", grid(values).markdown()]
    figure = path.with_suffix(".png")
    if figure.exists():
        parts.append(f"![{path.stem}]({os.path.relpath(figure, readme.parent)})")
    return "\n\n".join([*parts, address])


def draw(values: Tradeoff, path: Path) -> None:
    """Draw J&F against milliseconds; published points of other machines and videos are grey."""
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.add_subplot()
    whole = [row for row in values["rows"] if row["precision"] == "fp32"]
    whole.sort(key=lambda row: row["median_ms"])
    axes.plot(
        [row["median_ms"] for row in whole],
        [100 * row["jf"] for row in whole],
        "o-",
        label=f"{values['model']}, by memory: {values['machine']}",
    )
    for row in whole:
        place = (row["median_ms"], 100 * row["jf"])
        axes.annotate(
            row["memory"], place, (0, -8), textcoords="offset points", fontsize="small",
            rotation=-50, ha="left", va="top", rotation_mode="anchor",
        )  # fmt: skip
    for marker, row in zip(
        "sD^v", (r for r in values["rows"] if r["precision"] != "fp32"), strict=False
    ):
        label = f"{row['precision']} weights, {row['memory']}"
        axes.plot(
            [row["median_ms"]], [100 * row["jf"]], marker, label=label, markerfacecolor="none"
        )
    for marker, (name, ms, jf) in zip("*P", PUBLISHED, strict=True):
        axes.plot([ms], [jf], marker, color="0.5", markersize=10, label=f"published: {name}")
    axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
    axes.set_xlabel(f"ms a frame; ours {values['size']}, {_threads(values)} of a CPU")
    axes.set_ylabel("J&F in %; ours on " + values["split"])
    axes.set_title(
        "Published points are of other machines and other videos: no comparison", fontsize="small"
    )
    axes.grid(alpha=0.3)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.25 * (high - low), high)  # for the names of memories
    figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    save(figure, path)
