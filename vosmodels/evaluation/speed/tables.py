"""Tables of speed: MobileVOS, arXiv:2303.07815, Table 4 and the latencies of Figure 4.

A table is a plain mapping, as it stands in its file: what was timed, where and by which command,
and `runs`, each a cell (frames, objects, and in `queues` the queue) with its figures. Every cell is
run three times, all cells once before any a second time, so that a slow spell meets them all.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_json

if TYPE_CHECKING:
    from vosmodels.evaluation.speed.timing import Speed

logger = logging.getLogger(__name__)

Table = Mapping[str, Any]
Cell = Mapping[str, Any]
SHORT, LONG, RUNS = 50, 500, 3  # Table 4: random videos of 50 and 500 frames
OBJECTS = (1, 2, 3, 4, 5)
QUEUES: tuple[int | str, ...] = (1, 2, 5, 10, 20, "all")
PRECISIONS = ("fp32", "bf16")
FIGURES = ("median_ms", "p95_ms", "fps")
TITLES = {"durations": "Short and long videos", "queues": "Lengths of the memory"}
ADDRESS = ("command", "date")  # what may differ where a table is continued


def duration_cells(objects: Sequence[int]) -> list[Cell]:
    """A short and a long video for each number of objects."""
    return [{"objects": k, "frames": n} for k in objects for n in (SHORT, LONG)]


def queue_cells(objects: int, frames: int) -> list[Cell]:
    """Queues of 1 to 20 frames, full when the clock starts, and every frame remembered."""
    return [{"queue": queue, "objects": objects, "frames": frames} for queue in QUEUES]


def fill(head: Table, run: Callable[..., Speed], out: Path | None = None) -> Table:
    """`head`, which has the table's `cells`, with `runs`: those in `out`, and the missing ones.

    Each is in `out` as soon as it is done. Raises InputError where `out` holds another table.
    """
    made = {**head, "runs": _begun(head, out)}
    schedule = [cell for _ in range(RUNS) for cell in head["cells"]]
    for number, cell in enumerate(schedule):
        if number < len(made["runs"]):
            continue
        speed = run(**cell)
        made["runs"].append({**cell, **{figure: getattr(speed, figure) for figure in FIGURES}})
        if out is not None:
            write_json(out, made)
        logger.info(
            "%s: %.1f frames a second; %d of %d runs, about %.0f min left",
            ", ".join(f"{name} {value}" for name, value in cell.items()),
            speed.fps,
            number + 1,
            len(schedule),
            _seconds_left(made["runs"], schedule) / 60,
        )
    return made


def _begun(head: Table, out: Path | None) -> list[dict[str, Any]]:
    if out is None or not out.exists():
        return []
    known = read(out)
    for name, value in head.items():
        if name not in ADDRESS and known.get(name) != value:
            raise InputError(
                f"{out}: holds runs with {name} {known.get(name)}, not {value}; "
                "move that file away, or give another --out"
            )
    return list(known["runs"])


def _seconds_left(runs: Sequence[Mapping[str, Any]], schedule: Sequence[Cell]) -> float:
    """As long as each cell took before; one that is new, a frame as long as the latest."""
    left = 0.0
    for cell in schedule[len(runs) :]:
        before = [run["fps"] for run in runs if cell.items() <= run.items()]
        left += cell["frames"] / (before or [runs[-1]["fps"]])[0]
    return left


def read(path: Path, *, whole: bool = False) -> Table:
    """A table from its file; whole: with all its runs. Raises InputError."""
    try:
        table: Table = json.loads(path.read_text())
        done, wanted = len(table["runs"]), RUNS * len(table["cells"])
        command = table["command"]
        TITLES[table["table"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path}: not a table of speed ({type(error).__name__}: {error}); write it with: "
            f"python -m vosmodels.evaluation.speed --model NAME --durations --out {path}"
        ) from None
    if whole and done < wanted:
        raise InputError(f"{path}: {done} of {wanted} runs; go on with: {command}")
    return table


def rows(table: Table) -> list[dict[str, Any]]:
    """Of each cell that has run: the mean fps with those of its runs, the medians of the rest."""
    found = []
    for cell in table["cells"]:
        runs = [run for run in table["runs"] if cell.items() <= run.items()]
        if runs:
            values = {name: [run[name] for run in runs] for name in FIGURES}
            middle = {name: median(values[name]) for name in ("median_ms", "p95_ms")}
            found.append({**cell, **middle, "fps": fmean(values["fps"]), "fps_runs": values["fps"]})
    return found


def title(table: Table) -> str:
    """What was timed, on what."""
    size, device = table["size"], table["device"]
    return f"{TITLES[table['table']]} of {size} on {device}"


def model(table: Table) -> str:
    """Which model, and how it was run where that is not the plain way."""
    graph = ["graph"] if table["graph"] else []
    half = [] if table["precision"] == "fp32" else [table["precision"]]
    return ", ".join([table["model"], *half, *graph])


def markdown(tables: Sequence[Table]) -> str:
    """For the README: those of one kind, size and device under each other; below, the addresses."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        groups.setdefault(title(table), []).append(table)
    sections = []
    for name, group in groups.items():
        lines = (_durations if group[0]["table"] == "durations" else _queues)(group)
        addresses = [
            "`{command}` · commit {commit} · {machine} · {date}".format(**table) for table in group
        ]
        sections += [f"**{name}**", "\n".join(lines), *addresses]
    return "\n\n".join(sections)


def _durations(tables: Sequence[Table]) -> list[str]:
    of_one = "FPS (runs) | ms, median | p95"
    lines = [
        f"| model | M | objects | {SHORT} frames: {of_one} | {LONG} frames: {of_one} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for table in tables:
        found = rows(table)
        for short, long in zip(found[::2], found[1::2], strict=True):
            cells = [model(table), f"{table['parameters'] / 1e6:.1f}", str(short["objects"])]
            for row in (short, long):
                low, high = min(row["fps_runs"]), max(row["fps_runs"])
                cells.append(f"{row['fps']:.3g} ({low:.3g} to {high:.3g})")
                cells += [f"{row['median_ms']:.0f}", f"{row['p95_ms']:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _queues(tables: Sequence[Table]) -> list[str]:
    queues = [cell["queue"] for cell in tables[0]["cells"]]
    lines = [
        "Milliseconds a frame, median (p95), by how many frames are remembered:",
        "",
        f"| model | {' | '.join(map(str, queues))} |",
        "|---" + "|---:" * len(queues) + "|",
    ]
    for table in tables:
        cells = [f"{row['median_ms']:.0f} ({row['p95_ms']:.0f})" for row in rows(table)]
        lines.append(f"| {model(table)} | {' | '.join(cells)} |")
    return lines
