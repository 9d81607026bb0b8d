"""Test which rows of a finished sweep are scored, and which are not."""

import csv
import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loss import LossConfig
from orchestrator.config.sections import SweepSection
from orchestrator.planning.datasets import sequences
from orchestrator.planning.paths import located
from orchestrator.planning.placement import cores
from orchestrator.planning.plan import plan_sweep
from orchestrator.planning.trials import trials
from orchestrator.reporting import sweep_files
from orchestrator.reporting.results import Row
from orchestrator.reporting.sweep_table import SweepTable, _stem_name
from orchestrator.tracking.events import (
    Attention,
    Checkpoint,
    Done,
    Evaluated,
    Losses,
    Picture,
    Started,
)
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.conftest import write_davis
from vosmodels import checkpoint, registry
from vosmodels.evaluation import strata
from vosmodels.evaluation.boundary_errors import BoundaryErrors
from vosmodels.evaluation.runner import FirstFrameCopy, evaluate
from vosmodels.inference.video_need import video_need


def end(job, storage, step):
    """Write a checkpoint of untrained weights, and the ledger of a job that made it and ended."""
    model = registry.build(job.model.name, seed=0, **job.model.options)
    scores = {"j": 0.25, "f": 0.75, "jf": 0.5}
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=step, scores=scores)
    path, sha256 = checkpoint.write(storage.checkpoints, model.state_dict(), info)
    record = Ledger(storage.root).job(job.key)
    with record.claim():
        record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
        record.write(Checkpoint(step=step, sha256=sha256, path=path.name, scores=scores))
        record.write(Done(seconds=60.0 + step, peak_mib=100.0))
    return record


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    root = write_davis(folder / "davis", 2017)
    (root / "ImageSets" / "2017" / "test.txt").write_text("ant\n")
    config = located(
        SweepConfig.model_validate(
            {
                "name": "tiny",
                "data": {"root": str(root), "report": "test", "select_height": 32},
                "student": {"name": "mobilevos_mobilenetv2_noaspp"},
                "stem": {"steps": 1},
                "sweep": {"parameters": {"loss.omega": [0.5]}},
            }
        )
    )
    plan = plan_sweep(config, sweep_id(config), threads=cores())  # all scoring in this process
    storage = Storage(folder / "results")
    table = SweepTable(plan, config, storage)
    assert table.so_far() == []
    records = {job.role: end(job, storage, job.steps) for job in plan.jobs}
    return table, table.rows(), records


def test_rows_have_both_splits_except_the_teacher_that_is_scored_for_choosing_alone(sweep):
    _, rows, _ = sweep
    assert {row.name: list(row.scores) for row in rows} == {
        "first-frame copy": ["select", "report"],
        "stem: cross-entropy only": ["select", "report"],
        "teacher": ["select"],
        "omega=0.5": ["select", "report"],
    }
    assert [row.role for row in rows] == ["anchor", "anchor", "teacher", "trial"]


def test_the_copy_scores_what_an_evaluation_of_it_scores(sweep):
    table, rows, _ = sweep
    errors = BoundaryErrors()
    videos = sequences(table.config.data, "test")
    scores = evaluate(lambda: FirstFrameCopy(), videos, on_scored=errors.add)
    report = rows[0].scores["report"]
    assert report.means == {"j": scores.j, "f": scores.f, "jf": scores.jf}
    assert report.errors.as_dict() == errors.as_dict()
    assert {name: s.objects for name, s in report.sequences.items()} == {"ant": 2}
    assert rows[0].scores["select"].errors is None


def test_a_trial_has_step_cost_curve_and_baseline_and_its_report_is_in_the_ledger(sweep):
    table, rows, records = sweep
    trial = rows[-1]
    steps = table.plan.trials[0].steps
    assert (trial.step, trial.seconds, trial.peak_mib) == (steps, 60.0 + steps, 100.0)
    assert trial.curve == [(steps, 0.25)]
    assert trial.baseline == "stem: cross-entropy only"
    (event,) = records["trial"].of(Evaluated)
    assert (event.split, event.scores) == ("report", trial.scores["report"].means)
    assert not records["teacher"].of(Evaluated)


def test_a_teacher_shows_no_report_even_where_one_is_known(sweep):
    table, rows, _ = sweep
    teacher = next(row for row in rows if row.role == "teacher")
    table.report.checkpoint(teacher.sha256, table._loader(teacher.sha256, table.plan.teacher))
    assert teacher in table.so_far()


def test_what_is_known_is_read_and_not_scored_again(sweep, monkeypatch):
    table, rows, _ = sweep
    monkeypatch.setattr(checkpoint, "read_tensors", None)
    assert SweepTable(table.plan, table.config, table.storage).rows() == rows


def test_a_soup_is_a_row_with_both_splits_and_its_note(sweep):
    table, rows, _ = sweep
    soup = table.soup(rows[-1].sha256, "1 of 1")
    assert (soup.role, soup.note, soup.scores) == ("soup", "1 of 1", rows[-1].scores)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ({"logit": 0, "representation": 0}, "stem: cross-entropy only"),
        ({"logit": 0, "representation": 0, "ce": 0, "dice": 1}, "stem: dice only"),
        ({}, "stem: distilled"),
    ],
)
def test_a_stems_last_row_is_named_by_the_loss_it_was_trained_with(sweep, loss, name):
    stem = dataclasses.replace(sweep[0].plan.stems[0], loss=LossConfig(**loss))
    assert _stem_name(stem, stem.steps) == name
    assert _stem_name(stem, 0) == "untrained student"


