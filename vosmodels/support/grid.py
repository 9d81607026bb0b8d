"""Print text on a terminal; render one table for it, as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def screen(*, stderr: bool = False, columns: int = 0) -> Console:
    """Return a console that prints every text as it is: no [markup], no :emoji:, no line breaks.

    columns: least width, as without a terminal rich takes 80 columns.
    """
    from rich.console import Console

    width = max(columns, Console(stderr=stderr).width)
    return Console(
        stderr=stderr, width=width, markup=False, emoji=False, highlight=False, soft_wrap=True
    )


@dataclass(frozen=True)
class Grid:
    """A table of text with a heading per column, a title above and notes below.

    left: indices of the left-aligned columns; all others hold numbers and are right-aligned.
    notes: one paragraph each. Raises ValueError where a row and the head differ in length.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()
    left: Collection[int] = (0,)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.head):
                raise ValueError(
                    f"row {number} {list(row)}: {len(row)} cells, but the head "
                    f"{list(self.head)} has {len(self.head)} columns"
                )

    def terminal(self, *, ruled: bool = False) -> Table:
        """Return a rich Table. ruled: draw lines between columns.

        Cells are shown literally, without rich's [markup]. Numbers never wrap, text may.
        """
        from rich.box import HEAVY_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=Text(self.title, style="table.title") if self.title else None,
            title_justify="left",
            caption=Text("\n".join(self.notes), style="table.caption") if self.notes else None,
            caption_justify="left",
            box=HEAVY_HEAD if ruled else None,
        )
        for column, heading in enumerate(self.head):
            left = column in self.left
            table.add_column(Text(heading), justify="left" if left else "right", no_wrap=not left)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def markdown(self) -> str:
        """Return a pipe table, with the title in bold above and the notes below.

        Markdown within cells, title and notes is left as it is; only `|` in a cell is escaped.
        """
        head = "".join(f"| {_piped(cell)} " if cell else "| " for cell in self.head) + "|"
        rule = "".join("|---" if n in self.left else "|---:" for n in range(len(self.head))) + "|"
        body = ["".join(f"| {_piped(cell)} " for cell in row) + "|" for row in self.rows]
        title = [f"**{self.title}**"] if self.title else []
        return "\n\n".join([*title, "\n".join([head, rule, *body]), *self.notes])

    def html(self) -> str:
        """Return a `<table>` that needs no style sheet; title as caption, notes as foot."""
        lines = ["<table>"]
        if self.title:
            lines.append(f"<caption>{escape(self.title)}</caption>")
        lines.append(f"<thead>{self._html_row('th', self.head)}</thead>")
        lines += ["<tbody>", *(self._html_row("td", row) for row in self.rows), "</tbody>"]
        if self.notes:
            span = f'<tr><td colspan="{len(self.head)}">'
            notes = "".join(f"{span}{escape(note)}</td></tr>" for note in self.notes)
            lines.append(f"<tfoot>{notes}</tfoot>")
        return "\n".join([*lines, "</table>"])

    def _html_row(self, tag: str, cells: Sequence[str]) -> str:
        sides = ("left" if column in self.left else "right" for column in range(len(cells)))
        return (
            "<tr>"
            + "".join(
                f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )
            + "</tr>"
        )


def _piped(cell: str) -> str:
    return cell.replace("|", "\\|")
