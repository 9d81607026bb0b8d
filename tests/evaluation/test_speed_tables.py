"""Test speed tables as figures and as Markdown, from runs written down here."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from orchestrator import report
from orchestrator.reporting import readme as readme_results
from vosmodels.errors import InputError
from vosmodels.evaluation.speed import tables
from vosmodels.evaluation.speed.tables import (
    duration_cells,
    fill,
    graph_cells,
    markdown,
    queue_cells,
    rows,
)
from vosmodels.evaluation.speed.timing import Speed

HEAD = {
    "model": "mobilevos_resnet18",
    "parameters": 8_140_000,
    "size": "480x910",
    "precision": "fp32",
    "graph": False,
    "device": "a processor, 2 threads",
    "command": "python -m vosmodels.evaluation.speed --model mobilevos_resnet18",
    "commit": "1234567",
    "machine": "2 cores",
    "date": "2026-01-02",
}
DURATIONS = {**HEAD, "table": "durations", "cells": duration_cells([1, 3])}
QUEUES = {**HEAD, "table": "queues", "cells": queue_cells(1, 50)}


def at(fps: float, **changes: Any) -> Speed:
    """A measurement of so many frames a second."""
    values = {"frames": 50, "objects": 1, **changes}
    return Speed(
        1000 / fps, 1200 / fps, fps, 0.0, 1, "cpu", "1x1", values["frames"], values["objects"], ""
    )


def measured(head: dict[str, Any], speeds: list[float]) -> tables.Table:
    """The table of runs that were so fast, in turn."""
    ahead = iter(speeds)
    return fill(head, lambda **cell: at(next(ahead)))


def test_all_cells_run_once_before_any_runs_again():
    asked: list[tuple[int, int]] = []

    def run(**cell: Any) -> Speed:
        asked.append((cell["objects"], cell["frames"]))
        return at(4.0)

    fill(DURATIONS, run)
    assert asked == [(1, 50), (1, 500), (3, 50), (3, 500)] * 3


def test_a_row_is_the_mean_of_its_runs_and_the_median_of_their_times():
    made = measured(DURATIONS, [10.0, 8.0, 5.0, 4.0, 20.0, 8.0, 5.0, 4.0, 12.0, 8.0, 5.0, 4.0])
    first = rows(made)[0]
    assert first["fps_runs"] == [10.0, 20.0, 12.0]
    assert first["fps"] == pytest.approx(14.0)
    assert (first["median_ms"], first["p95_ms"]) == pytest.approx((1000 / 12, 100.0))


def test_time_left_counts_each_cell_as_long_as_it_took_before(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "vosmodels"):
        measured(DURATIONS, [1.0, 5.0, 0.5, 2.5] * 3)
    # 50 frames at 1 a second, 500 at 5, 50 at 0.5, 500 at 2.5: 450 s a round
    left = [record.getMessage() for record in caplog.records][3::4]
    assert [text.split(";")[1] for text in left] == [
        " 4 of 12 runs, about 15 min left",
        " 8 of 12 runs, about 8 min left",
        " 12 of 12 runs, about 0 min left",
    ]


def test_time_left_counts_what_a_run_takes_besides_its_frames(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    now = iter(range(0, 10**6, 100))  # every run takes 100 s, of which its frames are 50
    monkeypatch.setattr("vosmodels.evaluation.speed.tables.time.monotonic", lambda: next(now))
    head = {**DURATIONS, "cells": [{"objects": 1, "frames": 50}]}
    with caplog.at_level(logging.INFO, "vosmodels"):
        fill(head, lambda **cell: at(1.0))
    assert "1 of 3 runs, about 3 min left" in caplog.records[0].getMessage()  # 200 s


def test_durations_stand_short_beside_long_with_the_spread_of_runs():
    text = markdown([measured(DURATIONS, [10.0, 8.0, 5.0, 4.0] * 2 + [13.0, 8.0, 5.0, 4.0])])
    assert "**Short and long videos of 480x910 on a processor, 2 threads**" in text
    assert (
        "| mobilevos_resnet18 | 8.1 | 1 | 11 (10 to 13) | 100 | 120 | 8 (8 to 8) | 125 | 150 |"
        in text
    )
    assert "| mobilevos_resnet18 | 8.1 | 3 | 5 (5 to 5) |" in text
    assert "`python -m vosmodels.evaluation.speed --model mobilevos_resnet18` · commit" in text
    assert "1234567 · 2 cores · 2026-01-02" in text


def test_queues_stand_in_columns_and_models_of_one_device_under_each_other():
    speeds = [10.0, 8.0, 5.0, 4.0, 2.0, 1.0] * 3
    half = {**QUEUES, "precision": "bf16", "graph": True}
    elsewhere = {**QUEUES, "device": "a GPU"}
    text = markdown([measured(head, speeds) for head in (QUEUES, half, elsewhere)])
    first, second = text.split("**Lengths of the memory of 480x910 on a GPU**")
    assert "| model | 1 | 2 | 5 | 10 | 20 | all |" in first
    times = "100 (120) | 125 (150) | 200 (240) | 250 (300) | 500 (600) | 1000 (1200) |"
    assert f"| mobilevos_resnet18 | {times}\n| mobilevos_resnet18, bf16, graph | {times}" in first
    assert second.count("| mobilevos_resnet18 |") == 1


def test_graphs_stand_by_objects_and_memory_with_their_peak():
    head = {**HEAD, "table": "graphs", "cells": graph_cells([1, 2], 100)}
    text = markdown([measured(head, [10.0, 8.0, 5.0, 4.0, 2.0] * 2)])
    assert "**Exported graphs, by memory and objects, of 480x910 on a processor" in text
    assert "| model | objects | 1 | 2 | 5 | 10 | 20 |" in text
    assert "| mobilevos_resnet18 | 2 | 100 (120), 0 | 125 (150), 0 | 200 (240), 0 |" in text


def test_report_puts_whole_tables_into_the_readme_and_refuses_begun_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, readme = tmp_path / "results", tmp_path / "README.md"
    folder.mkdir()
    path = folder / "speed-resnet18.json"
    readme.write_text(f"{readme_results.BEGIN}\nold\n{readme_results.END}\n")
    made = measured(QUEUES, [10.0] * 18)
    path.write_text(json.dumps({**made, "runs": made["runs"][:7]}))
    assert report.main([str(folder), "--readme", str(readme)]) == 1
    told = capsys.readouterr().err
    assert f"{path}: 7 of 18 runs; go on with: {HEAD['command']}" in told
    assert "old" in readme.read_text()
    path.write_text(json.dumps(made))
    assert report.main([str(folder), "--readme", str(readme)]) == 0
    assert "| mobilevos_resnet18 | 100 (120) |" in readme.read_text()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"table": "x", "runs": [], "cells": []}'])
def test_a_file_that_is_no_table_is_named(tmp_path: Path, text: str):
    path = tmp_path / "speed-x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"speed-x\.json: holds something else than a table"):
        tables.read(path)
