"""Fill, read and print the speed tables of MobileVOS (arXiv:2303.07815).

Table 4 times short and long videos, Figure 4 lengths of the memory, by the model in torch or by its
exported graphs. A table is a plain mapping, the same in memory and in its file: the model, device
and command, the `cells`, and `runs`. A run is a cell (frames, objects and, but for `durations`, the
queue) with its figures. In torch every cell is run three times, in three rounds over all cells, so
that a slow spell of the machine affects all cells alike; graphs, one export a cell, run once.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_json
from vosmodels.support.grid import Grid

if TYPE_CHECKING:
    from vosmodels.evaluation.speed.timing import Speed

logger = logging.getLogger(__name__)

Table = Mapping[str, Any]
Cell = Mapping[str, Any]
SHORT, LONG = 50, 500  # Table 4: random videos of so many frames
RUNS = {"durations": 3, "queues": 3, "graphs": 1}  # of a cell
OBJECTS = (1, 2, 3, 4, 5)
LENGTHS = (1, 2, 5, 10, 20)  # of Figure 4
GRAPH_FRAMES = 100  # as many as Figure 4's averages are over
PRECISIONS = ("fp32", "bf16")
FIGURES = ("median_ms", "p95_ms", "fps")
PEAK = "peak_mib"  # a further figure of graphs
TITLES = {
    "durations": "Short and long videos",
    "queues": "Lengths of the memory",
    "graphs": "Exported graphs, by memory and objects,",
}
QUEUES_INTRO = "Milliseconds a frame, median (p95), by how many frames are remembered:"
GRAPHS_INTRO = QUEUES_INTRO.replace(", by", ", and MiB above the loaded graphs, by")
ADDRESS = ("command", "date")  # entries that may differ when a table is continued


def duration_cells(objects: Sequence[int]) -> list[Cell]:
    """List the cells of Table 4: a short and a long video for each number of objects."""
    return [{"objects": k, "frames": n} for k in objects for n in (SHORT, LONG)]


def queue_cells(objects: int, frames: int) -> list[Cell]:
    """List the cells of Figure 4: queues of 1 to 20 frames and a memory of all.

    A queue is full when the timing starts.
    """
    return [{"queue": q, "objects": objects, "frames": frames} for q in (*LENGTHS, "all")]


def graph_cells(objects: Sequence[int], frames: int) -> list[Cell]:
    """List the cells of exported graphs: queues of Figure 4 for each number of objects."""
    return [{"queue": q, "objects": k, "frames": frames} for k in objects for q in LENGTHS]


def fill(head: Table, run: Callable[..., Speed], out: Path | None = None) -> Table:
    """Run the missing runs of a table and return `head` with all `runs`.

    head: the table without `runs`. out: a file whose runs are taken over and that every new run is
    written to as soon as the run is done. Raises InputError if `out` holds another table.
    """
    table = {**head, "runs": _begun(head, out)}
    schedule = [cell for _ in range(RUNS[head["table"]]) for cell in head["cells"]]
    figures = (*FIGURES, PEAK) if head["table"] == "graphs" else FIGURES
    began, timed = time.monotonic(), 0.0
    for number, cell in enumerate(schedule):
        if number < len(table["runs"]):
            continue
        speed = run(**cell)
        timed += cell["frames"] / speed.fps
        # What a run takes besides its timed frames: an export, first frames, another process.
        whole = max(1.0, (time.monotonic() - began) / timed)
        table["runs"].append({**cell, **{figure: getattr(speed, figure) for figure in figures}})
        if out is not None:
            write_json(out, table)
        logger.info(
            "%s: %.1f frames a second; %d of %d runs, about %.0f min left",
            ", ".join(f"{name} {value}" for name, value in cell.items()),
            speed.fps,
            number + 1,
            len(schedule),
            whole * _seconds_left(table["runs"], schedule) / 60,
        )
    return table


def _begun(head: Table, out: Path | None) -> list[dict[str, Any]]:
    if out is None or not out.exists():
        return []
    earlier = read(out)
    for name, value in head.items():
        if name not in ADDRESS and earlier.get(name) != value:
            raise InputError(
                f"{out}: holds runs with {name} {earlier.get(name)}, not {value}; "
                "move that file away, or give another --out"
            )
    return list(earlier["runs"])


def _seconds_left(runs: Sequence[Mapping[str, Any]], schedule: Sequence[Cell]) -> float:
    """Estimate the seconds of frames left, from a cell's first fps or else the latest run's."""
    seconds = 0.0
    for cell in schedule[len(runs) :]:
        before = [run["fps"] for run in runs if cell.items() <= run.items()]
        seconds += cell["frames"] / (before or [runs[-1]["fps"]])[0]
    return seconds


def read(path: Path, *, whole: bool = False) -> Table:
    """Read a table from its file.

    Raises InputError if the file is not such a table or, with `whole`, lacks runs.
    """
    try:
        table: Table = json.loads(path.read_text())
        done, total = len(table["runs"]), RUNS[table["table"]] * len(table["cells"])
        command = table["command"]
        for run in table["runs"]:
            _ = {figure: float(run[figure]) for figure in FIGURES}
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{path}: holds something else than a table of speed, and is left as it is; give "
            "another --out"
        ) from None
    # As earlier versions wrote it; the name of the device must be that of a table to be continued.
    table = {**table, "device": re.sub(r"\b1 threads$", "1 thread", str(table.get("device")))}
    if whole and done < total:
        raise InputError(f"{path}: {done} of {total} runs; go on with: {command}")
    return table


def rows(table: Table) -> list[dict[str, Any]]:
    """Sum up each cell that has run: mean fps, fps per run, medians of other figures."""
    lines = []
    for cell in table["cells"]:
        runs = [run for run in table["runs"] if cell.items() <= run.items()]
        if runs:
            values = {
                name: [run[name] for run in runs] for name in (*FIGURES, PEAK) if name in runs[0]
            }
            middle = {name: median(values[name]) for name in values if name != "fps"}
            lines.append({**cell, **middle, "fps": fmean(values["fps"]), "fps_runs": values["fps"]})
    return lines


def title(table: Table) -> str:
    """Return the table's title: the kind of table, the frame size and the device."""
    size, device = table["size"], table["device"]
    return f"{TITLES[table['table']]} of {size} on {device}"


