"""Test what the speed command measures and prints."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vosmodels import checkpoint, registry
from vosmodels.evaluation.speed import graphs, tables, timing
from vosmodels.evaluation.speed.__main__ import main
from vosmodels.model import VideoModel

STUDENT = "mobilevos_mobilenetv2_noaspp"
SMALL = ["--size", "32x48", "--frames", "2"]


@pytest.fixture(scope="module")
def student() -> VideoModel:
    return registry.build(STUDENT, seed=0)


def test_one_measurement_has_the_keys_that_scripts_read(capsys: pytest.CaptureFixture[str]):
    assert main(["--model", STUDENT, *SMALL, "--objects", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"median_ms", "p95_ms", "fps", "peak_mib", "parameters", "device", "size"} <= set(told)
    assert told["parameters"] == 1_892_936
    assert (told["size"], told["frames"], told["objects"]) == ("32x48", 2, 2)
    assert 0 < told["median_ms"] <= told["p95_ms"]


def test_a_checkpoint_is_timed_as_its_model(
    student: VideoModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    info = checkpoint.CheckpointInfo.of(student, ancestor=None, step=0)
    path, _ = checkpoint.write(tmp_path, student.state_dict(), info)
    assert main(["--checkpoint", str(path), *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 1_892_936


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of one and three frames, each cell run twice."""
    for name, value in (("SHORT", 1), ("LONG", 3), ("RUNS", dict.fromkeys(tables.RUNS, 2))):
        monkeypatch.setattr(tables, name, value)


TABLE = ["--model", STUDENT, "--size", "32x48", "--threads", str(torch.get_num_threads())]


@pytest.mark.usefixtures("tiny")
def test_the_durations_are_short_and_long_for_so_many_objects(
    capsys: pytest.CaptureFixture[str],
):
    assert main([*TABLE, "--durations", "--objects", "2", "--json"]) == 0
    told = capsys.readouterr()
    made = json.loads(told.out)
    assert [(row["objects"], row["frames"]) for row in made["rows"]] == [(2, 1), (2, 3)]
    assert [len(row["fps_runs"]) for row in made["rows"]] == [2, 2]
    assert "objects 2, frames 3: " in told.err
    assert "4 of 4 runs, about 0 min left" in told.err


def test_the_queues_go_to_all_and_the_table_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(tables.RUNS, "queues", 1)
    monkeypatch.setattr(tables, "LENGTHS", (1, 2))
    assert main([*TABLE, "--queues", "--frames", "1"]) == 0
    told = capsys.readouterr().out
    assert "1.9 M parameters" in told
    assert re.findall(r"│ +(\w+) │ +1 │ +1 │", told) == ["1", "2", "all"]


@pytest.mark.parametrize("frames", [1, 2, 3, 20])
def test_a_queue_remembers_as_many_frames_as_it_is_long(student: VideoModel, frames: int):
    rule = graphs.queue_rule(frames)
    assert rule.frames == frames
    by_rule, by_queue = student.propagator(memory=rule), student.propagator(queue=frames)
    for name in ("queue", "mem_every", "include_last"):
        assert getattr(by_rule, name) == getattr(by_queue, name)


