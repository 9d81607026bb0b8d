"""Write what the run of a sweep says in MLflow: a table with the best row first, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.reporting.best import Point, best_of, comparison, points, short
from orchestrator.reporting.results import REPEAT, Results, Row, ordered, shortfall
from vosmodels.support.grid import Grid

LONGEST = 7500  # letters, of which MLflow keeps a few more
SHOWN = ("response", "parallel", "masks")  # figures that stand on the page, in this order


def describe(
    results: Results,
    *,
    figures: Mapping[str, str] = {},
    links: Mapping[str, str] = {},
    reused: Sequence[str] = (),
    following: Sequence[str] = (),
) -> str:
    """Describe a finished sweep in Markdown, on a page of at most LONGEST letters.

    figures: addresses by name; links: addresses of the runs of rows, by row; reused: names of rows
    or jobs of `links` that another sweep trained; following: commands that go on from here.
    A table too long for the page loses its last rows.
    """
    best = best_of(results.rows)
    above = [f"**Best: {best}**, by J&F on {results.protocol}"] if best else [results.protocol]
    if than := comparison(results.rows):
        above.append(f"{than[0].upper()}{than[1:]}.")
    if failure := shortfall(results.rows):
        above.append(f"**{failure}**")
    above += [f"![{name}]({figures[name]})" for name in SHOWN if name in figures]
    below = [f"```\n{chr(10).join(following)}\n```"] if following else []
    if reused:
        names = ", ".join(_linked(name, links) for name in reused)
        below.append(f"Trained by another sweep, not anew: {names}")
    below.append(f"`{results.command}`, {results.cost()}; {results.address()}")
    head, rows = _head(results), _rows(results, links)
    for shown in range(len(rows), -1, -1):
        left = len(rows) - shown
        notes = [f"and {left} more rows: table.csv"] if left else []
        grid = Grid(head, rows[:shown], notes=notes)
        text = "\n\n".join([*above, grid.markdown(), *below])
        if len(text) <= LONGEST:
            break
    return text


def _head(results: Results) -> list[str]:
    reported = any("report" in row.scores for row in results.rows)
    return ["row", "J&F", "J", "F", *(["report J&F"] if reported else []), "seconds"]


def _rows(results: Results, links: Mapping[str, str]) -> list[list[str]]:
    """Lay out trials and soup, the best first, then what they are compared with."""
    soups = [row for row in results.rows if row.role == "soup" and "select" in row.scores]
    students = [*points(results.rows), *(Point(row.name, (row,)) for row in soups)]
    students.sort(key=lambda point: -point.jf)
    others = [row for row in ordered(results.rows) if row.role not in ("trial", "soup")]
    reported = "report J&F" in _head(results)
    return [_cells(point, links, reported) for point in students] + [
        _cells(Point(row.name, (row,)), links, reported) for row in others if "select" in row.scores
    ]


def _cells(point: Point, links: Mapping[str, str], reported: bool) -> list[str]:
    """Fill a line of the table with the means over the repeats of a point."""
    spread = f" ± {short(point.spread)}" if point.spread is not None else ""
    means = [_mean([row.scores["select"].means[m] for row in point.rows]) for m in ("j", "f")]
    report = [row.scores["report"].jf for row in point.rows if "report" in row.scores]
    seconds = [row.seconds for row in point.rows if row.seconds is not None]
    return [
        _name(point, links),
        short(point.jf) + spread,
        *means,
        *([_mean(report)] if reported else []),
        f"{sum(seconds) / len(seconds):.0f}" if seconds else "",
    ]


def _mean(values: Sequence[float]) -> str:
    return short(sum(values) / len(values)) if values else ""


def _name(point: Point, links: Mapping[str, str]) -> str:
    """Link a row to its run, or each repeat of it by number."""
    if len(point.rows) == 1:
        return _linked(point.name, links, point.rows[0])
    numbers = [_linked(f"{_repeat(row)}", links, row) for row in point.rows]
    return f"{point.name}: {', '.join(numbers)}"


def _repeat(row: Row) -> str:
    found = REPEAT.fullmatch(row.name)
    return found[2] if found else row.name


def _linked(text: str, links: Mapping[str, str], row: Row | None = None) -> str:
    address = links.get(row.name if row else text)
    return f"[{text}]({address})" if address else text
