"""The speed command: what it measures and what it says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vosmodels import checkpoint, registry
from vosmodels.evaluation import speed
from vosmodels.evaluation.speed import main, measure
from vosmodels.spacetime import SpaceTimeNetwork

STUDENT = "mobilevos_mobilenetv2_noaspp"
SMALL = ["--size", "32x48", "--frames", "2"]


@pytest.fixture(scope="module")
def student() -> SpaceTimeNetwork:
    return registry.build(STUDENT, seed=0)


def test_one_measurement_has_the_keys_that_scripts_read(capsys: pytest.CaptureFixture[str]):
    assert main(["--model", STUDENT, *SMALL, "--objects", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"median_ms", "p95_ms", "fps", "peak_mib", "parameters", "device", "size"} <= set(told)
    assert told["parameters"] == 1_892_936
    assert (told["size"], told["frames"], told["objects"]) == ("32x48", 2, 2)
    assert 0 < told["median_ms"] <= told["p95_ms"]


def test_a_checkpoint_is_timed_as_its_model(
    student: SpaceTimeNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    info = checkpoint.CheckpointInfo.of(student, ancestor=None, step=0)
    path, _ = checkpoint.write(tmp_path, student.state_dict(), info)
    assert main(["--checkpoint", str(path), *SMALL]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 1_892_936


def test_frames_a_second_are_frames_over_all_their_seconds(
    monkeypatch: pytest.MonkeyPatch, student: SpaceTimeNetwork
):
    ticks = iter(range(0, 10_000, 5))  # every clock reading is 5 s after the last
    monkeypatch.setattr("vosmodels.evaluation.speed.time.perf_counter", lambda: float(next(ticks)))
    found = measure(student, size=(32, 48), frames=4)
    assert found.fps == pytest.approx(1 / 5)
    assert (found.median_ms, found.p95_ms) == (5000, 5000)


def test_the_model_that_is_timed_stays_as_it_was(student: SpaceTimeNetwork):
    before = {key: value.clone() for key, value in student.state_dict().items()}
    measure(student, size=(32, 48), frames=1, precision="bf16")
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_the_peak_is_memory_above_the_start():
    size = 64 * 2**20
    code = (
        "from vosmodels.evaluation.speed import ProcessPeak\n"
        "with ProcessPeak() as watch:\n"
        f"    block = bytearray(b'x') * {size}\n"
        "    watch.look()\n"
        "print(watch.peak)"
    )  # in a process of its own: here other tests' freed memory would hide it
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert size * 0.95 < int(told.stdout) < size * 1.3


@pytest.mark.parametrize(
    ("option", "varied"),
    [
        ("--durations", [(n, k) for k in (1, 2, 3, 4, 5) for n in (1, 3)]),
        ("--queues", [1, 2, 5, 10, 20, "all"]),
    ],
)
def test_the_papers_tables_have_their_rows(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    varied: list[Any],
):
    monkeypatch.setattr(speed, "SHORT", 1)
    monkeypatch.setattr(speed, "LONG", 3)
    monkeypatch.setattr(speed, "RUNS", 1)
    assert main(["--model", STUDENT, "--size", "32x48", option, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    key = {"--queues": lambda r: r["queue"], "--durations": lambda r: (r["frames"], r["objects"])}
    assert [key[option](row) for row in rows] == varied
    assert main(["--model", STUDENT, "--size", "32x48", option]) == 0
    assert "1.9 M parameters" in capsys.readouterr().out


def test_everything_wrong_with_the_usage_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    wrong = ["--size", "9x", "--frames", "0", "--objects", "0", "--device", "tpu"]
    assert main(["--model", STUDENT, *wrong]) == 2
    told = capsys.readouterr().err
    assert all(
        value in told for value in ("--size 9x", "--frames 0", "--objects 0", "--device tpu")
    )


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
