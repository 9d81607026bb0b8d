"""Test the graphs in ONNX Runtime: against the model, on a real video, and without torch."""

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from soups.average import average
from tests.export.graphs import follows_the_model, frames_of, saved, segment_alone
from tests.model_tools import SHARED, any_filled
from vosmodels import checkpoint, demo, registry
from vosmodels.data.davis import DavisDataset
from vosmodels.data.frames import frame_tensor, scaled_frame, scaled_mask
from vosmodels.export.check import check
from vosmodels.export.folder import Request, export
from vosmodels.memory_rule import MemoryRule

pytestmark = pytest.mark.slow
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

STUDENTS = ("mobilevos_mobilenetv2_noaspp", "mobilevos_mobilenetv2", "mobilevos_resnet18")
DAVIS = SHARED / "data" / "davis16"
ROWS, FRAMES = 240, 20
LATE = 6  # the frame in which the last of three parts is given


def souped(name):
    """A soup of two students."""
    one, other = any_filled(name), registry.build(name, seed=1)
    one.load_state_dict(average([one.state_dict(), other.state_dict()]))
    return one


@pytest.mark.parametrize(
    "model", [partial(any_filled, name) for name in STUDENTS[1:]] + [partial(souped, STUDENTS[0])]
)
def test_every_student_s_graphs_do_what_it_does_and_a_soup_s(tmp_path, model):
    file = saved(model(), tmp_path)
    export(file, Request(41, 80, objects=2), tmp_path / "out")
    assert check(tmp_path / "out", threads=1).passed


def test_the_graphs_of_aot_do_what_it_does(tmp_path):
    model, rule = any_filled("aott"), MemoryRule.of("first,last,2x3")
    export(saved(model, tmp_path), Request(40, 61, objects=2, memory=rule), tmp_path / "out")
    given = {n: np.zeros((40, 61), np.int64) for n in (0, 3)}
    given[0][5:25, 5:20] = 4
    given[3][15:35, 30:50] = 9
    follows_the_model(tmp_path / "out", model, rule, frames_of(8, (40, 61)), given)


def test_a_folder_alone_segments_without_torch_and_without_this_package(tmp_path):
    file = saved(any_filled(STUDENTS[0]), tmp_path)
    out = tmp_path / "out"
    export(file, Request(48, 80, objects=2), out)
    segment_alone(out)
    clip = ("clip/frames", "clip/expected/00000.png", str(tmp_path / "masks"))
    words = [sys.executable, "-S", "-m", "runner", *clip]
    places = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("site-packages"))}
    subprocess.run(words, cwd=out, env=places, capture_output=True, check=True)
    assert len(list((tmp_path / "masks").iterdir())) == 8


def test_smaller_weights_take_fewer_bytes_and_change_few_pixels(tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        out = tmp_path / precision
        sidecar = export(demo.student_file(), Request(96, 160, 1, precision=precision), out)
        sizes[precision] = sum(graph.bytes for graph in sidecar.graphs.values())
        assert check(out, threads=1).differing < 0.02
    assert sizes["fp16"] < 0.56 * sizes["fp32"]
    assert sizes["int8"] < 0.34 * sizes["fp32"]


@pytest.mark.skipif(not DAVIS.is_dir(), reason="no real video beside this checkout")
@pytest.mark.parametrize("name", [demo.DEMO, "deaott_deformable"])
def test_the_graphs_follow_a_real_video_as_the_model_does_with_a_late_object_too(tmp_path, name):
    file = demo.student_file() if name == demo.DEMO else saved(any_filled(name), tmp_path)
    video = next(v for v in DavisDataset(DAVIS).sequences("train") if v.name == "swing")
    frames = [frame_tensor(scaled_frame(video, number, ROWS)) for number in range(FRAMES)]
    size = (frames[0].shape[1], frames[0].shape[2])
    given = {0: parts(scaled_mask(video, 0, ROWS), (1, 2, 0))}
    given[LATE] = parts(scaled_mask(video, LATE, ROWS), (0, 0, 3))
    model, rule = checkpoint.load_model(file), MemoryRule.of("first,last,2x3")
    export(file, Request(*size, objects=3, memory=rule), tmp_path / "out")
    ids = follows_the_model(tmp_path / "out", model, rule, frames, given)
    assert set(np.unique(ids)) >= {0, 3}  # the demo loses the middle part, with graphs or without


def parts(mask, ids):
    """Name the upper, middle and lower third of an object's pixels."""
    rows = np.nonzero(mask)[0]
    cuts = np.quantile(rows, (1 / 3, 2 / 3))
    third = np.searchsorted(cuts, np.arange(len(mask)))
    return np.where(mask > 0, np.array(ids)[third][:, None], 0)
