"""Figures of a comparison: the score of every seed, its course in training, and where errors lie.

The last two are what the paper's Figures 5 and 2 are about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from orchestrator.reporting.results import COPY
from orchestrator.reporting.seeds import SeedRow, SeedTable
from vosmodels.evaluation.boundary_errors import DISTANCES

PANEL = (5.0, 3.8)  # inches
DPI = 110

Panel = Callable[[Axes, SeedTable, "Mapping[str, SeedRow]"], None]


def draw(comparison: SeedTable, path: Path) -> None:
    """Write the panels that there is anything for, side by side, as PNG. No date is in the file:
    the same results make the same picture. ValueError where there is no trial yet."""
    trials = {line.mean.name: line for line in comparison.lines() if line.mean.role == "trial"}
    if not trials:
        raise ValueError(f"{comparison.name}: no trial to draw")
    panels: list[Panel] = [_scores]
    if any(row.curve for run in comparison.runs.values() for row in run.rows):
        panels.append(_course)
    if any(line.mean.report.get("boundary") for line in trials.values()):
        panels.append(_errors)
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
    for number, panel in enumerate(panels, 1):
        panel(figure.add_subplot(1, len(panels), number), comparison, trials)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _scores(axes: Axes, comparison: SeedTable, trials: Mapping[str, SeedRow]) -> None:
    """A dot for every seed, a line for their mean, dashed what copying the first mask scores."""
    for place, (name, line) in enumerate(trials.items()):
        scores = [
            getattr(row, comparison.split)["j"]
            for run in comparison.runs.values()
            for row in run.rows
            if row.name == name and getattr(row, comparison.split)
        ]
        axes.plot(scores, [place] * len(scores), "o", color=_colour(place), alpha=0.7)
        if mean := getattr(line.mean, comparison.split).get("j"):
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=_colour(place))
    copies = [
        getattr(line.mean, comparison.split).get("j")
        for line in comparison.lines()
        if line.mean.name == COPY
    ]
    for copied in filter(None, copies):
        axes.axvline(copied, color="grey", linestyle="--", linewidth=1)
        axes.text(copied, len(trials) - 0.45, f" {COPY}", color="grey", fontsize="small")
    axes.set_yticks(range(len(trials)), list(trials))
    for place, label in enumerate(axes.get_yticklabels()):  # the legend of all panels
        label.set_color(_colour(place))
    axes.set_ylim(len(trials) - 0.3, -0.5)
    axes.set_xlabel(f"{comparison.split} J, a dot for each seed")


def _course(axes: Axes, comparison: SeedTable, trials: Mapping[str, SeedRow]) -> None:
    """Select J of every checkpoint over its trial's seconds, which are spread evenly over steps."""
    for place, name in enumerate(trials):
        for run in comparison.runs.values():
            for row in run.rows:
                if row.name == name and row.curve and row.seconds:
                    last = row.curve[-1][0]
                    seconds = [row.seconds * step / last for step, _ in row.curve]
                    scores = [j for _, j in row.curve]
                    axes.plot(seconds, scores, ".-", color=_colour(place), alpha=0.7)
    axes.set_xlabel("seconds of the trial, after its stem")
    axes.set_ylabel("select J")


def _errors(axes: Axes, comparison: SeedTable, trials: Mapping[str, SeedRow]) -> None:
    """Bars of wrong pixels within each distance, as shares of all that are wrong."""
    counted = {n: line for n, line in trials.items() if line.mean.report.get("boundary")}
    width = 0.8 / len(counted)
    for place, (name, line) in enumerate(counted.items()):
        counts = line.mean.report["boundary"]
        shares = [counts[str(d)] / max(counts["wrong"], 1) for d in DISTANCES]
        places = [x + (place - (len(counted) - 1) / 2) * width for x in range(len(DISTANCES))]
        colour = _colour(list(trials).index(name))
        axes.bar(places, shares, width, color=colour)
    axes.set_xticks(range(len(DISTANCES)), [f"{d} px" for d in DISTANCES])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("distance from the true boundary, at most")
    axes.set_ylabel("share of wrong pixels")


def _colour(place: int) -> tuple[float, float, float, float]:
    red, green, blue, alpha = colormaps["tab10"](place % 10)
    return red, green, blue, alpha
