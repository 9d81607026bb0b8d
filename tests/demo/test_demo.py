"""Test the student that ships, and that `demo` names it wherever a checkpoint is named."""

import json
import tomllib
from pathlib import Path

import pytest
import safetensors
import torch

from orchestrator import attention, evaluate, fetch, segment
from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import job as jobs
from orchestrator.execution.teachers import load_teacher
from orchestrator.planning import preflight
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.model_tools import network
from vosmodels import checkpoint, demo
from vosmodels.data.generated import GeneratedSequence
from vosmodels.data.sample import FRAMES, SCENE, SIZE
from vosmodels.demo import DEMO, file_of, student_file
from vosmodels.evaluation.runner import FirstFrameCopy
from vosmodels.evaluation.runner import evaluate as scores_of
from vosmodels.evaluation.speed import __main__ as speed
from vosmodels.inference import VideoSegmenter, for_inference
from vosmodels.support.digests import sha256_of

ROOT = Path(__file__).resolve().parents[2]
STUDENT = "mobilevos_mobilenetv2_noaspp"
MOST_BYTES = 5 * 2**20
LEAST_JF = 0.9  # of the sample, on which a copy of the first mask has about 0.1


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A student with random weights in the place of the one that ships."""
    path = tmp_path / "package" / "student.safetensors"
    path.parent.mkdir()
    ship(path, seed=0)
    monkeypatch.setattr(demo, "_STUDENT", path)
    return path


def ship(path, seed):
    model = network(STUDENT, seed=seed)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    written, _ = checkpoint.write(path.parent, model.state_dict(), info)
    path.write_bytes(checkpoint.halved(written))
    written.unlink()


def test_demo_is_the_shipped_file_and_every_other_name_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert file_of(DEMO) == student_file() == ROOT / "vosmodels" / "demo" / "student.safetensors"
    assert file_of("./demo") == Path("demo")
    assert file_of("demo.safetensors") == Path("demo.safetensors")
    assert file_of("~/demo") == tmp_path / "demo"


def test_a_wheel_has_the_student_and_its_card():
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = packaged["tool"]["setuptools"]["package-data"]["vosmodels"]
    shipped = [student_file(), ROOT / "vosmodels" / "demo" / "README.md"]
    names = [str(path.relative_to(ROOT / "vosmodels")) for path in shipped]
    assert set(names) <= set(patterns)


def test_the_student_that_ships_is_small_and_follows_the_sample():
    assert student_file().stat().st_size <= MOST_BYTES
    with safetensors.safe_open(student_file(), framework="pt") as file:
        stored = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert {t.dtype for t in stored if t.is_floating_point()} == {torch.float16}
    model = for_inference(checkpoint.load_model(student_file()))
    video = GeneratedSequence("sample", SCENE, *SIZE, FRAMES)
    assert scores_of(lambda: VideoSegmenter(model), [video]).jf > LEAST_JF
    assert scores_of(FirstFrameCopy, [video]).jf < LEAST_JF / 2  # so the bound asks for something


def answers(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


def test_every_command_takes_demo_as_it_takes_the_file(
    shipped, davis17_root, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEMO).mkdir()  # of that name, and no checkpoint

    def told(main, *words):
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    data = ("--data", davis17_root, "--height", 32)
    by_name = told(evaluate.main, "--checkpoint", DEMO, *data)
    by_file = told(evaluate.main, "--checkpoint", shipped, *data)
    assert by_name["sequences"] == by_file["sequences"]
    assert by_name["source"].startswith("demo (the student that ships), sha256 ")
    assert sha256_of(shipped)[:12] in by_name["source"]

    video, mask = (davis17_root / kind / "480p" / "cat" for kind in ("JPEGImages", "Annotations"))
    clip = ("--video", video, "--mask", mask / "00000.png")
    for reference, out in ((DEMO, "one"), (shipped, "two")):
        told(segment.main, "--checkpoint", reference, *clip, "--out", out)
    assert len(answers(tmp_path / "one")) == 6
    assert answers(tmp_path / "one") == answers(tmp_path / "two")

    told(fetch.main, DEMO, "mine.safetensors")
    assert (tmp_path / "mine.safetensors").read_bytes() == shipped.read_bytes()
    timed = told(speed.main, "--checkpoint", DEMO, "--size", "32x48", "--frames", 1)
    assert timed["parameters"] == 1_892_936


def test_a_student_without_attention_shows_none_by_that_name_too(
    shipped, davis17_root, tmp_path, capsys
):
    video, mask = (davis17_root / kind / "480p" / "cat" for kind in ("JPEGImages", "Annotations"))
    words = ["--video", str(video), "--mask", str(mask / "00000.png"), "--out", str(tmp_path / "a")]
    assert attention.main(["--checkpoint", DEMO, *words]) == 1
    assert f"error: {STUDENT} has no self and no long attention" in capsys.readouterr().err


def test_no_command_writes_over_the_student_that_ships(shipped, capsys):
    before = shipped.read_bytes()
    assert fetch.main([DEMO, str(shipped), "--overwrite"]) == 2
    assert "an input is never written to" in capsys.readouterr().err
    assert shipped.read_bytes() == before


def config(root, student, teacher=DEMO):
    return SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": str(root), "select_height": 48, "select_stride": 2},
            "student": {"name": STUDENT, "weights": student},
            "teacher": {"name": STUDENT, "weights": teacher},
            "stem": {"steps": 0, "batch_size": 2, "crop": 32, "lr": 1e-3},
            "train": {"steps": 1, "batch_size": 2, "clip_length": 3, "crop": 32, "lr": 1e-3},
            "sweep": {"parameters": {"loss.omega": [0.0]}},
        }
    )


def plan(config):
    return plan_sweep(located(config), sweep_id(config), threads=1)


def test_a_job_that_starts_from_demo_is_keyed_by_the_bytes_of_its_file(shipped, davis_root):
    def keys(student):
        return [job.key for job in plan(config(davis_root, student)).jobs]

    by_name = keys(DEMO)
    assert by_name == keys(str(shipped))
    ship(shipped, seed=1)
    assert set(keys(DEMO)).isdisjoint(by_name)


def test_demo_stays_a_name_in_a_configuration_and_no_folder_of_that_name_does(
    shipped, davis_root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEMO).symlink_to(davis_root)
    here = located(config(DEMO, DEMO))
    assert (here.student.weights, here.teacher.weights) == (DEMO, DEMO)
    assert here.data.root == str(tmp_path / DEMO)


def test_student_and_teacher_start_from_demo(shipped, davis_root, tmp_path):
    made = config(davis_root, DEMO)
    preflight.check(located(made))
    stem, trial = plan(made).jobs
    storage = Storage(tmp_path / "results")
    jobs.run([stem], storage)
    (first,) = Ledger(storage.root).job(stem.key).checkpoints()
    wanted = checkpoint.load_model(shipped).state_dict()
    teacher, sha256 = load_teacher(trial, storage)
    assert sha256 == sha256_of(shipped)
    for tensors in (
        checkpoint.read_tensors(storage.checkpoint(first.sha256)),
        teacher.state_dict(),
    ):
        assert all(torch.equal(tensors[name], value) for name, value in wanted.items())


def test_demo_in_the_place_of_another_model_is_told_with_the_words_that_fit(shipped, davis_root):
    made = config(davis_root, DEMO)
    other = made.student.model_copy(update={"name": "mobilevos_mobilenetv2"})
    with pytest.raises(preflight.Missing, match=f"set student.name={STUDENT}"):
        preflight.check(located(made.model_copy(update={"student": other})))
