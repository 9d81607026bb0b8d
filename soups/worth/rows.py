"""Name the rows of the comparison of a soup."""

from __future__ import annotations

from vosmodels.errors import UsageError

BEST = "best"  # the row that every other is compared with
SOUP = "greedy"
ROWS = ("stem", BEST, "last", "tail", "uniform", SOUP, "line", "stock", "flip", "scales", "all")


def rows_of(text: str | None) -> tuple[str, ...]:
    """Read names of rows, with commas between; None: all. Raises UsageError on an unknown one."""
    rows = ROWS if text is None else tuple(part.strip() for part in text.split(","))
    if unknown := [row for row in rows if row not in ROWS]:
        raise UsageError(f"--rows {', '.join(unknown)}: no such row; there are {', '.join(ROWS)}")
    return rows
