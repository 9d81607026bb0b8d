"""Test which data the checks before a sweep ask for: that of every trial, not of the file alone."""

import numpy as np
import pytest
from PIL import Image

from orchestrator.config import SweepConfig
from orchestrator.planning import preflight
from orchestrator.planning.paths import located
from tests.conftest import write_davis

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
    assert "leave the videos out: data.leave_out=[ant, bee]" in problems
    assert "cat: no object in the first mask" in problems
    assert "cat/00003.png: value 254 beside 255" in problems
    assert "leave the videos out: data.leave_out=[cat]" in problems


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
    assert "data.leave_out: 'eel': no such video or image in" in told(davis_root, data=data)


def test_a_still_image_is_left_out_by_its_file(davis_root, tmp_path):
    for name, size in (("a", (8, 6)), ("b", (8, 6)), ("c", (9, 6))):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (8, 6) if kind == "masks" else size, 255).save(
                tmp_path / kind / f"{name}.{suffix}"
            )
    data = {"root": str(davis_root), "select_height": 48, "static": [{"root": str(tmp_path)}]}
    stage = {"steps": 1, "batch_size": 1, "crop": 32, "lr": 1e-4, "clip_length": 2}
    changes = {
        "stages": [{"name": "static", **stage}, {"name": "video", **stage}],
        "stem": {},
        "train": {},
    }
    assert "c.png: mask of 8x6 pixels for an image of 9x6" in told(davis_root, data=data, **changes)
    check(davis_root, {"loss.ce": [1.0]}, data=data | {"leave_out": ["images/c.jpg"]}, **changes)
