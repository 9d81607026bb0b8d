"""Test the table and the figure of exports, from rows written down here."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import report
from orchestrator.reporting import readme, tradeoff, tradeoff_figure
from vosmodels.errors import InputError

ROW = {
    "memory": "first,last",
    "precision": "fp32",
    "folder": "first-last-fp32",
    "frames": 2,
    "bytes": 3 * 2**20,
    "j": 0.5,
    "f": 0.6,
    "jf": 0.55,
    "videos": {"a": 0.5, "b": 0.6},
    "median_ms": 40.0,
    "p95_ms": 44.0,
    "peak_mib": 12.0,
}
VALUES: dict[str, Any] = {
    "model": "demo",
    "sha256": "0" * 64,
    "data": "DAVIS",
    "split": "val",
    "size": "240x432",
    "objects": 1,
    "frames": 100,
    "threads": 1,
    "runtime": "onnx",
    "command": "python -m x",
    "commit": "1234567",
    "machine": "2 cores",
    "date": "2026-01-02",
    "rows": [ROW, {**ROW, "precision": "int8", "bytes": 2**20, "jf": 0.5, "median_ms": 38.0}],
}


def written(place: Path, values: object = VALUES) -> Path:
    path = place / "tradeoff-demo.json"
    path.write_text(json.dumps(values))
    return path


def test_the_readme_shows_table_figure_and_address(tmp_path: Path):
    path, page = written(tmp_path), tmp_path / "README.md"
    tradeoff_figure.draw(tradeoff.read(path), path.with_suffix(".png"))
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    assert report.main([str(tmp_path), "--readme", str(page)]) == 0
    text = page.read_text()
    assert "| first,last | fp32 | 2 | 3.0 | 0.500 | 0.600 | 0.550 | 40 | 44 | 12 |" in text
    assert "| first,last | int8 | 2 | 1.0 |" in text
    assert "J&F of 2 videos of val at full size" in text
    assert "![tradeoff-demo](tradeoff-demo.png)" in text
    assert "`python -m x` · commit 1234567 · 2 cores · 2026-01-02" in text


def test_equal_rows_draw_equal_figures(tmp_path: Path):
    for name in ("a.png", "b.png"):
        tradeoff_figure.draw(VALUES, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", tradeoff.HEAD)
def test_rows_of_another_setting_are_not_continued(tmp_path: Path, name: str):
    path = written(tmp_path)
    tradeoff.check_same(path, VALUES)
    with pytest.raises(InputError, match=f"holds rows with {name} "):
        tradeoff.check_same(path, {**VALUES, name: "other"})


@pytest.mark.parametrize("values", [[], {}, {**VALUES, "rows": [{}]}])
def test_a_file_that_is_no_tradeoff_is_named(tmp_path: Path, values: object):
    with pytest.raises(InputError, match=r"tradeoff-demo\.json: holds something else"):
        tradeoff.read(written(tmp_path, values))
