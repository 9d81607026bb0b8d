"""Test a judgement from record to files, MLflow and the command, with scores without videos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.config.loading import changed
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.sections import RunConfig
from soups.worth import __main__ as worth
from soups.worth import figures, judge
from soups.worth.entrants import Entrant
from soups.worth.rows import ROWS
from tests.soups.pantry import Nearness, Pantry
from tests.soups.test_recipe import Kitchen
from tests.stores import WARNING
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import Scores

pytestmark = pytest.mark.filterwarnings(WARNING)

OTHERS = (((10, -3.0), (20, 4.0), (30, 5.0)), ((10, 1.0), (20, 0.5), (30, 3.0)))  # one is best
RUNS = (((10, 1.0), (20, 0.5), (30, 2.0)), ((10, -3.0), (20, 4.0), (30, 0.2)))


class Rows:
    """Scores rows by the distance of the mean of their weights to a target."""

    def __init__(self, target: float) -> None:
        self.near = Nearness(target)
        self.scorer = SimpleNamespace(known=lambda sha256: None)

    def score(self, entrant: Entrant) -> Scores:
        values = [float(load()["w"]) for load in entrant.loads]
        mean: Any = sum(values) / len(values)
        return self.near({"w": mean})

    def cost(self, entrant: Entrant) -> float:
        return float(entrant.passes)


def rows_of(record: Any, split: str, protocol: ScoringProtocol) -> Any:
    """On select the target is 0.4, on report 0.5: there the best single is better."""
    return Rows({"select": 0.4, "report": 0.5}[split])


@pytest.fixture
def record(tmp_path: Path) -> Any:
    return Pantry(tmp_path, RUNS).cook()


ADDRESS = {"command": "c", "commit": "1234567", "machine": "m", "date": "2026-01-31"}


def judged(*soups: Any, rows: Any = ROWS) -> judge.Judgement:
    return judge.judge(soups, rows, address=ADDRESS, scorer_of=rows_of)


def reporting(config: RunConfig) -> RunConfig:
    return changed(config, {"data.report": "test"}, "command line")


def test_a_soup_is_judged_on_select_and_on_report(record: Any):
    found = judged((record, reporting(record.config)))
    select, report = found.comparisons
    assert (select.split, report.split, found.remarks) == ("select", "report", [])
    assert select.chose.startswith("These videos chose")
    assert report.chose == ""
    gains = {
        c.split: line.difference
        for c in (select, report)
        for line in c.lines
        if line.key == "greedy"
    }
    assert gains["select"] is not None and gains["report"] is not None
    assert gains["select"].mean == pytest.approx(0.005)  # 0.35 and 0.5, to 0.4
    assert gains["report"].mean == pytest.approx(-0.015)  # to 0.5
    better, worse = found.verdicts
    assert better.startswith("on select the greedy soup is better")
    assert worse.startswith("on report the greedy soup is worse")


def test_soups_of_several_seeds_are_means_over_them_each_beside_its_own_best(tmp_path: Path):
    cooked = [Pantry(tmp_path / name, runs).cook() for name, runs in (("a", RUNS), ("b", OTHERS))]
    alone = [judged((each, reporting(each.config))).comparisons for each in cooked]
    together = judged(*((each, reporting(each.config)) for each in cooked))
    for number, comparison in enumerate(together.comparisons):
        assert comparison.soups == 2
        for line in comparison.lines:
            own = [next(o for o in each[number].lines if _same(o, line)) for each in alone]
            assert line.jf == pytest.approx(np.mean([o.jf for o in own]))
            if line.difference is not None:
                gaps = [o.difference.mean for o in own]  # type: ignore[union-attr]
                assert line.difference.mean == pytest.approx(np.mean(gaps))
    names = {line.key: line.name for line in together.comparisons[0].lines}
    assert (names["best"], names["greedy"]) == ("best single", "greedy soup of 2, 1")
    assert "all" not in names
    files = together.keep()
    assert [path.suffix for path in files] == [".json", ".md"]
    figure = files[0].with_suffix(".png")
    figure.write_text("of an earlier answer")
    together.keep()
    assert not figure.exists()
    assert "3 videos and 2 soups" in together.comparisons[0].notes[0]


def _same(one: Any, other: Any) -> bool:
    return (one.key, one.alpha) == (other.key, other.alpha)


def test_the_command_compares_the_files_of_several_soups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    original = judge.judge
    monkeypatch.setattr(
        "soups.worth.judge.judge",
        lambda soups, rows, **more: original(soups, rows, **more, scorer_of=rows_of),
    )
    cooked = [Pantry(tmp_path / name, runs).cook() for name, runs in (("a", RUNS), ("b", OTHERS))]
    files = [str(each.storage.checkpoint(each.file.sha256)) for each in cooked]
    out = tmp_path / "worth-both.json"
    assert worth.main([*files, "--report", "test", "--out", str(out)]) == 0
    assert "greedy soup of 2, 1" in capsys.readouterr().out
    told = json.loads(out.read_text())
    assert [soup["job"] for soup in told["soups"]] == [each.job.key for each in cooked]
    assert told["command"].startswith("python -m soups.worth ")


def test_soups_chosen_on_different_videos_are_not_compared(record: Any):
    other = changed(record.config, {"data.select_stride": 3}, "command line")
    with pytest.raises(InputError, match="judge them one by one"):
        judged((record, record.config), (record, other))


def test_the_answer_goes_where_it_is_asked_to_and_replaces_nothing(
    record: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "worth-omega.json"
    assert [path.name for path in judged((record, record.config)).keep(out)] == [
        "worth-omega.json",
        "worth-omega.md",
        "worth-omega.png",
    ]
    told = json.loads(out.read_text())
    assert {key: told[key] for key in ADDRESS} == ADDRESS
    assert "commit 1234567" in out.with_suffix(".md").read_text()
    place = str(record.storage.checkpoint(record.file.sha256))
    assert worth.main([place, "--out", str(out)]) == 1
    assert worth.main([place, "--out", str(tmp_path / "x.csv")]) == 2
    assert "ends in .json" in capsys.readouterr().err


def test_without_a_report_split_that_is_said(record: Any):
    found = judged((record, record.config), rows=("greedy",))
    assert [c.split for c in found.comparisons] == ["select"]
    (remark,) = found.remarks
    assert "--report" in remark


def test_the_files_have_every_number_and_a_figure_of_three_panels(record: Any):
    found = judged((record, reporting(record.config)))
    files = found.keep()
    assert [path.suffix for path in files] == [".json", ".md", ".png"]
    assert {path.parent for path in files} == {record.storage.sweeps}
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(found.as_dict()))
    text = files[1].read_text()
    for word in ("on report the greedy soup is worse", "| line from stem to best, 0.5 |", "2.0x"):
        assert word in text, word
    whole = np.asarray(Image.open(files[2])).shape
    figures.draw(record, [], files[2])
    assert np.asarray(Image.open(files[2])).shape[1] == pytest.approx(whole[1] * 2 / 3, abs=2)


def test_figures_show_where_the_ingredients_came_from_and_the_line(record: Any):
    assert sorted(figures.origin(record)) == [
        ("omega=0.0", 10, False),
        ("omega=0.0", 20, True),
        ("omega=0.0", 30, False),
        ("omega=1.0", 10, False),
        ("omega=1.0", 20, False),
        ("omega=1.0", 30, True),
    ]
    (select,) = judged((record, record.config)).comparisons
    line = figures.on_the_line(select)
    assert [alpha for alpha, _ in line] == [0.0, 0.25, 0.5, 0.75, 1.0]
    near = Nearness(0.4)
    values: list[Any] = [0.5 * alpha for alpha, _ in line]
    assert [jf for _, jf in line] == pytest.approx([near({"w": v}).jf for v in values])


def test_the_searches_of_bags_are_lines_of_their_own(record: Any):
    def turn(score: float, accepted: bool, bag: int | None) -> dict[str, Any]:
        return {"score_with": score, "accepted": accepted, "bag": bag}

    def of(*turns: dict[str, Any]) -> Any:
        return SimpleNamespace(souped=SimpleNamespace(decisions=turns))

    first, second = (turn(0.5, True, 1), turn(0.4, False, 1)), (turn(0.3, True, 2),)
    assert figures.searches(of(*first, *second)) == [[(1, 0.5), (2, 0.5)], [(3, 0.3), (3, 0.3)]]
    old = [{key: value for key, value in each.items() if key != "bag"} for each in first]
    assert figures.searches(of(*old)) == [[(1, 0.5), (2, 0.5)]]
    assert len(figures.searches(record)) == 1


def test_training_videos_that_chose_are_called_so(record: Any):
    assert judge.chosen_by(record).startswith("These videos chose")
    record.__dict__["souped"] = replace(record.souped, chosen_on="train")
    assert judge.chosen_by(record).startswith("These training videos chose")


def test_the_command_shows_the_judgement_of_a_soup_in_its_mlflow_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    kitchen = Kitchen(tmp_path)
    made = kitchen.cook()

    original = judge.judge
    monkeypatch.setattr(
        "soups.worth.judge.judge",
        lambda soups, rows, **more: original(soups, rows, **more, scorer_of=rows_of),
    )
    uri = kitchen.tracker.store.uri
    words = ["mlflow:omega", "--report", "test", "--rows", "uniform,greedy"]
    assert worth.main([*words, "--tracking-uri", uri]) == 0
    out = capsys.readouterr().out
    for text in ("greedy soup of 2", "uniform soup of all 3", "on report the greedy soup", uri):
        assert text in out, text
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs(["1"], "tags.`vos.role` = 'soup'")
    names = sorted(Path(file.path).name for file in client.list_artifacts(run.info.run_id, "worth"))
    start = f"{kitchen.sweep}-{made.key}-worth"
    assert names == [f"{start}.json", f"{start}.md", f"{start}.png"]


def test_a_split_that_chose_or_trained_reports_nothing(
    record: Any, capsys: pytest.CaptureFixture[str]
):
    place = str(record.storage.checkpoint(record.file.sha256))
    for split, key in (("val", "data.select"), ("train", "data.train")):
        assert worth.main([place, "--report", split]) == 2
        assert f"is also {key}" in capsys.readouterr().err
