"""Draw a seed table: J&F over a key, scores, their course in training, and boundary errors.

The course and the errors are what Figures 5 and 2 of MobileVOS (arXiv:2303.07815) show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from orchestrator.config import SweepConfig
from orchestrator.config.sections import SweepSection
from orchestrator.planning.trials import trials
from orchestrator.reporting.response_figures import Measured, draw_curve, numbered_key
from orchestrator.reporting.results import BASELINE, COPY, STEM
from orchestrator.reporting.seed_tables import figures_beside
from orchestrator.reporting.seeds import SeedRow, SeedTable
from orchestrator.reporting.split_scores import ErrorCounts
from orchestrator.reporting.sweep_figures import save
from vosmodels.evaluation.boundary_errors import DISTANCES

PANEL, OVER_KEY = (5.0, 3.8), (6.4, 4.0)  # inches

Panel = Callable[[Axes, SeedTable, "Mapping[str, SeedRow]"], None]


def draw(table: SeedTable, results: Path) -> list[Path]:
    """Write the figures of a table beside its file; return those that there are.

    They hold no date, so the same results make the same bytes. Raises ValueError where the table
    has no trial yet.
    """
    panels, over_key = figures_beside(results)
    draw_panels(table, panels)
    return [panels, over_key] if draw_over_key(table, over_key) else [panels]


def draw_panels(table: SeedTable, path: Path) -> None:
    """Write the panels for which there are numbers, side by side. Raises as `draw`."""
    shown = {row.mean.name: row for row in table.rows() if row.mean.role == "trial"}
    if not shown:
        raise ValueError(f"{table.name}: no trial to draw")
    panels: list[Panel] = [_scores]
    if any(row.curve for run in table.runs.values() for row in run.rows):
        panels.append(_course)
    if any(_error_counts(row) for row in shown.values()):
        panels.append(_errors)
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
    for number, panel in enumerate(panels, 1):
        panel(figure.add_subplot(1, len(panels), number), table, shown)
    save(figure, path)


def draw_over_key(table: SeedTable, path: Path) -> bool:
    """Write J&F over the key that the trials number, with its spread over the seeds; tell whether.

    Dashed are the means of the last stem, the teacher and the trials that do not set the key.
    """
    config = SweepConfig.model_validate(table.runs[max(table.runs)].config)
    key, split = _numbered(config.sweep), table.split
    if key is None:
        return False
    values = {trial.name: trial.values[key] for trial in trials(config) if key in trial.values}
    short = key.rpartition(".")[2]
    measured = [
        Measured({short: values[row.name]}, seed, row.scores[split].jf)
        for seed, run in table.runs.items()
        for row in run.rows
        if row.name in values and split in row.scores
    ]
    rows = [row.mean for row in table.rows()]
    stems = [row for row in rows if row.role == BASELINE and row.name.startswith(STEM)]
    others = [r for r in rows if r.role == "teacher"]
    others += [r for r in rows if r.role == "trial" and r.name not in values]
    levels = {r.name: r.scores[split].jf for r in [*stems[-1:], *others] if split in r.scores}
    figure = Figure(figsize=OVER_KEY, layout="constrained")
    seeds = ", ".join(map(str, sorted(table.runs)))
    draw_curve(figure.add_subplot(), measured, short, levels, f"{split} J&F")
    figure.suptitle(
        f"{table.name}: mean and standard deviation of seeds {seeds}", fontsize="medium"
    )
    save(figure, path)
    return True


def _numbered(sweep: SweepSection) -> str | None:
    """Return the only key that the trials set to several numbers; None without such a one."""
    if sweep.points:
        return None if sweep.parameters else numbered_key(sweep.points)
    lists = {key: values for key, values in sweep.parameters.items() if isinstance(values, list)}
    grid = {f"{key}={v}": {key: v} for key, values in lists.items() for v in values}
    return numbered_key(grid) if len(sweep.parameters) == 1 else None


def _scores(axes: Axes, table: SeedTable, shown: Mapping[str, SeedRow]) -> None:
    """Plot J of every seed as a dot, their mean as a line, the copy's as dashes."""
    split = table.split
    for place, (name, trial) in enumerate(shown.items()):
        scores = [
            row.scores[split].j
            for run in table.runs.values()
            for row in run.rows
            if row.name == name and split in row.scores
        ]
        axes.plot(scores, [place] * len(scores), "o", color=_colour(place), alpha=0.7)
        if split in trial.mean.scores:
            mean = trial.mean.scores[split].j
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=_colour(place))
    for row in table.rows():
        if row.mean.name == COPY and split in row.mean.scores:
            j = row.mean.scores[split].j
            axes.axvline(j, color="grey", linestyle="--", linewidth=1)
            axes.text(j, len(shown) - 0.45, f" {COPY}", color="grey", fontsize="small")
    axes.set_yticks(range(len(shown)), list(shown))
    for place, label in enumerate(axes.get_yticklabels()):  # the legend of all panels
        label.set_color(_colour(place))
    axes.set_ylim(len(shown) - 0.3, -0.5)
    axes.set_xlabel(f"{split} J, a dot for each seed")


def _course(axes: Axes, table: SeedTable, shown: Mapping[str, SeedRow]) -> None:
    """Plot select J of every checkpoint over the seconds of its trial.

    Seconds are spread evenly over the steps.
    """
    for place, name in enumerate(shown):
        for run in table.runs.values():
            for row in run.rows:
                if row.name == name and row.curve and row.seconds:
                    last = row.curve[-1][0]
                    seconds = [row.seconds * step / last for step, _ in row.curve]
                    scores = [j for _, j in row.curve]
                    axes.plot(seconds, scores, ".-", color=_colour(place), alpha=0.7)
    axes.set_xlabel("seconds of the trial, after its stem")
    axes.set_ylabel("select J")


def _errors(axes: Axes, table: SeedTable, shown: Mapping[str, SeedRow]) -> None:
    """Draw the shares of wrong pixels within each distance as bars."""
    counts = {name: errors for name, row in shown.items() if (errors := _error_counts(row))}
    width = 0.8 / len(counts)
    for place, (name, errors) in enumerate(counts.items()):
        shares = [errors.within[distance] / max(errors.wrong, 1) for distance in DISTANCES]
        places = [x + (place - (len(counts) - 1) / 2) * width for x in range(len(DISTANCES))]
        axes.bar(places, shares, width, color=_colour(list(shown).index(name)))
    axes.set_xticks(range(len(DISTANCES)), [f"{d} px" for d in DISTANCES])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("distance from the true boundary, at most")
    axes.set_ylabel("share of wrong pixels")


def _error_counts(row: SeedRow) -> ErrorCounts | None:
    report = row.mean.scores.get("report")
    return report.errors if report else None


def _colour(place: int) -> tuple[float, float, float, float]:
    red, green, blue, alpha = colormaps["tab10"](place % 10)
    return red, green, blue, alpha