def test_graphs_are_timed_for_each_queue_and_number_of_objects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    asked = []

    def quick(file: Path, **cell: Any) -> timing.Speed:
        assert checkpoint.read_info(file).name == STUDENT
        asked.append((cell["queue"], cell["objects"], cell["frames"], cell["size"]))
        return timing.Speed(10.0, 12.0, 100.0, 3.5, 1, "x", "x", 7, cell["objects"], "fp32")

    monkeypatch.setattr(graphs, "measure_graphs", quick)
    monkeypatch.setattr("vosmodels.export.formats.check_writable", lambda name: None)
    assert main([*TABLE, "--queues", "--runtime", "onnx", "--frames", "7", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert asked == [(q, k, 7, (32, 48)) for k in (1, 2, 3, 4, 5) for q in (1, 2, 5, 10, 20)]
    assert made["rows"][0] == {
        "queue": 1,
        "objects": 1,
        "frames": 7,
        "median_ms": 10.0,
        "p95_ms": 12.0,
        "fps": 100.0,
        "fps_runs": [100.0],
        "peak_mib": 3.5,
    }
    assert made["device"].endswith(", onnx")


@pytest.mark.slow
def test_an_export_is_timed_in_a_process_of_its_own(student: VideoModel, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    info = checkpoint.CheckpointInfo.of(student, ancestor=None, step=0)
    path, _ = checkpoint.write(tmp_path, student.state_dict(), info)
    speed = graphs.measure_graphs(path, size=(32, 48), queue=2, objects=2, frames=3, threads=1)
    assert (speed.size, speed.objects, speed.frames) == ("32x48", 2, 3)
    assert 0 < speed.median_ms <= speed.p95_ms


@pytest.mark.usefixtures("tiny")
def test_a_table_that_was_cut_short_is_continued_and_a_whole_one_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "speed-x.json"
    words = [*TABLE, "--durations", "--objects", "1", "--out", str(out), "--json"]
    real, calls = timing.measure, []

    def cut_short(*args: Any, **settings: Any) -> timing.Speed:
        calls.append(settings["frames"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr("vosmodels.evaluation.speed.timing.measure", cut_short)
    assert main(words) == 130
    assert "the same command goes on" in capsys.readouterr().err
    first = json.loads(out.read_text())
    assert [run["frames"] for run in first["runs"]] == [1, 3]
    assert main(words) == 0
    assert calls == [1, 3, 1, 1, 3]  # the third call was the one that failed
    assert json.loads(out.read_text())["runs"][:2] == first["runs"]
    assert main(words) == 0
    assert len(calls) == 5
    assert capsys.readouterr().out


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is as fast as the first that is measured."""
    real = timing.measure
    speeds: list[timing.Speed] = []

    def once(*args: Any, frames: int, **settings: Any) -> timing.Speed:
        if not speeds:
            speeds.append(real(*args, frames=frames, **settings))
        return replace(speeds[0], frames=frames)

    monkeypatch.setattr("vosmodels.evaluation.speed.timing.measure", once)


@pytest.mark.usefixtures("tiny", "unmeasured")
@pytest.mark.parametrize(
    ("words", "named"), [(["--size", "48x32"], "size 32x48"), (["--objects", "2"], "cells ")]
)
def test_a_file_that_holds_another_table_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
):
    out = tmp_path / "speed-x.json"
    common = [*TABLE, "--durations", "--objects", "1", "--out", str(out)]
    assert main(common) == 0
    before = out.read_bytes()
    assert main([*common, *words]) == 1
    told = capsys.readouterr().err
    assert f"{out}: holds runs with {named}" in told
    assert "another --out" in told
    assert out.read_bytes() == before


def test_a_file_that_is_no_table_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "speed-x.json"
    out.write_text('{"runs": []}')
    assert main([*TABLE, "--queues", "--out", str(out)]) == 1
    assert f"{out}: holds something else than a table of speed" in capsys.readouterr().err
    assert out.read_text() == '{"runs": []}'


def test_everything_wrong_with_the_usage_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    wrong = {"--size": "9x", "--frames": "0", "--objects": "0", "--threads": "0", "--device": "tpu"}
    words = [word for pair in wrong.items() for word in pair]
    assert main(["--model", STUDENT, *words, "--out", "x.json"]) == 2
    told = capsys.readouterr().err
    assert all(f"{option} {value}" in told for option, value in wrong.items())
    assert "--out x.json: keeps a table" in told


def test_a_missing_checkpoint_is_said_with_the_wrong_options(capsys: pytest.CaptureFixture[str]):
    assert main(["--checkpoint", "no.safetensors", "--size", "3"]) == 2
    told = capsys.readouterr().err
    assert "--size 3: HEIGHTxWIDTH" in told
    assert "no.safetensors: no such file" in told


@pytest.mark.usefixtures("tiny", "unmeasured")
def test_a_table_of_1_threads_as_earlier_versions_wrote_is_continued(tmp_path: Path):
    out = tmp_path / "speed-x.json"
    words = [*TABLE, "--durations", "--objects", "1", "--out", str(out)]
    assert main(words) == 0
    earlier = json.loads(out.read_text())
    assert earlier["device"].endswith(", 1 thread")
    out.write_text(json.dumps(earlier | {"device": earlier["device"] + "s"}))
    assert main(words) == 0
    del earlier["runs"][0]["fps"]
    out.write_text(json.dumps(earlier))
    assert main(words) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--durations", "--frames", "7"], "--frames 7: --durations has 50 and 500"),
        (["--durations", "--size", "64x8"], "--size 64x8"),
        (["--graph"], "--graph: wants --device cuda"),
        (["--graph", "--device", "cuda", "--queues"], "no --queues"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
):
    assert main(["--model", STUDENT, *words]) == 2
    assert says in capsys.readouterr().err


def test_a_reference_to_mlflow_is_refused_with_the_line_that_helps(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["--checkpoint", "mlflow:omega"]) == 2
    assert "python -m orchestrator.fetch mlflow:omega" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert main(["--model", STUDENT, "--device", "cuda"]) == 1
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--size", "100000x100000"],
        ["--size", "480x910", "--frames", "1000000000", "--queues"],
        ["--size", "4320x7680", "--objects", "255"],
    ],
)
def test_a_video_that_the_memory_has_no_room_for_is_refused_with_its_sum(
    capsys: pytest.CaptureFixture[str], words: list[str]
):
    assert main(["--model", STUDENT, *words]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: --size {words[1]}, objects ")
    assert re.search(r"GiB for 8 pictures|MiB for 8 pictures", told)
    assert "lower --size, --objects or --frames" in told
