"""Test a table of text in its three renderings, read back by other parsers."""

import io
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

from vosmodels.support.grid import Grid, screen

GRID = Grid(
    ["row", "J", "note"],
    [["a | b", "0.5", "<i>"], ["[red]c", "12.25", "x & y"]],
    title="Scores & more",
    notes=["First note.", "Second <note>."],
    left=(0, 2),
)


def shown(grid, width=60, **options):
    text = io.StringIO()
    Console(width=width, file=text).print(grid.terminal(**options))
    return [line.strip() for line in text.getvalue().splitlines()]


class Cells(HTMLParser):
    """The text of every element, with its tag and its style."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip():
            tag, attributes = self.open[-1]
            self.cells.append((tag, attributes.get("style"), data))


def test_the_terminal_shows_title_head_rows_and_notes_literally():
    assert [line.split() for line in shown(GRID)] == [
        ["Scores", "&", "more"],
        ["row", "J", "note"],
        ["a", "|", "b", "0.5", "<i>"],
        ["[red]c", "12.25", "x", "&", "y"],
        ["First", "note."],
        ["Second", "<note>."],
    ]


def test_the_terminal_aligns_numbers_right_and_draws_lines_only_when_ruled():
    head, first, second = shown(Grid(["row", "J"], [["a", "0.5"], ["b", "12.25"]]))
    assert len(head) == len(first) == len(second)
    ruled = shown(Grid(["row"], [["a"]]), ruled=True)
    assert [line.strip("│ ") for line in ruled if "│" in line] == ["a"]


def test_a_narrow_terminal_wraps_text_and_keeps_numbers_whole():
    grid = Grid(["row", "J"], [["one two three four", "0.500 ± 0.001"]])
    assert any("0.500 ± 0.001" in line for line in shown(grid, width=26))
    assert len(shown(grid, width=26)) > 2


def test_markdown_escapes_pipes_and_aligns_columns():
    title, table, *notes = GRID.markdown().split("\n\n")
    assert title == "**Scores & more**"
    assert table.splitlines() == [
        "| row | J | note |",
        "|---|---:|---|",
        "| a \\| b | 0.5 | <i> |",
        "| [red]c | 12.25 | x & y |",
    ]
    assert notes == ["First note.", "Second <note>."]


def test_markdown_without_title_and_notes_is_the_table_alone():
    assert Grid(["row", ""], [["a", ""]]).markdown() == "| row | |\n|---|---:|\n| a |  |"


def test_html_parses_back_to_the_same_text_with_numbers_at_the_right():
    left, right = "text-align: left", "text-align: right"
    assert Cells(GRID.html()).cells == [
        ("caption", None, "Scores & more"),
        ("th", left, "row"),
        ("th", right, "J"),
        ("th", left, "note"),
        ("td", left, "a | b"),
        ("td", right, "0.5"),
        ("td", left, "<i>"),
        ("td", left, "[red]c"),
        ("td", right, "12.25"),
        ("td", left, "x & y"),
        ("td", None, "First note."),
        ("td", None, "Second <note>."),
    ]
    assert "src=" not in GRID.html()
    assert "href=" not in GRID.html()


def test_a_row_of_another_length_is_named():
    with pytest.raises(ValueError, match=r"row 2 \['b'\]: 1 cells, .*\['row', 'J'\] has 2 columns"):
        Grid(["row", "J"], [["a", "1"], ["b"]])


def test_importing_grid_imports_no_rich():
    code = "import sys, vosmodels.support.grid; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_screen_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "leave out [ant, bee] of /data/a:b:c " + "far " * 60
    screen().print(text)
    assert capsys.readouterr().out == f"{text}\n"
    screen(stderr=True, columns=200).print(text)
    assert capsys.readouterr().err == f"{text}\n"
