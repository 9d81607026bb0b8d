"""Test the page that MLflow shows of a sweep."""

from dataclasses import replace

from orchestrator.reporting.results import Row
from orchestrator.reporting.sweep_page import LONGEST, describe
from tests.tables import both, run, scores


def lines(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_best_row_stands_first_and_links_to_its_run():
    results = run(plain=(0.5, 0.5, 0.5), taught=(0.681, 0.681, 0.681))
    links = {"taught": "#/experiments/1/runs/t", "stem": "#/experiments/1/runs/s"}
    figures = {"response": "get-artifact?path=r.png", "costs": "get-artifact?path=c.png"}
    text = describe(results, figures=figures, links=links, reused=["stem"], following=["a command"])
    assert text.startswith("**Best: taught J&F .681**, by J&F on generated val; report test")
    head, *rows = lines(text)
    assert head == "| row | J&F | J | F | report J&F | seconds |"
    assert rows[0] == ("| [taught](#/experiments/1/runs/t) | .681 | .681 | .681 | .681 | 90 |")
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| plain", "| first-frame copy"]
    assert "![response](get-artifact?path=r.png)" in text
    assert "c.png" not in text
    assert "```\na command\n```" in text
    assert "Trained by another sweep, not anew: [stem](#/experiments/1/runs/s)" in text
    assert "python -m orchestrator.table t.yaml" in text


def test_repeats_are_one_row_with_their_spread_and_a_link_each():
    rows = [
        Row("a repeat=0", "trial", {"select": scores(0.5, 0.5, 0.5)}),
        Row("a repeat=1", "trial", {"select": scores(0.7, 0.7, 0.7)}),
    ]
    text = describe(run(rows=rows), links={"a repeat=1": "there"})
    (line,) = [line for line in lines(text) if line.startswith("| a")]
    assert line == "| a: 0, [1](there) | .600 ± .141 | .600 | .600 |  |"


def test_a_soup_that_is_better_is_the_first_row_and_both_are_named():
    results = run()
    soup = Row("greedy soup", "soup", both(0.9, 0.9, 0.9))
    text = describe(replace(results, rows=[*results.rows, soup]))
    assert ", greedy soup .900**" in text
    assert lines(text)[1].startswith("| greedy soup | .900 ")


def test_a_long_table_is_cut_at_its_worst_rows():
    rows = [Row(f"trial {n} {'x' * 40}", "trial", both(n / 200, 0, 0)) for n in range(150)]
    text = describe(run(rows=rows))
    assert 0.9 * LONGEST < len(text) <= LONGEST
    shown = len(lines(text)) - 1
    assert lines(text)[1].startswith("| trial 149 ")
    assert f"and {150 - shown} more rows: table.csv" in text
    assert "sweep sweep0" in text  # what stands below the table is not cut
