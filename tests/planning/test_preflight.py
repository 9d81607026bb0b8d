"""Test which data and weights the checks before a sweep ask for: those of every trial."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from orchestrator.config import SweepConfig
from orchestrator.config.loading import load, load_run
from orchestrator.planning import preflight
from orchestrator.planning.paths import located
from tests import youtubevos
from tests.conftest import write_davis
from vosmodels import checkpoint, registry

SWEEPS = Path(__file__).parents[2] / "sweeps"
LABEL_FREE = {"ce": 0.0, "logit": 1.0, "representation": 0.0, "sampling": "all"}


@pytest.fixture
def first_masks(tmp_path):
    """A DAVIS folder whose training videos have the mask of their first frame alone."""
    root = write_davis(tmp_path / "davis", 2016)
    for name in ("ant", "bee"):
        for path in sorted((root / "Annotations/480p" / name).iterdir())[1:]:
            path.unlink()
    return root


def check(root, swept, **changes):
    values = {
        "name": "free",
        "data": {"root": str(root), "select_height": 48},
        "loss": LABEL_FREE,
        "stem": {"steps": 0},
        "teacher": {"steps": 0},
        "train": {"steps": 2, "clip_length": 3, "crop": 32},
        "sweep": {"parameters": swept},
    }
    preflight.check(located(SweepConfig.model_validate(values | changes)))


def write_stills(root, sizes):
    """Images of the given (width, height), each with a mask of 8 x 6 pixels."""
    for name, size in sizes.items():
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 6) if kind == "masks" else size, 255).save(
                root / kind / f"{name}.{suffix}"
            )


def test_trials_that_read_no_labels_need_the_first_masks_alone(first_masks):
    check(first_masks, {"loss.tau": [0.1, 1.0]})
    check(first_masks, {"loss.ce": [0.0]}, loss={**LABEL_FREE, "ce": 1.0})


def test_one_trial_that_reads_labels_needs_them_all(first_masks):
    with pytest.raises(preflight.Missing, match="image without mask"):
        check(first_masks, {"loss.ce": [0.0, 1.0]})


def test_a_stem_of_labels_in_one_trial_needs_them_all(first_masks):
    check(first_masks, {"loss.tau": [0.1]}, stem={"steps": 0})
    with pytest.raises(preflight.Missing, match="image without mask"):
        check(first_masks, {"loss.tau": [0.1]}, stem={"steps": 1})


def told(root, **changes):
    """Return the problems of a run that reads every label."""
    with pytest.raises(preflight.Missing) as caught:
        check(root, {"loss.ce": [1.0]}, loss={**LABEL_FREE, "ce": 1.0}, **changes)
    return " | ".join(caught.value.problems)


def test_every_unusable_file_is_told_at_once_before_anything_starts(davis_root):
    images, masks = (davis_root / kind / "480p" for kind in ("JPEGImages", "Annotations"))
    Image.new("RGB", (64, 48), (9, 0, 0)).save(masks / "ant/00001.png")
    frame = images / "bee/00002.jpg"
    frame.write_bytes(frame.read_bytes()[:-40])
    for path in (images / "bee/00005.jpg", masks / "bee/00005.png"):
        path.unlink()
    Image.new("L", (64, 48)).save(masks / "cat/00000.png")
    void = np.zeros((48, 64), np.uint8)
    void[0] = np.arange(64) % 2 + 254
    Image.fromarray(void).save(masks / "cat/00003.png")
    problems = told(davis_root, train={"steps": 2, "clip_length": 6, "crop": 32})
    assert "ant/00001.png: mode 'RGB' with colour (9, 0, 0)" in problems
    assert "bee/00002.jpg: corrupt picture" in problems
    assert "bee: 5 frames with masks, too short for a clip of 6" in problems
    assert 'leave the videos out: \'data.leave_out=["ant", "bee"]\'' in problems
    assert "cat: no object in the first mask" in problems
    assert "cat/00003.png: value 254 beside 255" in problems
    assert "leave the videos out: 'data.leave_out=[\"cat\"]'" in problems


def test_videos_too_short_for_the_stride_are_told_with_the_broken_ones(davis_root):
    lists = davis_root / "ImageSets/2016"
    (lists / "val.txt").write_text("bee\ncat\n")
    (lists / "train.txt").write_text("ant\n")
    (davis_root / "Annotations/480p/bee/00003.png").unlink()
    data = {"root": str(davis_root), "select_height": 48, "select_stride": 3}
    problems = told(davis_root, data=data)
    assert "bee/00003.jpg: image without mask" in problems
    assert "cat: 6 frames at stride 3 leave nothing to score; wanted at least 3" in problems


def test_what_is_left_out_is_not_asked_for(davis_root):
    (davis_root / "Annotations/480p/bee/00001.png").unlink()
    data = {"root": str(davis_root), "select_height": 48}
    check(davis_root, {"loss.ce": [1.0]}, data=data | {"leave_out": ["bee"]})


def test_a_name_that_leaves_nothing_out_is_told(davis_root):
    data = {"root": str(davis_root), "select_height": 48, "leave_out": ["ant", "eel"]}
    assert "data.leave_out: 'eel', to be left out: no such video or image in" in told(
        davis_root, data=data
    )


def test_a_still_image_is_left_out_by_its_file(davis_root, tmp_path):
    write_stills(tmp_path, {"a": (8, 6), "b": (8, 6), "c": (9, 6)})
    data = {"root": str(davis_root), "select_height": 48, "static": [{"root": str(tmp_path)}]}
    stage = {"steps": 1, "batch_size": 1, "crop": 32, "lr": 1e-4, "clip_length": 2}
    changes = {
        "stages": [{"name": "static", **stage}, {"name": "video", **stage}],
        "stem": {},
        "train": {},
    }
    assert "c.png: mask of 8x6 pixels for an image of 9x6" in told(davis_root, data=data, **changes)
    check(davis_root, {"loss.ce": [1.0]}, data=data | {"leave_out": ["images/c.jpg"]}, **changes)


def trained(folder, name, **options):
    """The checkpoint of a model with random weights."""
    model = registry.build(name, seed=0, **options)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    return checkpoint.write(folder, model.state_dict(), info)[0]


def bare(folder, name):
    """The weights of a model in a file that does not describe them."""
    path = folder / "bare.safetensors"
    safetensors.torch.save_file(dict(registry.build(name, seed=0).state_dict()), path)
    return path


STUDENT = "mobilevos_mobilenetv2"
NOASPP = f"{STUDENT}_noaspp"


@pytest.mark.parametrize(
    ("of", "options", "given", "overrides"),
    [
        (NOASPP, {}, {}, f"student.name={NOASPP}"),
        (None, {}, {}, f"student.name={NOASPP}"),
        (
            "stcn_mobilenetv2",
            {},
            {"queue": 3},
            "student.name=stcn_mobilenetv2 'student.options={}'",
        ),
        (
            STUDENT,
            {"queue": 5, "key_channels": 32},
            {"queue": 3},
            "student.options.key_channels=32",
        ),
        (
            STUDENT,
            {"aspp_rates": (2, 4, 6)},
            {"key_channels": 32},
            "'student.options.aspp_rates=[2,4,6]' student.options.key_channels=64",
        ),
    ],
)
def test_weights_of_another_model_are_told_with_the_overrides_that_make_them_fit(
    tmp_path, of, options, given, overrides
):
    path = trained(tmp_path, of, **options) if of else bare(tmp_path, NOASPP)
    file = tmp_path / "run.yaml"
    root = write_davis(tmp_path / "davis", 2016)
    values = {
        "data": {"root": str(root), "select_height": 48},
        "loss": LABEL_FREE,
        "teacher": {"steps": 0},
        "train": {"steps": 2, "clip_length": 3, "crop": 32},
        "student": {"name": STUDENT, "weights": str(path), "options": given},
    }
    file.write_text(json.dumps(values))
    with pytest.raises(preflight.Missing) as caught:
        preflight.check(located(load_run(file)))
    (problem,) = caught.value.problems
    assert problem.startswith(f"student.weights: {path}: weights of another model: ")
    assert problem.endswith(f"; to use them set {overrides}")
    preflight.check(located(load_run(file, shlex.split(overrides))))


def test_weights_that_no_model_fits_are_told_so(first_masks, tmp_path):
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(preflight.Missing, match="no model of the registry fits them"):
        check(first_masks, {"loss.tau": [0.1]}, teacher={"weights": str(path)})


def test_weights_of_every_trial_are_looked_for(first_masks, tmp_path):
    odd, gone = tmp_path / "odd.safetensors", tmp_path / "gone.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, odd)
    with pytest.raises(preflight.Missing) as caught:
        check(first_masks, {"teacher.weights": [str(odd), str(gone)], "loss.tau": [0.1, 0.2]})
    told = [line for line in caught.value.problems if line.startswith("teacher.weights: ")]
    assert [path in line for path, line in zip([str(odd), str(gone)], told, strict=True)] == [1, 1]
    assert caught.value.unusable == {told[0]}


def test_weights_that_are_no_numbers_and_a_damaged_cache_are_told_together(
    first_masks, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "mobilenet_v2-b0353104.pth").write_bytes(b"cut")
    path = bare(tmp_path, STUDENT)
    state = safetensors.torch.load_file(path)
    state["key_comp.weight"][0, 0, 0, 0] = float("nan")
    safetensors.torch.save_file(state, path)
    with pytest.raises(preflight.Missing) as caught:
        check(
            first_masks,
            {"loss.tau": [0.1]},
            student={"name": STUDENT, "weights": str(path)},
            teacher={"backbone": "imagenet", "steps": 0},
        )
    weights, backbone = caught.value.problems
    assert weights.startswith(f"student.weights: {path}: 1 of ")
    assert "'key_comp.weight' has NaN (1 of " in weights
    assert backbone.startswith(f"teacher.backbone: {cache / 'mobilenet_v2-b0353104.pth'}: corrupt")


def test_a_folder_whose_name_is_too_long_is_told_by_its_keys(tmp_path):
    with pytest.raises(preflight.Missing) as caught:
        check(tmp_path / ("x" * 5000), {"loss.tau": [0.1]})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "data.train 'train'",
        "data.select 'val'",
    ]
    assert all("File name too long" in problem for problem in caught.value.problems)


STILLS = ("fss", "DUTS-TR", "DUTS-TE", "ecssd", "BIG_small", "HRSOD_small")


@pytest.mark.parametrize("name", ["deformable", "mobilenetv2", "resnet18"])
def test_the_papers_schedules_lack_only_weights_where_their_folders_are(
    name, tmp_path, monkeypatch
):
    write_davis(tmp_path / "data/DAVIS/2017", 2017)
    youtubevos.write(tmp_path / "data/YouTube")
    for folder in STILLS:
        write_stills(tmp_path / "data/static" / folder, {"a": (8, 6), "b": (8, 6)})
    monkeypatch.chdir(tmp_path)
    small = ["data.select_stride=1", "data.leave_out=[owl]"]  # as these videos are
    with pytest.raises(preflight.Missing) as caught:
        preflight.check(located(load(SWEEPS / "paper" / f"{name}.yaml", small)))
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["teacher.weights"]
