"""Draw one sweep: losses of its trials side by side, and J&F against memory and speed.

What Figures 5 and 4 of arXiv:2401.13937 show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.tracking.events import Losses

PANEL = (4.2, 3.2)  # inches
DPI = 110
BESIDE_LOSSES = ("grad_norm", "ignored")  # what the ledger has among the losses
COLUMNS = 3
CAPTION, NARROW = 56, 640  # px above a strip of masks; a narrower strip is enlarged
NAMED = 16  # trials that a legend names at most
MARKERS = {"anchor": "v", "teacher": "^", "trial": "o", "soup": "s"}


@dataclass(frozen=True)
class Cost:
    """The cost of a row of a sweep on video, and its J&F.

    mib: memory for the longest video of `select`, computed; fps: frames a second while `select` was
    scored, None where unknown.
    """

    name: str
    role: str
    jf: float
    mib: float
    fps: float | None


def draw_losses(curves: Mapping[str, Sequence[Losses]], path: Path) -> bool:
    """Write a panel for each loss, in which every trial is a line over its steps; tell whether.

    curves: by trial. Without a value nothing is written. The same events make the same bytes.
    """
    values = [(name, event) for name, events in curves.items() for event in events]
    losses = list(dict.fromkeys(loss for _, event in values for loss in event.values))
    losses = [loss for loss in losses if loss not in BESIDE_LOSSES]
    if not losses:
        return False
    columns = min(COLUMNS, len(losses))
    rows = -(-len(losses) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.6), layout="constrained")
    colours = _colours(len(curves))
    for number, loss in enumerate(losses, 1):
        axes = figure.add_subplot(rows, columns, number)
        for colour, (name, events) in zip(colours, curves.items(), strict=True):
            points = [(event.step, event.values[loss]) for event in events if loss in event.values]
            if points:
                steps, numbers = zip(*points, strict=True)
                axes.plot(steps, numbers, ".-", color=colour, linewidth=1, markersize=3, label=name)
        axes.set_title(loss)
        axes.set_xlabel("step")
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    named = dict(list(lines.items())[:NAMED])
    title = f"and {len(lines) - NAMED} more" if len(lines) > NAMED else None
    figure.legend(
        list(named.values()),
        [str(name) for name in named],
        loc="outside lower center",
        ncols=4,
        fontsize="small",
        title=title,
    )
    save(figure, path)
    return True


def draw_costs(costs: Sequence[Cost], path: Path, *, where: str) -> bool:
    """Write J&F against memory and, where it is known, against frames a second; tell whether.

    where: of the speed, in words. Without a row nothing is written.
    """
    if not costs:
        return False
    timed = [(cost, cost.fps) for cost in costs if cost.fps is not None]
    panels = 2 if timed else 1
    figure = Figure(figsize=(PANEL[0] * panels + 1.5, PANEL[1] + 0.6), layout="constrained")
    colours = dict(
        zip((cost.name for cost in costs), _colours(len(costs)), strict=True)
    )  # by row, in both panels
    axes = figure.add_subplot(1, panels, 1)
    for cost in costs:
        _point(axes, cost, cost.mib, colours[cost.name])
    axes.set_xlabel("MiB for the longest video of select, computed", fontsize="small")
    axes.set_ylabel("select J&F")
    if timed:
        axes = figure.add_subplot(1, panels, 2)
        for cost, fps in timed:
            _point(axes, cost, fps, colours[cost.name])
        axes.set_xlabel(f"frames a second, {where}", fontsize="small")
    lines = figure.axes[0].lines[:NAMED]
    title = f"and {len(costs) - NAMED} more" if len(costs) > NAMED else None
    names = [str(line.get_label()) for line in lines]
    figure.legend(lines, names, loc="outside right upper", fontsize="small", title=title)
    save(figure, path)
    return True


def _point(axes: Axes, cost: Cost, x: float, colour: Any) -> None:
    """Draw a row's point; that of a soup is open, as a soup may equal its best trial."""
    hollow: dict[str, Any] = (
        {"markerfacecolor": "none", "markersize": 10} if cost.role == "soup" else {}
    )
    axes.plot([x], [cost.jf], MARKERS[cost.role], color=colour, label=cost.name, **hollow)
    axes.set_xlim(0, max(1.05 * x, axes.get_xlim()[1]))
    axes.grid(alpha=0.3)


def _colours(count: int) -> list[tuple[float, float, float, float]]:
    """Return a colour for each of so many lines, in order."""
    if count <= 10:
        return [colormaps["tab10"](n) for n in range(count)]
    return [colormaps["viridis"](n / (count - 1)) for n in range(count)]


def draw_masks(picture: Path, path: Path, *, title: str, frames: Sequence[int]) -> None:
    """Write a strip of predicted masks with a caption for each frame, and what the strip shows."""
    with Image.open(picture) as image:
        pixels, width = np.asarray(image.convert("RGB")), max(image.width, NARROW)
        height = round(image.height * width / image.width)
    whole = height + CAPTION
    figure = Figure(figsize=(width / DPI, whole / DPI))
    axes = figure.add_axes((0, 0, 1, height / whole))
    axes.imshow(pixels)
    axes.set_axis_off()
    for number, frame in enumerate(frames):
        x = (number + 0.5) / len(frames)
        figure.text(x, height / whole, f"frame {frame}", ha="center", va="bottom", fontsize="small")
    figure.text(0.01, 1 - 4 / whole, title, va="top", ha="left", fontsize="small")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG without a date, so that equal figures are equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
