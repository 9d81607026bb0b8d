"""Test several seeds of one sweep in one table."""

import json
from dataclasses import replace
from statistics import stdev

import pytest

from orchestrator.reporting.seeds import SeedTable
from tests.tables import config, run, unreported
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_json


def table(*runs):
    made = SeedTable("t", {})
    for one in runs:
        made = made.with_run(one)
    return made


def row(made, name):
    (match,) = [row for row in made.rows() if row.mean.name == name]
    return match


def test_a_row_has_the_mean_and_the_spread_of_its_seeds():
    made = row(table(run(0), run(1, taught=(0.8, 0.8, 0.8))), "taught")
    assert made.mean.scores["report"].j == pytest.approx(0.7)
    assert made.spread["report", "j"] == pytest.approx(stdev([0.6, 0.8]))
    assert made.seeds == (0, 1)
    assert made.steps == (40, 80)
    assert made.mean.seconds == 90.5
    assert made.mean.scores["report"].errors.wrong == 160


def test_one_seed_has_no_spread():
    assert row(table(run(0)), "taught").spread == {}


def test_differences_are_paired_by_seed_and_video_and_agree_with_the_means():
    """Means are over objects; bee has two."""
    made = table(run(0), run(2, plain=(0.1, 0.2, 0.3), taught=(0.3, 0.5, 0.3)))
    found = row(made, "taught")
    assert found.difference.per_sequence == pytest.approx({"ant": 0.15, "bee": 0.15, "cat": -0.05})
    assert found.difference.signs == (2, 1, 0)
    plain = row(made, "plain").mean
    gap = found.mean.scores["report"].jf - plain.scores["report"].jf
    assert found.difference.mean == pytest.approx(gap)
    assert row(made, "plain").difference is None


def test_a_seed_that_lacks_the_baseline_is_left_out_of_the_difference():
    lone = run(1)
    lone = replace(lone, rows=[row for row in lone.rows if row.name != "plain"])
    found = row(table(run(0), lone), "taught")
    assert found.seeds == (0, 1)
    assert found.difference.seeds == 1


def test_without_a_report_differences_are_of_select():
    bare = config().model_copy(update={"data": config().data.model_copy(update={"report": None})})
    one = run(0, config=bare.model_dump(mode="json"))
    one = replace(one, rows=[unreported(row) for row in one.rows])
    made = table(one)
    assert made.split == "select"
    assert row(made, "taught").difference.mean == pytest.approx(0.0, abs=1e-12)


def test_rows_stand_by_role_then_in_the_order_of_the_sweep():
    late = run(0)
    late = replace(late, rows=list(reversed(late.rows)))
    assert [x.mean.name for x in table(late).rows()] == ["first-frame copy", "taught", "plain"]


def test_a_file_and_back_is_the_same_table(tmp_path):
    made = table(run(1), run(0))
    path = tmp_path / "t.json"
    path.write_text(json.dumps(made.as_dict()))
    assert json.loads(path.read_text())["seeds"] == [0, 1]
    assert json.dumps(SeedTable.read(path).as_dict()) == path.read_text()


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"table": "t", "runs": [{}]}'])
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"t\.json: not a table of several seeds"):
        SeedTable.read(path)


def test_a_seed_is_there_when_all_its_rows_have_all_their_scores():
    made = table(run(0))
    assert made.has(config(0))
    assert not made.has(config(1))
    assert not made.has(config(0, soup={"after_sweep": True}))
    assert not made.has(config(0, sweep={"parameters": {"loss.omega": [0.5]}}))
    partial = [unreported(row) if row.name == "plain" else row for row in run(0).rows]
    assert not table(run(0, rows=partial)).has(config(0))


def test_another_configuration_is_refused_with_the_keys_that_differ():
    made = table(run(0))
    for same in (config(7), config(0, cluster={"retries": 3}), config(0, storage="x")):
        made.expect(same.model_dump(mode="json"))
    made.expect(config(0, sweep={"parameters": {"loss.tau": [1.0]}}).model_dump(mode="json"))
    other = config(1, train={"steps": 7}).model_dump(mode="json")
    with pytest.raises(InputError, match=r"seed 0 .*: train\.steps 7 here, 200 there; .*--out"):
        made.expect(other)


def test_stages_are_the_same_in_whatever_order_a_file_has_their_keys(tmp_path):
    stages = [{"name": "video", "steps": 4}, {"name": "video", "steps": 2}]
    path = tmp_path / "t.json"
    write_json(
        path, table(run(0, config=config(0, stages=stages).model_dump(mode="json"))).as_dict()
    )
    made = SeedTable.read(path)
    made.expect(config(1, stages=stages).model_dump(mode="json"))
    with pytest.raises(InputError, match=r"stages\.1\.steps 3 here, 2 there"):
        made.expect(config(1, stages=[stages[0], stages[1] | {"steps": 3}]).model_dump(mode="json"))
    with pytest.raises(InputError, match=r"stages 1 here, 2 there"):
        made.expect(config(1, stages=stages[:1]).model_dump(mode="json"))


def test_a_key_that_an_older_file_did_not_know_had_its_default():
    old = config(0).model_dump(mode="json")
    del old["loss"]["dice"]
    table(run(0, config=old)).expect(config(1).model_dump(mode="json"))
    other = config(1, loss={"dice": 0.5}).model_dump(mode="json")
    with pytest.raises(InputError, match=r"loss\.dice 0\.5 here"):
        table(run(0, config=old)).expect(other)
