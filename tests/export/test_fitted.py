"""Test graphs on videos of other sizes than theirs, and in `segment`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator import evaluate, segment
from tests.export.graphs import exported, frames_of, run_in_torch
from tests.model_tools import any_filled
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError
from vosmodels.export.fitted import FittedSegmenter, rows_seen
from vosmodels.export.runner import Runner
from vosmodels.inference import VideoSegmenter, for_inference
from vosmodels.inference.scaled import ScaledSegmenter

STUDENT = "mobilevos_mobilenetv2_noaspp"


@pytest.fixture(autouse=True)
def in_torch(monkeypatch):
    run_in_torch(monkeypatch)


@pytest.fixture
def model():
    return any_filled(STUDENT)


def ids_on(size, objects=1):
    mask = torch.zeros(size, dtype=torch.int64)
    for i in range(objects):
        mask[4 + 5 * i : 8 + 5 * i, 4:20] = i + 1
    return mask


@pytest.mark.parametrize(("size", "rows"), [((64, 96), 32), ((32, 48), 32), ((96, 144), 32)])
def test_a_larger_video_of_the_same_aspect_is_seen_as_by_a_scaled_segmenter(
    tmp_path, model, size, rows
):
    runner = Runner(exported(model, tmp_path, (32, 48)))
    fitted = FittedSegmenter(runner)
    scaled = ScaledSegmenter(VideoSegmenter(for_inference(model)), rows)
    assert rows_seen(runner, size) == rows
    for number, frame in enumerate(frames_of(4, size)):
        mask = None if number else ids_on(size)
        fitted.step(frame, mask)
        scaled.step(frame, mask)
        assert torch.allclose(fitted.probabilities, scaled.probabilities, atol=1e-4)


@pytest.mark.parametrize(("size", "rows"), [((20, 30), 20), ((48, 32), 32), ((33, 48), 32)])
def test_every_size_fits_and_comes_back_as_it_was(tmp_path, model, size, rows):
    runner = Runner(exported(model, tmp_path, (32, 48)))
    assert rows_seen(runner, size) == rows
    fitted = FittedSegmenter(runner)
    for number, frame in enumerate(frames_of(2, size)):
        assert fitted.step(frame, None if number else ids_on(size)).shape == size


def test_a_video_of_which_too_few_rows_would_be_left_is_refused(tmp_path, model):
    runner = Runner(exported(model, tmp_path, (32, 48)))
    with pytest.raises(InputError, match="30x200 video in graphs of 32x48: 7 rows would be"):
        FittedSegmenter(runner).step(frames_of(1, (30, 200))[0], ids_on((30, 200)))


def test_a_second_segmenter_starts_another_video(tmp_path, model):
    runner = Runner(exported(model, tmp_path, (32, 48)))
    frames = frames_of(3, (32, 48))
    answers = []
    for _ in range(2):
        fitted = FittedSegmenter(runner)
        answers.append(
            [fitted.step(f, None if n else ids_on((32, 48))) for n, f in enumerate(frames)]
        )
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def test_evaluate_scores_the_graphs_as_the_checkpoint(tmp_path, model, davis17_root, capsys):
    out = exported(model, tmp_path, (48, 64), objects=2)
    words = ["--data", str(davis17_root), "--json"]
    assert evaluate.main(["--checkpoint", str(out), "--runtime", "onnx", *words]) == 0
    by_graphs = json.loads(capsys.readouterr().out)
    file = next((tmp_path / "checkpoints").iterdir())
    assert evaluate.main(["--checkpoint", str(file), *words]) == 0
    by_torch = json.loads(capsys.readouterr().out)
    assert by_graphs["mean"]["jf"] == pytest.approx(by_torch["mean"]["jf"], abs=0.02)
    assert by_graphs["source"] == f"{out}, by ONNX Runtime"
    assert (
        evaluate.main(["--checkpoint", str(out), "--runtime", "onnx", "--height", "16", *words])
        == 2
    )
    assert "--height with --runtime onnx: the graphs have their own" in capsys.readouterr().err


@pytest.fixture
def video(tmp_path):
    folder = tmp_path / "video"
    folder.mkdir()
    for number, frame in enumerate(frames_of(3, (32, 48))):
        picture = (frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number:05d}.png")
    write_palette(tmp_path / "first.png", ids_on((32, 48), 2).numpy())
    return ["--video", str(folder), "--mask", str(tmp_path / "first.png")]


def test_segment_runs_the_graphs_and_says_so(tmp_path, model, video, capsys):
    out = exported(model, tmp_path, (32, 48), objects=2)
    words = ["--checkpoint", str(out), "--runtime", "onnx", *video]
    assert segment.main([*words, "--out", str(tmp_path / "by-graphs"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["runtime"] == "onnx"
    assert (answer["memory"], answer["height"]) == ("first,last", 32)
    assert answer["checkpoint"] == f"{out}: graphs of {STUDENT}, by ONNX Runtime"
    assert len(list((tmp_path / "by-graphs").glob("*.png"))) == 3
    assert segment.main([*words, "--out", str(out / "masks")]) == 2
    assert "inside --checkpoint" in capsys.readouterr().err


def test_segment_with_graphs_refuses_what_they_do_not_take(tmp_path, model, video, capsys):
    out = exported(model, tmp_path, (32, 48))
    words = ["--checkpoint", str(out), "--runtime", "onnx", *video]
    assert segment.main([*words, "--memory", "all", "--height", "32", "--device", "cuda"]) == 2
    told = capsys.readouterr().err
    assert "--memory, --height, --device with --runtime onnx: the graphs have their own" in told
    assert segment.main([*words, "--out", str(tmp_path / "masks")]) == 1
    told = capsys.readouterr().err
    assert f"2 objects in the mask, and the graphs of {out} take 1 at most: export with" in told
    words[3] = "litert"
    assert segment.main(words) == 1
    told = capsys.readouterr().err
    assert f"{out}: its graphs are for ONNX Runtime, not for LiteRT; give --runtime onnx" in told
    words[1] = str(tmp_path / "absent")
    assert segment.main(words) == 1
    assert "absent: no such folder; give one of: python -m" in capsys.readouterr().err
    words[1] = str(tmp_path)
    assert segment.main(words) == 1
    assert "student.json: no such file; give a folder of vosmodels" in capsys.readouterr().err
