"""Draw what the swept keys do to J&F: a curve for each key, a surface, parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orchestrator.planning.trials import text_of
from orchestrator.reporting.best import short
from orchestrator.reporting.sweep_figures import COLUMNS, PANEL, save

TICKS = 8  # values of a key that an axis names
WIDE = 50.0  # positive values whose largest is so many times the smallest stand on a log axis
LETTERS = 24  # of a value beside an axis
FEW = 3  # keys from which on parallel coordinates are drawn


@dataclass(frozen=True)
class Measured:
    """A trial: the values of the keys that vary, the number of its repeat, its select J&F."""

    values: Mapping[str, Any]
    repeat: int
    jf: float


def draw_response(
    trials: Sequence[Measured], path: Path, *, title: str, levels: Mapping[str, float]
) -> bool:
    """Write J&F over every key that varies, and a surface where two are numbers; tell whether.

    A point of a curve is the mean over the other keys, its bar the standard deviation over the
    repeats; a star marks the best. levels: J&F of rows to compare with, drawn as dashed lines.
    """
    keys = keys_of(trials)
    if not keys:
        return False
    numeric = [key for key in keys if _numeric(trials, key)]
    panels = len(keys) + (len(numeric) == 2)
    columns = min(COLUMNS, panels)
    rows = -(-panels // columns)
    size = (max(PANEL[0] * columns, 6.0), PANEL[1] * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    for number, key in enumerate(keys, 1):
        draw_curve(figure.add_subplot(rows, columns, number), trials, key, levels)
    if len(numeric) == 2:
        _surface(figure, figure.add_subplot(rows, columns, panels), trials, numeric)
    figure.suptitle(title, wrap=True)
    save(figure, path)
    return True


def draw_parallel(trials: Sequence[Measured], path: Path, *, title: str) -> bool:
    """Write a line a place through an axis for each key and J&F; tell whether: from FEW keys on.

    The better a place, the brighter its line; the best one is thick.
    """
    keys = keys_of(trials)
    if len(keys) < FEW:
        return False
    figure = Figure(figsize=(2.2 * (len(keys) + 1), PANEL[1] + 1), layout="constrained")
    axes = figure.add_subplot()
    scores = _mean_by([*keys], trials)
    low, high = min(scores.values()), max(scores.values())
    placed = {key: _heights(trials, key) for key in keys}
    for place, jf in sorted(scores.items(), key=lambda item: item[1]):
        share = (jf - low) / (high - low) if high > low else 0.5
        heights = [placed[key][value] for key, value in zip(keys, place, strict=True)]
        width = 3.0 if jf == high else 1.2
        colour = colormaps["viridis"](share)
        axes.plot(range(len(keys) + 1), [*heights, share], color=colour, linewidth=width)
    for x, key in enumerate(keys):
        axes.axvline(x, color="grey", linewidth=0.8)
        for value, height in _thinned(list(placed[key].items())):
            axes.text(x, height, f" {_label(value)}", fontsize="small", va="center")
    for jf, height in ((low, 0.0), (high, 1.0)):
        axes.text(len(keys), height, f" {short(jf)}", fontsize="small", va="center")
    axes.axvline(len(keys), color="grey", linewidth=0.8)
    axes.set_xticks(range(len(keys) + 1), [*keys, "select J&F"])
    axes.set_xlim(-0.1, len(keys) + 0.4)
    axes.set_yticks([])
    figure.suptitle(title, wrap=True)
    save(figure, path)
    return True


def numbered_key(points: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the one key that points of a sweep set to several numbers, such as loss.omega.

    points: name -> {dotted key: value}. None where there is no such key, or several.
    """
    values: dict[str, set[float]] = {}
    for changes in points.values():
        for key, value in changes.items():
            if _all_numbers([value]):
                values.setdefault(key, set()).add(value)
    several = [key for key, found in values.items() if len(found) > 1]
    return several[0] if len(several) == 1 else None


def keys_of(trials: Sequence[Measured]) -> list[str]:
    """List the keys of which there are several values, in the order of the file."""
    keys = dict.fromkeys(key for trial in trials for key in trial.values)
    return [key for key in keys if len(_values(trials, key)) > 1]


