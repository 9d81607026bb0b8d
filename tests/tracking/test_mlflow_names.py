"""Test the names and shapes of what MLflow shows."""

from __future__ import annotations

import json

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import (
    Checkpoint,
    Done,
    Evaluated,
    Gradients,
    Losses,
    Souped,
    Speed,
    Taught,
)
from orchestrator.tracking.mlflow_names import (
    Dataset,
    checkpoint_metrics,
    csv_table,
    dataset_of,
    flat_row,
    flatten,
    metrics_of,
    model_name,
)

CONFIG = {"data": {"root": "/data/DAVIS", "select": "val", "report": "test", "select_height": 240}}


def test_metric_and_model_names_are_those_callers_rely_on():
    assert model_name("omega=0.8", 80) == "omega-0_8-step-80"
    assert model_name("pseudo labels above 80 %", 5) == "pseudo-labels-above-80-step-5"
    assert model_name("inter + intra", 5) == "inter-plus-intra-step-5"
    losses = Losses(3, {"total": 1.0, "ce": 2.0, "logit": 3.0, "repr": 4.0, "grad_norm": 5.0})
    assert [name for name, _, _ in metrics_of(losses)] == [
        "train/loss_total",
        "train/loss_ce",
        "train/loss_logit",
        "train/loss_repr",
        "train/grad_norm",
    ]
    assert list(metrics_of(Losses(3, {"ignored": 0.2}))) == [("train/ignored", 0.2, 3)]
    assert list(metrics_of(Taught("stcn ab", "video", 0.7, 16, 0.1))) == [
        ("train_labels/videos", 16.0, 0),
        ("train_labels/ignored", 0.1, 0),
    ]
    assert list(metrics_of(Taught("stcn ab", "clip", 0.7, 16))) == [
        ("train_labels/videos", 16.0, 0)
    ]
    assert list(metrics_of(Speed(3, {"samples_per_s": 2.0, "data_wait": 0.5}))) == [
        ("speed/samples_per_s", 2.0, 3),
        ("speed/data_wait", 0.5, 3),
    ]
    gradients = Gradients(10, {"ce_z": 1.0, "repr_z": 2.0})
    assert list(metrics_of(gradients)) == [
        ("train_gradients/ce_z", 1.0, 10),
        ("train_gradients/repr_z", 2.0, 10),
    ]
    scores = {"j": 0.1, "f": 0.2, "jf": 0.15, "fps": 9.0}
    assert list(metrics_of(Evaluated(3, scores, split="report"))) == [
        ("report/j", 0.1, 3),
        ("report/f", 0.2, 3),
        ("report/jf", 0.15, 3),
        ("speed/fps", 9.0, 3),
    ]
    assert list(checkpoint_metrics(Checkpoint(3, "a", "p", {"jf": 0.5}))) == [("select/jf", 0.5)]
    assert list(metrics_of(Souped("p", [], [], {"uniform_jf": 0.5}))) == [
        ("soup/uniform_jf", 0.5, 0)
    ]


def test_a_dataset_is_known_by_root_split_and_protocol():
    select = dataset_of("select/jf", CONFIG)
    assert select is not None
    assert select.name == "DAVIS-val"
    assert len(select.digest) <= 36
    other = {"data": {**CONFIG["data"], "select_height": 480}}
    assert dataset_of("select/jf", other) != select
    assert dataset_of("report/jf", other) == dataset_of("report/jf", CONFIG)
    rows = {"data": {**CONFIG["data"], "report_height": 240}}
    assert dataset_of("select/jf", rows) == select
    assert dataset_of("report/jf", rows) != dataset_of("report/jf", CONFIG)
    assert dataset_of("train/loss_total", CONFIG) is None
    elsewhere = {"data": {**CONFIG["data"], "select_root": "/data/DAVIS", "root": "/my/videos"}}
    assert dataset_of("select/jf", elsewhere) == select
    report = dataset_of("report/jf", elsewhere)
    assert report is not None
    assert report.name == "videos-test"


def test_datasets_have_the_names_and_digests_of_earlier_versions():
    reported = DataConfig(report="test")
    rows = DataConfig(report="test", report_height=480)
    other = DataConfig(
        root="/a/davis", select="fit", report="val", select_height=128, select_stride=3
    )
    for data, metric, dataset in (
        (DataConfig(), "select/jf", ("generated-val", "6688021a2ada9aa2")),
        (reported, "report/j", ("generated-test", "86c40ee07a0ef3e3")),
        (rows, "report/j", ("generated-test", "11b911c4085b0e23")),
        # of a trial that began before its sweep named a report split
        (DataConfig(), "report/j", ("generated-report", "8f089f36f0709ef8")),
        (other, "select/jf", ("davis-fit", "1cfe86f2fa898aa9")),
        (other, "report/j", ("davis-val", "aa0060527af8113f")),
    ):
        config = RunConfig(name="omega", data=data).model_dump(mode="json")
        assert dataset_of(metric, config) == Dataset(*dataset), (data, metric)


def test_nested_sections_become_dotted_text():
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": {}, "f": [1, 2]}) == {
        "a.b": "1",
        "a.c.d": "None",
        "e": "{}",
        "f": "[1, 2]",
    }


def test_a_table_has_every_column_of_every_row_and_quotes_commas():
    row = {"name": "a,b", "select": {"jf": 0.5, "sequences": {"x": 1}}}
    assert flat_row(row) == {"name": "a,b", "select jf": 0.5}
    assert csv_table([flat_row(row), {"note": "n"}]).splitlines() == [
        "name,select jf,note",
        '"a,b",0.5,',
        ",,n",
    ]


def test_charts_open_on_scores_and_losses():
    """MLflow sorts its sections of charts by what stands before the slash."""
    scores = {"j": 0.1, "f": 0.2, "jf": 0.15, "fps": 9.0}
    lines = (
        Gradients(1, {"ce_z": 1.0}),
        Taught("stcn", "video", 0.7, 1),
        Done(1.0),
        Losses(1, {"total": 1.0}),
        Evaluated(1, scores),
        Evaluated(1, scores, split="report"),
    )
    sections = sorted({name.split("/")[0] for line in lines for name, _, _ in metrics_of(line)})
    assert sections[:2] == ["report", "select"]
    assert sections[-4:] == ["train", "train_gradients", "train_labels", "usage"]


def test_the_view_of_an_experiment_shows_swept_keys_and_scores_best_first():
    state = json.loads(mlflow_names.view(["loss.omega"]))
    assert state["orderByKey"] == "metrics.`select/jf`"
    assert state["orderByAsc"] is False
    assert state["selectedColumns"][:2] == ["params.`loss.omega`", "metrics.`select/jf`"]


def test_a_sweep_is_named_by_its_experiment_and_its_data(tmp_path):
    assert mlflow_names.sweep_name(RunConfig(name="omega")) == "omega: generated"
    data = DataConfig(root=str(tmp_path / "DAVIS"))
    assert mlflow_names.sweep_name(RunConfig(name="tau", data=data)) == "tau: DAVIS"
