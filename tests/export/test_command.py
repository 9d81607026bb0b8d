"""Test `python -m vosmodels.export`: its answers, its refusals, and what is left on disk."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.graphs import exported, run_in_torch, saved
from tests.model_tools import any_filled
from vosmodels import demo
from vosmodels.export import folder, runner
from vosmodels.export.__main__ import main
from vosmodels.export.formats import FORMATS
from vosmodels.export.runner import SIDECAR
from vosmodels.support.digests import sha256_of

STUDENT = "mobilevos_mobilenetv2_noaspp"
SIZED = ("--format", "onnx", "--size", "32x48")


@pytest.fixture(autouse=True)
def in_torch(monkeypatch, tmp_path):
    run_in_torch(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def student(tmp_path):
    return saved(any_filled(STUDENT), tmp_path / "checkpoints")


def told(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def failed(capsys, code, *words):
    assert main([*map(str, words)]) == code
    return capsys.readouterr().err


def test_a_folder_says_all_that_a_caller_must_know(student, tmp_path, capsys):
    words = (student, *SIZED, "--objects", "2", "--memory", "first,last,2x5", "--licence", "mine")
    answer = told(capsys, *words, "--out", "out")
    out = tmp_path / "out"
    assert answer == json.loads((out / SIDECAR).read_text())
    assert answer["frame"]["mean"] == [0.485, 0.456, 0.406]
    assert answer["memory"] == {
        "kind": "slots",
        "rule": "first,last,2x5",
        "frames": 4,
        "every": 5,
        "last": True,
        "positions": 6,
        "read": 20,
        "hidden": -1e4,
    }
    assert answer["graphs"]["step"]["inputs"]["memory_key"] == [2, 4, 6, 64]
    assert answer["graphs"]["step"]["outputs"]["probabilities"] == [3, 32, 48]
    assert answer["graphs"]["begin"]["inputs"]["masks"] == [1, 2, 32, 48]
    assert answer["checkpoint"]["sha256"] == sha256_of(student)
    assert answer["checkpoint"]["scores"] == {"jf": 0.5}
    assert answer["licences"] == ["mine"]
    own = Path(runner.__file__).read_text()
    assert (out / "runner.py").read_text() == own + folder.RUN
    assert sorted(path.name for path in out.iterdir()) == [
        *("begin.onnx", "clip", "runner.py", "step.onnx", "student.json"),
    ]


def test_the_model_s_own_memory_is_exported_where_none_is_given(student, capsys):
    assert told(capsys, student, *SIZED)["memory"]["rule"] == "first,last"


def test_the_student_that_ships_carries_its_licences(monkeypatch, student, capsys):
    monkeypatch.setattr(demo, "_STUDENT", student)
    assert told(capsys, "demo", *SIZED, "--out", "a")["licences"] == list(demo.LICENCES)
    assert told(capsys, student, *SIZED, "--out", "b")["licences"] == []


def test_the_clip_has_a_late_object_where_there_are_several(tmp_path):
    out = exported(any_filled(STUDENT), tmp_path, objects=3)
    given = {path.stem: np.unique(np.asarray(Image.open(path))) for path in given_masks(out)}
    assert {frame: ids.tolist() for frame, ids in given.items()} == {
        "00000": [0, 1, 2],
        "00003": [0, 3],
    }
    alone = exported(any_filled(STUDENT), tmp_path / "alone")
    assert [path.stem for path in given_masks(alone)] == ["00000"]


def given_masks(out):
    return sorted((out / "clip" / "given").iterdir())


def test_a_whole_export_passes_its_check_and_a_spoilt_one_does_not(student, tmp_path, capsys):
    told(capsys, student, *SIZED, "--objects", "2", "--out", "out")
    found = told(capsys, "--check", "out")
    assert (found["passed"], found["differing"]) == (True, 0.0)
    path = tmp_path / "out" / "clip" / "expected" / "00005.png"
    expected = Image.open(path)
    expected.paste(7, (0, 0, 20, 20))
    expected.save(path)
    share = 400 / (32 * 48 * found["frames"])
    assert f"{share:.4%} of pixels differ, NOT as the model" in failed(capsys, 1, "--check", "out")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ({"objects": 0}, "objects: Input should be greater than or equal to 1"),
        ({"colour": "BGR"}, "colour: Extra inputs are not permitted"),
        ({"graphs": {}}, "sha256"),
    ],
)
def test_a_description_that_breaks_its_schema_is_told_by_its_keys(
    student, tmp_path, capsys, spoil, problem
):
    answer = told(capsys, student, *SIZED, "--out", "out")
    if spoil == {"graphs": {}}:
        spoil = {
            "graphs": {**answer["graphs"], "step": {**answer["graphs"]["step"], "sha256": "x"}}
        }
    (tmp_path / "out" / SIDECAR).write_text(json.dumps({**answer, **spoil}))
    error = failed(capsys, 1, "--check", "out")
    assert problem in error
    assert "export again" in error


def test_all_problems_of_a_command_line_are_told_at_once(capsys):
    error = failed(capsys, 2, "--size", "8x48", "--objects", "0")
    assert [line.split(":")[0] for line in error.removeprefix("error: ").splitlines()] == [
        *("FILE", "--format", "--size 8x48", "--objects 0"),
    ]
    assert "no FILE beside it" in failed(capsys, 2, "a.safetensors", "--check", "out")
    assert "orchestrator.fetch models:/m-1" in failed(capsys, 2, "models:/m-1", *SIZED)
    assert "absent.safetensors: no such file" in failed(capsys, 1, "absent.safetensors", *SIZED)
    assert "no such file; give a folder" in failed(capsys, 1, "--check", "absent")


def test_a_memory_that_grows_is_refused(student, capsys):
    error = failed(capsys, 2, student, *SIZED, "--memory", "all")
    assert "memory all: it grows with the video" in error


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("onnx", "pip install 'vos-distill[onnx]'"),
        ("litert", "make install-litert, then .venv-litert/bin/python -m vosmodels.export ..."),
        ("executorch", "pip install 'vos-distill[executorch]'"),
    ],
)
def test_a_missing_package_is_named_with_what_brings_it(
    student, monkeypatch, tmp_path, capsys, name, remedy
):
    facts = replace(FORMATS[name], writing=("numpy", "no_such_package"))
    monkeypatch.setitem(FORMATS, name, facts)
    error = failed(capsys, 1, student, "--format", name, "--size", "32x48", "--out", "out")
    assert error.startswith(f"error: --format {name}: no_such_package not installed; {remedy}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "suffix"), [("litert", "tflite"), ("executorch", "pte")])
def test_another_format_has_the_same_graphs_under_its_own_suffix(
    student, monkeypatch, tmp_path, capsys, name, suffix
):
    monkeypatch.setitem(FORMATS, name, replace(FORMATS[name], writing=()))
    expected = told(capsys, student, *SIZED, "--out", "onnx")
    answer = told(capsys, student, "--format", name, "--size", "32x48", "--out", "other")
    assert answer["runtime"] == name
    for kind, graph in answer["graphs"].items():
        assert graph["file"] == f"{kind}.{suffix}"
        assert (tmp_path / "other" / graph["file"]).is_file()
        assert [graph[end] for end in ("inputs", "outputs")] == [
            expected["graphs"][kind][end] for end in ("inputs", "outputs")
        ]
    assert told(capsys, "--check", "other")["passed"]


def test_a_precision_that_a_format_does_not_offer_is_refused_with_the_reason(student, capsys):
    words = (student, "--format", "executorch", "--size", "32x48", "--precision", "int8")
    error = failed(capsys, 2, *words)
    assert "--precision int8: ExecuTorch takes fp32; its convolutions compute in the type" in error


def test_a_page_runs_onnx_graphs_alone(student, capsys):
    error = failed(capsys, 2, "--web", "page", student, "--format", "litert")
    assert "--format litert: a page runs onnx graphs; leave it out" in error


def test_an_earlier_export_is_replaced_when_asked_and_other_files_stay(student, tmp_path, capsys):
    told(capsys, student, *SIZED, "--out", "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "holds 6 files already" in failed(capsys, 1, student, *SIZED, "--out", "out")
    told(capsys, student, *SIZED, "--objects", "2", "--out", "out", "--overwrite")
    assert json.loads((tmp_path / "out" / SIDECAR).read_text())["objects"] == 2
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert told(capsys, "--check", "out")["passed"]


def test_an_export_that_fails_half_way_leaves_nothing(student, tmp_path, monkeypatch, capsys):
    def fail(*args, **options):
        raise RuntimeError("no memory")

    monkeypatch.setattr(folder, "parity_clip", fail)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert "no memory" in failed(capsys, 1, student, *SIZED, "--out", "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
