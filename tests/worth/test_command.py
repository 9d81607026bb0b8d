"""Test what the command does with the place of its answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soups import records
from soups.worth import __main__ as command
from soups.worth import judge
from vosmodels.support.atomic_files import write_json


class Answer:
    """An answer that writes two of its files."""

    def as_dict(self) -> dict[str, Any]:
        return {"rows": []}

    def keep(self, out: Path) -> list[Path]:
        write_json(out, self.as_dict())
        out.with_suffix(".md").write_text("new\n")
        return [out, out.with_suffix(".md")]


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files of an earlier answer, with a figure, and one that is no part of it."""
    record = SimpleNamespace(config=None, reader=None)
    monkeypatch.setattr(records, "find", lambda reference, uri: record)
    monkeypatch.setattr(judge, "judge", lambda soups, rows, address: Answer())
    files = [tmp_path / f"worth{suffix}" for suffix in (".json", ".md", ".png", ".txt")]
    for file in files:
        file.write_text("old\n")
    return files


def test_an_earlier_answer_stays_unless_it_may_be_replaced(
    earlier: list[Path], capsys: pytest.CaptureFixture[str]
):
    assert command.main(["SOUP", "--out", str(earlier[0])]) == 1
    assert "exists already; give another name, or --overwrite" in capsys.readouterr().err
    assert [file.read_text() for file in earlier] == ["old\n"] * 4


def test_a_new_answer_is_written_where_it_may_replace_an_earlier_one(earlier: list[Path]):
    assert command.main(["SOUP", "--out", str(earlier[0]), "--overwrite", "--json"]) == 0
    json, markdown, _, other = earlier
    assert "rows" in json.read_text()
    assert markdown.read_text() == "new\n"
    assert other.read_text() == "old\n"