def draw_curve(
    axes: Axes,
    trials: Sequence[Measured],
    key: str,
    levels: Mapping[str, float],
    label: str = "select J&F",
) -> None:
    """Draw J&F over one key, as `draw_response` does, a thin line for each repeat.

    label: of the vertical axis.
    """
    values = _values(trials, key)
    numeric = _numeric(trials, key)
    means, spreads = [], []
    for value in values:
        of_value = [trial for trial in trials if _hashable(trial.values.get(key)) == value]
        repeats = _mean_by(None, of_value)
        means.append(fmean(repeats.values()))
        spreads.append(stdev(repeats.values()) if len(repeats) > 1 else 0.0)
    places = values if numeric else list(range(len(values)))
    at = dict(zip(values, places, strict=True))
    if len(keys_of(trials)) > 1 or not any(spreads):
        shown = [(at[_hashable(t.values[key])], t.jf) for t in trials if key in t.values]
        axes.plot(*zip(*shown, strict=True), ".", color="grey", alpha=0.5)
    elif len(trials) > len(values):
        for number in sorted({trial.repeat for trial in trials}):
            ours = [t for t in trials if t.repeat == number and key in t.values]
            own = [(at[_hashable(t.values[key])], t.jf) for t in ours]
            axes.plot(*zip(*sorted(own), strict=True), "-", color="grey", alpha=0.4, linewidth=1)
    bars = spreads if any(spreads) else None
    axes.errorbar(places, means, yerr=bars, fmt="o-", capsize=3, label=f"mean by {key}")
    top = means.index(max(means))
    axes.plot([places[top]], [means[top]], "*", color="tab:red", markersize=15)
    said, at_top = f"{_label(values[top])}: {short(means[top])}", means[top] + spreads[top]
    axes.annotate(said, (places[top], at_top), (0, 8), textcoords="offset points", ha="center")
    for name, jf in levels.items():
        axes.axhline(jf, color="grey", linestyle="--", linewidth=1)
        axes.text(
            0.0,
            jf,
            f" {name}",
            color="grey",
            fontsize="small",
            va="bottom",
            transform=_across(axes),
        )
    if numeric and _wide(values):
        axes.set_xscale("log")
    if not numeric or len(values) <= TICKS:
        axes.set_xticks(places, [_label(value) for value in values])
        axes.minorticks_off()
    axes.margins(y=0.2)
    axes.set_xlabel(key)
    axes.set_ylabel(label)


def _surface(figure: Figure, axes: Axes, trials: Sequence[Measured], keys: list[str]) -> None:
    """Draw J&F over two keys: cells of a whole grid, else points."""
    scores = _mean_by(keys, trials)
    xs, ys = (_values(trials, key) for key in keys)
    if len(scores) == len(xs) * len(ys):
        table = [[scores[x, y] for x in xs] for y in ys]
        image: Any = axes.imshow(table, origin="lower", aspect="auto")
        for row, y in enumerate(ys):
            for column, x in enumerate(xs):
                axes.text(column, row, short(scores[x, y]), ha="center", va="center", color="white")
        axes.set_xticks(range(len(xs)), [_label(x) for x in xs])
        axes.set_yticks(range(len(ys)), [_label(y) for y in ys])
    else:
        places = list(scores)
        across, up = zip(*places, strict=True)
        image = axes.scatter(across, up, c=list(scores.values()))
        for values, scale in ((xs, axes.set_xscale), (ys, axes.set_yscale)):
            if _wide(values):
                scale("log")
    figure.colorbar(image, ax=axes)
    axes.set_xlabel(keys[0])
    axes.set_ylabel(keys[1])


def _mean_by(keys: list[str] | None, trials: Sequence[Measured]) -> dict[Any, float]:
    """Average J&F of the trials of each place, or of each repeat where no keys are given."""
    groups: dict[Any, list[float]] = {}
    for trial in trials:
        place = tuple(_hashable(trial.values.get(key)) for key in keys or ())
        groups.setdefault(trial.repeat if keys is None else place, []).append(trial.jf)
    return {place: fmean(values) for place, values in groups.items()}


def _values(trials: Sequence[Measured], key: str) -> list[Any]:
    """List the values of a key, numbers in their order, others in that of the trials."""
    values = list(dict.fromkeys(_hashable(t.values[key]) for t in trials if key in t.values))
    return sorted(values) if _all_numbers(values) else values


def _numeric(trials: Sequence[Measured], key: str) -> bool:
    return _all_numbers(_values(trials, key))


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= WIDE


def _heights(trials: Sequence[Measured], key: str) -> dict[Any, float]:
    """Place the values of a key between 0 and 1: numbers to scale, others evenly."""
    values = _values(trials, key)
    if not _numeric(trials, key) or _wide(values):
        return {value: n / (len(values) - 1) for n, value in enumerate(values)}
    return {value: (value - values[0]) / (values[-1] - values[0]) for value in values}


def _thinned(marks: list[Any]) -> list[Any]:
    """Leave out marks beyond TICKS, spread evenly."""
    step = -(-len(marks) // TICKS)
    return marks[::step]


def _hashable(value: Any) -> Any:
    return text_of(value) if isinstance(value, list | tuple | dict) else value


def _label(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else text_of(value)
    return text if len(text) <= LETTERS else text[: LETTERS - 3] + "..."


def _across(axes: Axes) -> Any:
    """Return the transform whose x is a share of the width, and y a value."""
    return axes.get_yaxis_transform()