def model(table: Table) -> str:
    """Return the model's name, with its precision and CUDA graph if not the default."""
    graph = ["graph"] if table["graph"] else []
    half = [] if table["precision"] == "fp32" else [table["precision"]]
    return ", ".join([table["model"], *half, *graph])


def markdown(tables: Sequence[Table]) -> str:
    """Render tables as markdown, grouped by kind, size and device.

    Below each group stand the command, commit, machine and date of its tables.
    """
    groups: dict[str, list[Table]] = {}
    for table in tables:
        groups.setdefault(title(table), []).append(table)
    sections = []
    for name, group in groups.items():
        addresses = [
            "`{command}` · commit {commit} · {machine} · {date}".format(**table) for table in group
        ]
        sections.append(f"**{name}**")
        if group[0]["table"] == "durations":
            sections.append(_durations(group).markdown())
        elif group[0]["table"] == "graphs":
            sections += [GRAPHS_INTRO, _graphs(group).markdown()]
        else:
            sections += [QUEUES_INTRO, _queues(group).markdown()]
        sections += addresses
    return "\n\n".join(sections)


def grid(table: Table) -> Grid:
    """Lay out the figures of one table's cells, as its command prints them."""
    cells = rows(table)
    varied = [key for key in ("queue", "objects", "frames") if key in cells[0]]
    figures = [figure for figure in (*FIGURES, PEAK) if figure in cells[0]]
    return Grid(
        [*varied, *figures],
        [[str(c[key]) for key in varied] + [f"{c[key]:.1f}" for key in figures] for c in cells],
        title=f"{model(table)}: {table['parameters'] / 1e6:.1f} M parameters. {title(table)}",
        left=(),
    )


def _durations(tables: Sequence[Table]) -> Grid:
    """Lay out models and numbers of objects, the short video beside the long one."""
    figures = ("FPS (runs)", "ms, median", "p95")
    head = [f"{SHORT} frames: {figures[0]}", *figures[1:]]
    head += [f"{LONG} frames: {figures[0]}", *figures[1:]]
    lines = []
    for table in tables:
        cells = rows(table)
        for short, long in zip(cells[::2], cells[1::2], strict=True):
            line = [model(table), f"{table['parameters'] / 1e6:.1f}", str(short["objects"])]
            for cell in (short, long):
                low, high = min(cell["fps_runs"]), max(cell["fps_runs"])
                line.append(f"{cell['fps']:.3g} ({low:.3g} to {high:.3g})")
                line += [_ms(cell["median_ms"]), _ms(cell["p95_ms"])]
            lines.append(line)
    return Grid(["model", "M", "objects", *head], lines)


def _queues(tables: Sequence[Table]) -> Grid:
    """Lay out models by the number of frames that are remembered."""
    queues = [str(cell["queue"]) for cell in tables[0]["cells"]]
    lines = [
        [model(table), *(f"{_ms(c['median_ms'])} ({_ms(c['p95_ms'])})" for c in rows(table))]
        for table in tables
    ]
    return Grid(["model", *queues], lines)


def _graphs(tables: Sequence[Table]) -> Grid:
    """Lay out models and numbers of objects, by the number of frames that are remembered."""
    lines = []
    for table in tables:
        cells = rows(table)
        for objects in dict.fromkeys(cell["objects"] for cell in cells):
            line = [
                f"{_ms(c['median_ms'])} ({_ms(c['p95_ms'])}), {c[PEAK]:.0f}"
                for c in cells
                if c["objects"] == objects
            ]
            lines.append([model(table), str(objects), *line])
    return Grid(["model", "objects", *map(str, LENGTHS)], lines)


def _ms(value: float) -> str:
    """Write milliseconds with three digits, or whole from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
