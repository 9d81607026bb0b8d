"""Test how a comparison over seeds is printed."""

import json
import re
from dataclasses import replace

import pytest

from orchestrator import report
from orchestrator.reporting import readme as readme_results
from orchestrator.reporting.results import Results, Row
from orchestrator.reporting.seed_tables import markdown, show, show_sweep, sweep_markdown
from orchestrator.reporting.seeds import SeedTable
from tests.tables import both, run


def table(*runs):
    return SeedTable("t", {one.config["seed"]: one for one in runs})


THREE = table(run(0), run(1), run(2))


def row(text, name):
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")][:1]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_row_has_scores_spread_difference_interval_and_signs():
    cells = row(markdown(THREE), "taught")
    assert cells[1:3] == ["3", "40, 80"]
    assert cells[3:9] == ["0.600 ± 0.000"] * 6
    assert cells[9:11] == ["91", "+0.000"]
    assert re.fullmatch(r"-0\.\d{3} to \+0\.\d{3}", cells[11])
    assert cells[12] == "1 / 1 / 1"
    assert row(markdown(THREE), "plain")[10:] == ["", "", ""]


def test_a_row_with_fewer_than_three_seeds_says_so():
    lacking = run(2)
    lacking = replace(lacking, rows=[r for r in lacking.rows if r.name != "taught"])
    text = markdown(table(run(0), run(1), lacking))
    assert row(text, "taught")[1] == "2 of 3 seeds"
    assert row(text, "plain")[1] == "3"
    assert row(markdown(table(run(4))), "plain")[1] == "1 of 3 seeds"


def repeated(*runs):
    """Make one sweep whose trials are repeated as often as there are runs."""
    rows = [row for row in runs[0].rows if row.role != "trial"]
    for index, one in enumerate(runs):
        for row in one.rows:
            if row.role == "trial":
                baseline = row.baseline and f"{row.baseline} repeat={index}"
                rows.append(replace(row, name=f"{row.name} repeat={index}", baseline=baseline))
    return replace(runs[0], rows=rows)


def test_repeats_of_a_sweep_are_averaged_and_compared_as_seeds_of_a_table_are(capsys):
    sweep = repeated(run(0), run(1), run(2))
    ours, theirs = SeedTable.of_repeats(sweep).rows(), THREE.rows()
    assert [row.as_dict() for row in ours] == [row.as_dict() for row in theirs]
    text = sweep_markdown(sweep)
    assert row(text, "row")[1] == "repeats"
    assert row(text, "taught")[1:] == row(markdown(THREE), "taught")[1:]
    assert "All repeats are from one stem" in text
    assert text.count("commit 0234567") == 1
    show_sweep(sweep)
    told = capsys.readouterr().out
    assert "± 0.000" in told
    assert "repeat=" not in told


def test_a_sweep_without_repeats_has_a_row_a_trial():
    assert sweep_markdown(run(0)) == run(0).markdown()
    assert not run(0).repeated
    assert repeated(run(0), run(1)).repeated


def test_an_interval_of_few_videos_or_seeds_is_called_little():
    text = markdown(table(run(0)))
    assert "on 3 videos" in text
    assert "Over so few videos it says little." in text
    assert "1 of 3 seeds" in text
    assert "bootstrap over videos." in text
    assert "bootstrap over videos and seeds." in markdown(THREE)
    assert "significan" not in text.lower()


def test_a_best_student_near_the_first_frame_copy_is_called_a_failure():
    short = markdown(table(run(0, copied=(0.52, 0.52, 0.52))))
    assert (
        "**FAILED**, not a result: the best student, plain, has report J 0.600, less than" in short
    )
    assert "above the first-frame copy's 0.520" in short
    assert "FAILED" not in markdown(table(run(0, copied=(0.4, 0.4, 0.4))))


def test_shares_of_wrong_pixels_near_the_boundary_stand_below():
    text = markdown(THREE)
    shares = text.split("within 8 px")[1]
    assert row(shares, "taught") == ["taught", "12.5%", "25.0%", "37.5%", "50.0%", "75.0%", "20"]
    assert "Added: share of false positives" in shares
    older = run(0).as_dict()
    for one in older["rows"]:
        del one["report"]["boundary"]["added"]
    shares = markdown(table(Results.from_dict(older))).split("within 8 px")[1]
    assert row(shares, "taught") == ["taught", "12.5%", "25.0%", "37.5%", "50.0%", "20"]
    assert "Added" not in shares


def test_every_run_has_its_address_and_every_video_its_difference():
    text = markdown(THREE, ["figures/t.png"])
    for seed in (0, 1, 2):
        assert f"seed {seed}: `python -m orchestrator.table t.yaml` · commit {seed}234567" in text
    assert "![t](figures/t.png)" in text
    assert row(text.split("<details>")[1], "cat") == ["cat", "-0.100"]


def test_the_terminal_has_the_same_rows(capsys):
    show(THREE)
    shown = capsys.readouterr().out
    assert "0.600 ± 0.000" in shown
    assert "1 / 1 / 1" in shown
    assert "within 2 px" in shown


def test_a_table_goes_into_the_readme_with_its_figure_and_prints_by_itself(tmp_path, capsys):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "t.json").write_text(json.dumps(THREE.as_dict()))
    (folder / "t.png").write_bytes(b"")
    readme = tmp_path / "README.md"
    readme.write_text(f"{readme_results.BEGIN}\n{readme_results.END}\n")
    assert report.main([str(folder), "--readme", str(readme)]) == 0
    assert row(readme.read_text(), "taught")[1] == "3"
    assert "![t](r/t.png)" in readme.read_text()
    capsys.readouterr()
    assert report.main([str(folder / "t.json"), "--json"]) == 0
    told = {line["name"]: line for line in json.loads(capsys.readouterr().out)["rows"]}
    assert told["taught"]["difference"]["plus"] == 1
    assert told["taught"]["difference"]["per_sequence"]["cat"] == pytest.approx(-0.1)


def test_a_table_says_which_rows_are_above_from_every_seed():
    stem = Row("stem: cross-entropy only", "anchor", both(0.55, 0.55, 0.55))
    runs = [run(seed, taught=(jf, jf, jf)) for seed, jf in enumerate((0.65, 0.7, 0.75))]
    ahead = table(*(replace(one, rows=[stem, *one.rows]) for one in runs))
    said = markdown(ahead)
    assert "From every seed plain, taught are above 'stem: cross-entropy only' by report" in said
    assert "From every seed taught is above 'plain' by report J&F." in said
    behind = replace(runs[2], rows=run(2, taught=(0.1, 0.1, 0.1)).rows)
    assert "From every seed no trial is above 'plain'" in markdown(table(*runs[:2], behind))
    assert "From every seed" not in markdown(table(*runs[:2]))
