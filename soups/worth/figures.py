"""Draw how a soup came about: what was tried, where it came from, and the line to the stem."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.reporting.sweep_figures import PANEL, save
from soups.records import SoupRecord
from soups.worth.comparison import Comparison
from soups.worth.entrants import runs_of

TAKEN, LEFT = "tab:blue", "lightgrey"


def draw(record: SoupRecord, comparisons: Sequence[Comparison], path: Path) -> None:
    """Write a panel each for the tries, the origin of the pool, and the line from stem to best.

    The origin needs runs in the ledger, and the line the stem; without them their panel is left
    out. The same record makes the same bytes.
    """
    places = origin(record)
    line = {c.split: points for c in comparisons if len(points := on_the_line(c)) > 2}
    panels = 1 + bool(places) + bool(line)
    figure = Figure(figsize=(PANEL[0] * panels, PANEL[1]), layout="constrained")
    _draw_tries(figure.add_subplot(1, panels, 1), record)
    if places:
        _draw_origin(figure.add_subplot(1, panels, 2), places)
    if line:
        axes = figure.add_subplot(1, panels, panels)
        for split, points in line.items():
            axes.plot(*zip(*points, strict=True), "o-", label=split)
        axes.set_xlabel("from the stem (0) to the best single (1)")
        axes.set_ylabel("J&F")
        _legend(axes)
    save(figure, path)


def origin(record: SoupRecord) -> list[tuple[str, int, bool]]:
    """Return run, step and whether it was taken, of each checkpoint of the pool with a run."""
    runs = runs_of(record.storage)
    taken = {member.sha256 for member in record.members}
    return [
        (run.name, event.step, event.sha256 in taken)
        for member in dict.fromkeys(record.pool)
        if (run := runs.get(member.sha256))
        for event in run.checkpoints
        if event.sha256 == member.sha256
    ]


def on_the_line(comparison: Comparison) -> list[tuple[float, float]]:
    """Return (alpha, J&F) of the rows on the line from the stem to the best, in order."""
    return sorted((line.alpha, line.jf) for line in comparison.lines if line.alpha is not None)


def searches(record: SoupRecord) -> list[list[tuple[int, float]]]:
    """Return number of the try and score of the soup from there, of each search to its last try.

    The searches of bags follow each other; each has scores of its own draw of videos.
    """
    found = []
    tries = enumerate(record.souped.decisions, 1)
    for _, search in groupby(tries, key=lambda each: each[1].get("bag")):
        own = list(search)
        points = [(n, float(turn["score_with"])) for n, turn in own if turn["accepted"]]
        found.append([*points, (own[-1][0], points[-1][1])])
    return found


def _draw_tries(axes: Axes, record: SoupRecord) -> None:
    """Plot the score with each checkpoint that was tried, or what it could be at most."""
    tries = list(enumerate(record.souped.decisions, 1))
    taken = [(n, turn["score_with"]) for n, turn in tries if turn["accepted"]]
    for number, points in enumerate(searches(record)):
        label = None if number else "soup so far"
        axes.step(*zip(*points, strict=True), where="post", color=TAKEN, label=label)
    left = [(n, turn) for n, turn in tries if not turn["accepted"]]
    refused = [(n, turn["score_with"]) for n, turn in left if turn["score_with"] is not None]
    bounds = [(n, turn["at_most"]) for n, turn in left if turn["score_with"] is None]
    for label, mark, colour, points in (
        ("taken", "o", TAKEN, taken),
        ("refused", "o", LEFT, refused),
        ("refused, at most", "v", LEFT, bounds),
    ):
        if points:
            axes.plot(*zip(*points, strict=True), mark, color=colour, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("checkpoints tried")
    axes.set_ylabel("select J&F with it")
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Put the legend above the panel, where it covers no point."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def _draw_origin(axes: Axes, places: Sequence[tuple[str, int, bool]]) -> None:
    names = sorted({name for name, _, _ in places})
    for label, colour, taken in (("left out", LEFT, False), ("in the soup", TAKEN, True)):
        points = [(step, names.index(name)) for name, step, took in places if took is taken]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=colour, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("step")
    _legend(axes)