def test_a_student_that_has_weights_is_not_called_untrained(sweep):
    stem = sweep[0].plan.stems[0]
    student = stem.config.student.model_copy(update={"weights": "models:/m-1"})
    config = stem.config.model_copy(update={"student": student})
    assert _stem_name(dataclasses.replace(stem, config=config), 0) == "student as given"


def test_the_figures_of_a_sweep_show_the_rows_with_weights(sweep, tmp_path):
    table, rows, records = sweep
    found = sweep_files.costs(table, rows)
    assert [(cost.name, cost.role) for cost in found] == [
        (row.name, row.role) for row in rows if row.sha256
    ]
    by_role = {cost.role: cost for cost in found}
    for row in rows:
        if row.sha256:
            cost = next(cost for cost in found if cost.name == row.name)
            assert cost.jf == row.scores["select"].jf
            assert cost.fps == table.select.known(row.sha256).fps
    longest = max(table.select.videos, key=len)
    height, width = table.config.data.select_height, round(64 * 32 / 48)
    need = video_need(registry.outline("stcn_mobilenetv2"), 2)
    expected = need.of(height, width, len(range(0, len(longest), 2))) / 2**20
    assert by_role["teacher"].mib == pytest.approx(expected)
    assert by_role["trial"].mib < by_role["teacher"].mib
    written = sweep_files.write_files(table, rows, tmp_path)  # no losses, nothing varies
    assert written == {"costs": tmp_path / f"{table.plan.sweep}-costs.png"}
    with records["trial"].claim() as record:
        record.write(Losses(1, {"total": 1.0}))
    losses = sweep_files.write_files(table, rows, tmp_path)["losses"]
    assert losses.name == f"{table.plan.sweep}-losses.png"
    assert losses.stat().st_size > 1000


def test_the_masks_of_the_best_row_are_shown_with_the_numbers_of_their_frames(
    sweep, tmp_path, monkeypatch
):
    table, rows, records = sweep
    trial = table.plan.trials[0]
    picture = table.storage.pictures(trial.key) / "strip.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (400, 100), "red").save(picture)
    shown = []
    monkeypatch.setattr(sweep_files, "draw_masks", lambda *a, **named: shown.append((a, named)))
    assert "masks" not in sweep_files.write_files(table, rows, tmp_path)
    path = picture.relative_to(table.storage.root).as_posix()
    with records["trial"].claim() as record:
        record.write(Attention(trial.steps, path))  # is none of its masks
        record.write(Picture(trial.steps, path))
    assert "masks" in sweep_files.write_files(table, rows, tmp_path)
    ((source, _), named) = shown[-1]
    assert source == picture
    length = len(table.select.videos[0])
    assert named["frames"][0] == 0
    assert named["frames"] == sorted(n for n in named["frames"] if n % 2 == 0 and n < length)
    assert named["title"].startswith(f"omega=0.5, step {trial.steps}: video ")


def test_what_another_sweep_began_is_told(sweep):
    table, _, _ = sweep  # `end` writes sweep "s"
    assert [job.name for job in table.reused()] == [job.name for job in table.plan.jobs]
    plan = dataclasses.replace(table.plan, sweep="s")
    assert SweepTable(plan, table.config, table.storage).reused() == []


def test_a_sweep_has_a_table_of_its_strata(sweep, tmp_path, monkeypatch):
    table, rows, _ = sweep
    monkeypatch.setattr(strata, "RULES", {"object 2": lambda video: [2]})
    path = sweep_files.write_files(table, rows, tmp_path)["strata"]
    assert path.name == f"{table.plan.sweep}-strata.csv"
    lines = list(csv.DictReader(path.read_text().splitlines()))
    assert [(line["split"], line["row"]) for line in lines] == [
        (split, row.name) for split in ("select", "report") for row in rows if split in row.scores
    ]
    errors = BoundaryErrors()
    videos = sequences(table.config.data, "test")
    scores = evaluate(lambda: FirstFrameCopy(), videos, on_scored=errors.add)
    (copied,) = [line for line in lines if line["split"] == "report" and "copy" in line["row"]]
    assert copied["stratum"] == "object 2"
    assert float(copied["j"]) == scores.sequences[0].objects[2].j
    assert (copied["objects"], copied["videos"]) == ("1", "1")
    (trial,) = [row for row in rows if row.role == "trial"]
    (chosen,) = [line for line in lines if (line["split"], line["role"]) == ("select", "trial")]
    known = table.select.known(trial.sha256)
    seconds = [video.objects[2].f for video in known.sequences]
    assert float(chosen["f"]) == pytest.approx(sum(seconds) / len(seconds))
    assert int(chosen["videos"]) == len(known.sequences)
    assert known != table.report.known(trial.sha256)


def test_a_point_that_sets_no_number_is_a_level_and_no_place_of_the_curve():
    points = {"plain": {"loss.logit": 0.0}, "a": {"loss.omega": 0.2}, "b": {"loss.omega": 1.0}}
    config = SweepConfig(name="t", sweep=SweepSection(points=points))
    places = trials(config)
    jobs = [SimpleNamespace(name=place.name) for place in places]
    plan = SimpleNamespace(trials=jobs, points=places)
    table: Any = SimpleNamespace(config=config, plan=plan)
    jfs = {"a": 0.5, "b": 0.6}
    scores: Any = {name: {"select": SimpleNamespace(jf=jf)} for name, jf in jfs.items()}
    rows = [Row(name, "trial", scores.get(name, scores["a"])) for name in ("plain", "a", "b")]
    found = sweep_files.measured(table, rows)
    assert [(each.values, each.jf) for each in found] == [
        ({"omega": 0.2}, 0.5),
        ({"omega": 1.0}, 0.6),
    ]
