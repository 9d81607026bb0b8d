"""Test rows, their order, and the README's Results."""

import io
import json
from typing import Any

from rich.console import Console

from orchestrator import report
from orchestrator.reporting import readme as readme_results
from orchestrator.reporting.results import Results, Row, ordered, shortfall
from orchestrator.reporting.split_scores import SplitScores
from tests.benchmarks.rounds import Claim, Timing
from tests.benchmarks.rounds import report as benchmark
from tests.tables import unreported


def scores(select, report=None):
    """J a point above J&F and F a point below, on select and, where given, on report."""
    by_split = {"select": select, "report": report}
    return {
        split: SplitScores(jf + 0.01, jf - 0.01, jf)
        for split, jf in by_split.items()
        if jf is not None
    }


def results(**changes):
    rows = [
        Row("first-frame copy", "anchor", scores(0.2, 0.25)),
        Row("omega=0.0", "trial", scores(0.5, 0.45), step=80, seconds=61.2),
        Row("omega=1.0", "trial", scores(0.6, 0.55), step=40, baseline="stem"),
        Row("greedy soup", "soup", scores(0.61, 0.56), note="2 ingredients"),
        Row("teacher", "teacher", scores(0.7)),
    ]
    values: dict[str, Any] = {
        "name": "omega",
        "sweep": "abc",
        "rows": rows,
        "command": "python -m orchestrator.sweep x.yaml",
        "config": {"seed": 3},
        "protocol": "generated val",
        "seconds": 90.0,
        "peak_mib": 2048.0,
        "placement": "2 at a time",
        "commit": "1234567",
        "machine": "2 cores",
        "date": "2026-01-02",
    }
    return Results(**(values | changes))


def test_baseline_rows_stand_first_and_the_best_of_a_role_before_the_others():
    names = [row.name for row in ordered(results().rows)]
    assert names == ["first-frame copy", "teacher", "omega=1.0", "omega=0.0", "greedy soup"]


def test_json_and_back_is_the_same():
    text = json.dumps(results().as_dict())
    assert json.dumps(Results.from_dict(json.loads(text)).as_dict()) == text


def test_the_terminal_table_shows_report_columns_only_where_there_is_a_report():
    def shown(made):
        text = io.StringIO()
        Console(width=200, file=text).print(made.grid().terminal())
        return text.getvalue()

    assert "report J" in shown(results())
    bare = [unreported(row) for row in results().rows]
    text = shown(results(rows=bare))
    assert "report J" not in text
    assert "0.610" in text


def test_markdown_gives_every_number_its_address():
    text = results().markdown()
    assert "| omega=1.0 | 40 | 0.610 | 0.590 | 0.600 | 0.560 | 0.540 | 0.550 |" in text
    assert "| greedy soup (2 ingredients) |" in text
    for part in ("python -m orchestrator.sweep x.yaml", "seed 3", "1234567", "2 cores"):
        assert part in text
    assert "jobs 1.0 min in all; this run 1.5 min" in text
    assert "2026-01-02" in text
    weighed = results(rows=[Row("a", "trial", scores(0.5), seconds=60.0, peak_mib=3072.0)])
    assert "jobs 1.0 min in all, 3.0 GiB the largest; this run" in weighed.markdown()


def test_a_best_student_near_the_first_frame_copy_is_no_result():
    """The best on select is judged by its report: 0.55 + 0.01 against 0.25 + 0.01."""
    assert shortfall(results().rows) == ""
    rows = [*results().rows[1:], Row("first-frame copy", "anchor", scores(0.2, 0.47))]
    told = shortfall(rows)
    assert "greedy soup, has report J 0.570, less than 10 points above" in told
    assert f"**{told}**" in results(rows=rows).markdown()
    assert shortfall([unreported(row) for row in rows]) == ""
    assert shortfall(rows[:-1]) == ""
    assert shortfall(rows[-1:]) == ""


def test_what_a_run_took_has_a_peak_only_where_one_was_measured():
    assert results().cost() == "1.5 min, peak 2.0 GiB, 2 at a time"
    for unmeasured in (None, 0.0):  # the latter in results of earlier versions
        assert results(peak_mib=unmeasured).cost() == "1.5 min, 2 at a time"


def test_report_rewrites_what_stands_between_the_marks_and_nothing_else(tmp_path, capsys):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "omega.json").write_text(json.dumps(results().as_dict()))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{readme_results.BEGIN}\nold\n{readme_results.END}\nafter\n")
    for _ in range(2):
        assert report.main([str(folder), "--readme", str(readme)]) == 0
        text = readme.read_text()
        assert text.startswith(f"before\n{readme_results.BEGIN}\n")
        assert text.endswith(f"{readme_results.END}\nafter\n")
        assert "old" not in text
        assert text.count("| omega=1.0 |") == 1
    assert "1 results" in capsys.readouterr().out


def test_soups_that_were_judged_stand_in_the_readme_as_their_markdown_says(tmp_path, capsys):
    folder, readme = tmp_path / "results", tmp_path / "README.md"
    folder.mkdir()
    (folder / "worth-omega.json").write_text("{}")
    readme.write_text(f"{readme_results.BEGIN}\n{readme_results.END}\n")
    assert report.main([str(folder), "--readme", str(readme)]) == 1
    assert "worth-omega.md is not beside it" in capsys.readouterr().err
    (folder / "worth-omega.md").write_text("| greedy soup of 2 |\n")
    (folder / "worth-omega.png").write_bytes(b"")
    assert report.main([str(folder), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert "| greedy soup of 2 |" in text
    assert "![worth-omega](results/worth-omega.png)" in text


def test_a_benchmark_in_the_folder_has_its_claims_and_rounds_in_the_readme(tmp_path):
    path = tmp_path / "r" / "benchmark-x.json"
    claims = [Claim("times less CPU", 7.5, 8.0), Claim("MiB at work", 40.0, 150.0, at_most=True)]
    benchmark("x", "python -m x", {"ours": Timing([1.0, 3.0], [2.0, 2.0])}, claims, out=path)
    readme = tmp_path / "README.md"
    readme.write_text(f"{readme_results.BEGIN}\n{readme_results.END}\n")
    assert report.main([str(path.parent), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert "| times less CPU | 7.5 | at least 8 | **falls short** |" in text
    assert "| MiB at work | 40 | at most 150 | holds |" in text
    assert "| ours | 2 (1 to 3) | 2 (2 to 2) | 2 |" in text
    assert "`python -m x` · commit" in text


def test_a_file_that_is_no_benchmark_does_not_reach_the_readme(tmp_path, capsys):
    (tmp_path / "benchmark-x.json").write_text("{}")
    readme = tmp_path / "README.md"
    readme.write_text(f"{readme_results.BEGIN}\nold\n{readme_results.END}\n")
    assert report.main([str(tmp_path), "--readme", str(readme)]) == 1
    assert "benchmark-x.json: not the results of a benchmark" in capsys.readouterr().err
    assert "old" in readme.read_text()
