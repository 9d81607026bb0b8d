"""Word error messages: several problems as one line, the nearest known word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_PROBLEMS_SHOWN = 10  # problems spelled out in one message


def together(head: str, problems: list[str], most: int = _PROBLEMS_SHOWN) -> str:
    """Join `head` and the problems to one line: `most` in words, the rest as a count."""
    more = len(problems) - most
    shown = problems[:most] + ([f"and {more} more"] if more > 0 else [])
    return f"{head}: {'; '.join(shown)}"


def near(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` of the nearest known word, or an empty string."""
    match = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
