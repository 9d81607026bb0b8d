"""Test commands on bad input.

Each answers with one clear message and its exit code, without traceback, and leaves nothing behind.
"""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator import attention, evaluate, fetch, report, segment, sweep, train
from orchestrator.reporting import readme as readme_results
from soups import greedy
from tests.stores import WARNING, empty_store
from tests.tiny_films import cut, picture, read_film, write_film
from vosmodels import checkpoint, registry
from vosmodels.data.check import __main__ as check
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.evaluation.speed import __main__ as speed
from vosmodels.inference import film as films
from vosmodels.spacetime.network import SpaceTimeNetwork

pytestmark = pytest.mark.filterwarnings(WARNING)

SWEEP = """
name: bad
data: {root: ROOT, train: train, select: val}
student: {name: mobilevos_mobilenetv2_noaspp}
sweep: {parameters: {loss.omega: [0.0]}}
"""


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Run a command that must fail: its one line on stderr; the folder must be as before."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(main, *words, code=1):
        before = sorted(work.rglob("*"))
        assert main([str(word) for word in words]) == code
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        assert told.out == ""
        assert sorted(work.rglob("*")) == before
        return told.err

    return run


@pytest.fixture
def sweep_file(tmp_path, davis_root):
    path = tmp_path / "bad.yaml"
    path.write_text(SWEEP.replace("ROOT", str(davis_root)))
    return path


def test_every_problem_of_a_file_is_told_at_once(refused, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "train: {Lr: 1.0, steps: many, batch_size: 0}\n"
        "data: {select: val, report: val}\n"
        "sweep: {parameters: {}}\n"
    )
    told = refused(sweep.main, path, code=2)
    for text in ("train.Lr", "did you mean 'lr'", "train.steps", "'many'", "train.batch_size"):
        assert text in told
    for text in ("data.report", "also data.select", "sweep.parameters: empty"):
        assert text in told
    assert str(path) in told


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "empty"), ("a: [1", "not YAML"), ("- 1\n", "mapping"), ("name: x\n", "sweep")],
)
def test_a_file_that_is_no_sweep_is_refused(refused, tmp_path, text, says):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    told = refused(sweep.main, path, code=2)
    assert str(path) in told
    assert says in told


def test_a_missing_yaml_is_named(refused, tmp_path):
    assert "no.yaml" in refused(sweep.main, tmp_path / "no.yaml", code=2)


def test_a_sweep_is_no_run_and_says_which_command_takes_it(refused, sweep_file):
    assert "orchestrator.sweep" in refused(train.main, sweep_file, code=2)


def test_a_value_whose_feature_is_not_built_is_refused_by_name(refused, sweep_file):
    for override in ("train.keep=soup", "train.keep=last"):
        told = refused(sweep.main, sweep_file, override, code=2)
        assert override.split("=")[0] in told
        assert "not built yet" in told


def test_a_missing_data_root_is_named_with_its_key(refused, sweep_file):
    told = refused(sweep.main, sweep_file, "data.root=/no/such/folder")
    assert told.startswith("error: data.train 'train': /no/such/folder")


def test_a_split_that_is_not_there_is_told_with_those_that_are(refused, sweep_file):
    told = refused(sweep.main, sweep_file, "data.select=vall")
    assert "data.select 'vall'" in told
    assert "train, val" in told


def test_a_split_that_only_gives_objects_cannot_choose(refused, sweep_file, youtubevos_root):
    words = (f"data.root={youtubevos_root}", "data.select=valid")
    told = refused(sweep.main, sweep_file, *words)
    assert "data.select 'valid': " in told
    assert "has nothing to score" in told


def test_generated_data_names_its_splits_too(refused, sweep_file):
    told = refused(sweep.main, sweep_file, "data.root=generated", "data.select=holdout", code=2)
    assert "'holdout'" in told
    assert "train, val and test" in told


def test_an_image_without_mask_and_a_mask_of_another_size_are_both_named(
    refused, sweep_file, davis_root
):
    masks = davis_root / "Annotations" / "480p"
    (masks / "ant" / "00002.png").unlink()
    Image.new("L", (10, 10)).save(masks / "bee" / "00003.png")
    told = refused(sweep.main, sweep_file)
    assert str(masks / "ant" / "00002.png") in told or "ant/00002" in told
    assert "bee/00003.png" in told
    assert "10x10" in told


def test_missing_weights_are_named_with_their_key(refused, sweep_file):
    told = refused(sweep.main, sweep_file, "teacher.weights=no.pth", "student.backbone=no2.pth")
    assert "teacher.weights: " in told
    assert "no.pth" in told
    assert "student.backbone: " in told


def test_weights_of_another_model_are_named(refused, sweep_file, tmp_path):
    model = registry.build("mobilevos_mobilenetv2", seed=0)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    path, _ = checkpoint.write(tmp_path / "other", model.state_dict(), info)
    told = refused(sweep.main, sweep_file, f"teacher.weights={path}")
    assert "teacher.weights: " in told
    assert "weights of another model" in told
    assert "stcn_mobilenetv2" in told


class Danger:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(refused, sweep_file, tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"weight": Danger()}, path)
    with zipfile.ZipFile(path) as archive:
        data = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        assert b"mkdir" in archive.read(data)
    told = refused(sweep.main, sweep_file, f"teacher.weights={path}")
    assert "evil.pth" in told
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Danger(), protocol=2))
    assert "plain.pth" in refused(sweep.main, sweep_file, f"teacher.weights={plain}")


def test_dry_run_tells_what_is_missing_and_is_content(sweep_file, capsys):
    code = sweep.main([str(sweep_file), "--dry-run", "--json", "data.root=/no", "data.select=x"])
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trials"] == ["omega=0.0"]
    assert [line.split(":")[0] for line in told["missing"]] == [
        "data.train 'train'",
        "data.select 'x'",
    ]


def test_a_dry_run_refuses_what_the_run_refuses_and_makes_nothing(refused, sweep_file, tmp_path):
    (tmp_path / "file").touch()
    for override, code, problem in (
        ("tracking.uri=ftp://x", 2, "tracking uri 'ftp://x': no store of MLflow"),
        ("tracking.uri=http://127.0.0.1:9", 1, "http://127.0.0.1:9: no answer"),
        (f"storage={tmp_path / 'file'}", 1, "file is a file; give a folder"),
        (f"storage={tmp_path / 'file' / 'x'}", 1, "file is a file; give a folder"),
        ("stages=1", 2, "stages: 1: must be a valid tuple"),
    ):
        told = refused(sweep.main, sweep_file, override, code=code)
        assert problem in told
        dry = refused(sweep.main, sweep_file, override, "--dry-run", code=code)
        assert dry.splitlines()[-1] == told.splitlines()[-1]


def test_a_bad_storage_is_told_with_the_data_that_is_missing(refused, sweep_file, tmp_path):
    (tmp_path / "file").touch()
    told = refused(sweep.main, sweep_file, f"storage={tmp_path / 'file'}", "data.root=/no")
    assert "file is a file" in told
    assert "data.train 'train': /no" in told


def test_an_experiment_without_its_prefix_is_told_with_it(refused):
    told = refused(greedy.main, "--runs", "omega", code=2)
    assert "--runs omega: no such folder; an experiment is mlflow:omega" in told


def test_weights_of_no_model_in_the_store_are_missing_with_all_else(
    refused, sweep_file, tmp_path, capsys
):
    empty_store(tmp_path / "results")
    words = (sweep_file, f"storage={tmp_path / 'results'}", "teacher.weights=models:/m-1")
    told = refused(sweep.main, *words, "data.select=x")
    assert "teacher.weights: " in told
    assert "results/mlflow.db: models:/m-1: " in told
    assert "data.select 'x': " in told
    assert sweep.main([str(word) for word in (*words, "--dry-run", "--json")]) == 0
    (line,) = json.loads(capsys.readouterr().out)["missing"]
    assert line.startswith("teacher.weights: ")
    assert "models:/m-1" in line


def test_a_store_that_is_not_there_is_named_by_every_reader(refused, tmp_path):
    for main, words in (
        (fetch.main, ("mlflow:omega", tmp_path / "x.safetensors")),
        (report.main, ("mlflow:omega",)),
        (greedy.main, ("--runs", "mlflow:omega")),
        (evaluate.main, ("--checkpoint", "mlflow:omega", "--data", "generated")),
    ):
        assert "mlflow.db" in refused(main, *words)


def test_a_path_that_is_not_there_is_named_by_every_command(refused, sweep_file):
    checkpoint, data = ("--checkpoint", sweep_file), ("--data", "generated")
    for main, words in (
        (evaluate.main, (*checkpoint, "--data", "nosuch")),
        (evaluate.main, ("--masks", "nosuch", "--annotations", sweep_file.parent)),
        (evaluate.main, ("--masks", sweep_file.parent, "--annotations", "nosuch")),
        (segment.main, (*checkpoint, "--video", "nosuch", "--mask", sweep_file)),
        (segment.main, (*checkpoint, "--video", sweep_file, "--mask", "nosuch")),
        (report.main, ("nosuch",)),
        (report.main, (sweep_file.parent, "--readme", "nosuch")),
        (greedy.main, ("--runs", "nosuch", *data)),
        (check.main, ("nosuch",)),
        (speed.main, ("--checkpoint", "nosuch")),
    ):
        assert refused(main, *words).startswith("error: nosuch: no such f")


def test_an_unknown_model_is_told_with_all_else(refused):
    told = refused(speed.main, "--model", "stcm", "--size", "3", code=2)
    assert "--size 3" in told
    assert "did you mean 'stcn'?" in told


def test_a_folder_without_checkpoints_makes_no_soup(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    words = ("--runs", tmp_path / "empty", "--data", "generated")
    assert str(tmp_path / "empty") in refused(greedy.main, *words)


def test_evaluate_wants_one_of_its_two_ways(refused):
    assert "--masks and --annotations" in refused(evaluate.main, "--data", "generated", code=2)


def test_a_reference_to_no_file_says_what_references_are(refused):
    told = refused(evaluate.main, "--checkpoint", "no.safetensors", "--data", "generated")
    assert "demo (the student that ships), models:/ID or mlflow:EXPERIMENT" in told


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    return checkpoint.write(tmp_path_factory.mktemp("student"), model.state_dict(), info)[0]


def test_fetch_tells_all_that_is_wrong_at_once(refused, tmp_path):
    told = refused(fetch.main, "nowhere.safetensors", tmp_path / "best.pth", code=2)
    assert f"FILE {tmp_path / 'best.pth'}: a checkpoint's name ends in .safetensors" in told
    assert "nowhere.safetensors: no such file; give a .safetensors file, demo (the" in told
    assert len(told.splitlines()) == 1
    for reference in ("", "mlflow:", "models:/", "models://"):
        told = refused(fetch.main, reference, "best.safetensors", code=2)
        assert f"reference {reference!r}: names nothing" in told


def test_fetch_replaces_no_file_unless_asked_and_never_the_checkpoint(
    refused, student, tmp_path, capsys
):
    source, target = tmp_path / "mine.safetensors", tmp_path / "best.safetensors"
    source.write_bytes(student.read_bytes())
    target.write_text("precious")
    assert "exists already" in refused(fetch.main, source, target)
    assert target.read_text() == "precious"
    (tmp_path / "link.safetensors").symlink_to(source)
    os.link(source, tmp_path / "hard.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("mine", "link", "hard", "folder.safetensors/../mine"):
        path = f"{tmp_path}/{name}.safetensors"
        told = refused(fetch.main, source, path, "--overwrite", code=2)
        assert f"FILE {path}: the same as REF {source}" in told
    for words in ((), ("--overwrite",)):
        told = refused(fetch.main, source, tmp_path / "folder.safetensors", *words)
        assert "a folder is there, and a file is to be written" in told
    assert source.read_bytes() == student.read_bytes()
    assert fetch.main([str(source), str(target), "--overwrite"]) == 0
    assert target.read_bytes() == student.read_bytes()
    assert "written to" in capsys.readouterr().out


def test_fetch_expands_the_home_folder_and_makes_folders(student, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.safetensors").write_bytes(student.read_bytes())
    assert fetch.main(["~/a.safetensors", "~/new/folder/b.safetensors", "--json"]) == 0
    target = tmp_path / "new" / "folder" / "b.safetensors"
    assert json.loads(capsys.readouterr().out)["file"] == str(target)
    assert target.read_bytes() == student.read_bytes()


def test_fetch_writes_nothing_of_a_checkpoint_that_is_not_whole(refused, student, tmp_path):
    data = student.read_bytes()
    cut = tmp_path / student.name
    for content, says in (
        (data[:-9], "not a readable safetensors file"),
        (data[:-1] + bytes([data[-1] ^ 1]), "corrupt: its sha256"),
        (b"", "empty, 0 bytes"),
    ):
        cut.write_bytes(content)
        assert f"{cut}: {says}" in refused(fetch.main, cut, "new/best.safetensors")
    cut.write_bytes(data)
    told = refused(fetch.main, cut, f"new/{'0' * 64}.safetensors")
    assert "named by a sha256 that is not this checkpoint's" in told


def test_fetch_leaves_nothing_where_the_disk_is_full(refused, student, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    told = refused(fetch.main, student, "best.safetensors")
    assert "FILE best.safetensors: cannot be written (No space left on device)" in told


def test_fetch_rounds_the_weights_where_half_is_asked_for_and_nothing_else(
    refused, student, tmp_path, capsys
):
    target = tmp_path / "half.safetensors"
    assert fetch.main([str(student), str(target), "--half", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["half"] is True
    assert target.read_bytes() == checkpoint.halved(student)
    named = tmp_path / student.name  # by the sha256 of the whole weights
    told = refused(fetch.main, student, named, "--half")
    assert "named by a sha256 that is not this checkpoint's" in told
    told = refused(fetch.main, "sample", "clip", "--half", code=2)
    assert "--half: rounds the weights of a checkpoint, and sample has none" in told


def test_fetch_writes_no_half_of_a_weight_that_float16_has_no_room_for(refused, tmp_path):
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    state = {**model.state_dict(), "key_comp.bias": torch.full((64,), 7e4)}
    path, _ = checkpoint.write(tmp_path, state, info)
    told = refused(fetch.main, path, "half.safetensors", "--half")
    assert "'key_comp.bias' has values up to 7.0e+04; float16 ends at 65504: take it" in told


@pytest.fixture
def gpus(monkeypatch):
    """Let torch find so many CUDA devices, and no Metal."""

    def there(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return there


def test_a_device_that_is_not_there_is_told_with_all_else_before_anything_starts(
    refused, student, gpus
):
    clip = ("--video", "nofilm", "--mask", "nomask")
    for main, words, missing in (
        (segment.main, clip, "nofilm: no such file"),
        (evaluate.main, ("--data", "nodata"), "nodata: no such folder"),
        (speed.main, ("--size", "32x48"), "--device"),
    ):
        words = ("--checkpoint", student, *words)
        gpus(0)
        told = refused(main, *words, "--device", "cuda")
        assert "--device cuda: torch finds no CUDA devices here; use --device cpu" in told
        assert missing in told
        gpus(2)
        told = refused(main, *words, "--device", "cuda:2")
        assert "--device cuda:2: torch finds 2 CUDA devices here; use --device cuda:1" in told
        told = refused(main, *words, "--device", "tpu", code=2)
        assert "--device tpu: cpu, cuda" in told
        if main is not speed.main:
            told = refused(main, *words, "--device", "mps")
            assert "--device mps: torch finds no Metal device here; use --device cpu" in told
            assert missing in told
    told = refused(speed.main, "--checkpoint", student, "--device", "mps", code=2)
    assert "--device mps: cpu, cuda or cuda:N" in told


def test_segment_follows_on_the_device_it_is_told_and_says_so(
    student, clip, gpus, monkeypatch, tmp_path, capsys
):
    """There is no other device here: what moves a model notes where, and leaves it."""
    places: list[str] = []

    def stay(model, place):
        places.append(place)
        return model

    gpus(1)
    monkeypatch.setattr(SpaceTimeNetwork, "to", stay, raising=False)
    monkeypatch.setattr(films, "scaled_segmenter", lambda *_: None)
    monkeypatch.setattr(films, "segment_video", lambda *_: films.Followed(3, 1.0, (), None))
    words = ["--checkpoint", str(student), "--video", str(clip[0]), "--mask", str(clip[2])]
    assert segment.main([*words, "--device", "cuda:0"]) == 0
    assert "3.0 frames a second at all 48 rows, on cuda:0\n" in capsys.readouterr().out
    assert segment.main([*words, "--device", "cuda:0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cuda:0"
    assert segment.main(words) == 0
    assert ", on the CPU\n" in capsys.readouterr().out
    assert places == ["cuda:0", "cuda:0", "cpu"]


def test_a_mask_that_does_not_fit_the_video_is_told_both_sizes(
    refused, student, davis_root, tmp_path
):
    write_palette(tmp_path / "m.png", torch.ones(10, 20, dtype=torch.uint8).numpy())
    video = davis_root / "JPEGImages" / "480p" / "ant"
    told = refused(
        segment.main,
        *("--checkpoint", student, "--video", video, "--mask", tmp_path / "m.png"),
        *("--out", tmp_path / "out.mp4"),
    )
    assert "the mask is 20x10, the video 64x48" in told
    assert not list(tmp_path.glob("*.mp4"))


def test_what_cannot_be_followed_is_told_before_anything_is_written(
    refused, student, davis_root, tmp_path
):
    video = davis_root / "JPEGImages" / "480p" / "ant"
    empty, wide = (np.zeros((48, 64), dtype=dtype) for dtype in (np.uint8, np.uint16))
    wide[:20] = 300
    Image.fromarray(empty).save(tmp_path / "empty.png")
    Image.fromarray(wide).save(tmp_path / "wide.png")
    for name, says in (
        (
            "empty.png",
            "empty.png: every pixel is 0, so there is nothing to follow; draw ids above 0",
        ),
        ("wide.png", "wide.png: mode 'I;16' with value 300; masks are palette"),
    ):
        words = ("--checkpoint", student, "--video", video, "--mask", tmp_path / name)
        told = refused(segment.main, *words, "--height", 16, "--out", tmp_path / "out.mp4")
        assert says in told
    assert not list(tmp_path.glob("*.mp4"))


def test_a_video_whose_frames_change_their_size_is_refused_by_the_frame(
    refused, student, davis_root, tmp_path
):
    images, masks = (davis_root / name / "480p" / "ant" for name in ("JPEGImages", "Annotations"))
    Image.new("RGB", (32, 24)).save(images / "00002.jpg")
    Image.new("L", (32, 24)).save(masks / "00002.png")
    words = ("--checkpoint", student, "--video", images, "--mask", masks / "00000.png")
    told = refused(segment.main, *words, "--out", tmp_path / "out.mp4")
    assert "frames of several sizes: 00000.jpg 64x48, 00002.jpg 32x24" in told
    words = ("--checkpoint", student, "--data", davis_root, "--split", "train")
    assert "ant: frames of several sizes: 00000.jpg 64x48, 00002.jpg 32x24" in refused(
        evaluate.main, *words
    )


def test_a_video_that_is_none_is_named(refused, student, davis_root, tmp_path):
    mask = davis_root / "Annotations" / "480p" / "ant" / "00000.png"
    film = tmp_path / "x.mp4"
    film.write_text("no film")
    for video in (tmp_path / "no.mp4", film):
        words = ("--checkpoint", student, "--video", video, "--mask", mask)
        assert video.name in refused(segment.main, *words, "--out", tmp_path / "o.mp4")


@pytest.fixture
def clip(tmp_path):
    """A film, pictures numbered from 1 as ffmpeg does, and the mask of their first frame."""
    film = write_film(tmp_path / "a.mp4", 3)
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        Image.fromarray(picture(index)).save(frames / f"{index + 1:05d}.jpg")
    ids = np.zeros((48, 64), dtype=np.uint8)
    ids[8:24, 4:20] = 1
    write_palette(tmp_path / "m.png", ids)
    return film, frames, tmp_path / "m.png"


def test_no_output_of_segment_is_one_of_its_inputs(refused, student, clip, tmp_path):
    film, frames, mask = clip
    (tmp_path / "door.mp4").symlink_to(film)
    before = {path: path.read_bytes() for path in (film, mask, *frames.iterdir())}
    for video, out in (
        (film, film),
        (film, tmp_path / "door.mp4"),
        (frames, frames),
        (frames, frames / "masks"),
        (film, tmp_path),
        (film, mask),
    ):
        words = ("--checkpoint", student, "--video", video, "--mask", mask, "--overwrite")
        assert f"--out {out}: " in refused(segment.main, *words, "--out", out, code=2)
    link = tmp_path / "weights.mp4"
    link.symlink_to(student)
    words = ("--checkpoint", student, "--video", film, "--mask", mask, "--overwrite")
    told = refused(segment.main, *words, "--out", link, code=2)
    assert "the same as --checkpoint" in told
    assert {path: path.read_bytes() for path in before} == before
    assert len([*frames.iterdir()]) == 3


def test_a_mask_among_the_frames_is_no_frame(refused, student, clip):
    _, frames, mask = clip
    for name in ("00001.png", "00000.png", "first.png"):
        inside = mask.rename(frames / name)
        words = ("--checkpoint", student, "--video", frames, "--mask", inside)
        assert name in refused(segment.main, *words)
        mask = inside.rename(mask)


def test_segment_tells_every_wrong_argument_at_once(refused, student):
    words = ("--checkpoint", student, "--video", "nofilm", "--mask", "nomask", "--out", "o.mkv")
    told = refused(segment.main, *words, "--height", 3, code=2)
    for text in ("nofilm: no such f", "nomask: no such f", "--height 3", "--out o.mkv: no .mkv"):
        assert text in told
    told = refused(segment.main, *words[:-2])
    assert "nofilm" in told
    assert "nomask" in told


def test_masks_have_the_names_of_their_frames_and_a_second_run_does_not_mix(
    student, clip, tmp_path, capsys
):
    film, frames, mask = clip
    words = ["--checkpoint", str(student), "--mask", str(mask), "--out", str(tmp_path / "o")]
    assert segment.main([*words, "--video", str(frames), "--json"]) == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        *("00001.png", "00002.png", "00003.png")
    ]
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert result["height"] == 48  # all the rows there are
    assert result["objects"] == {"1": 256 / 48 / 64}
    assert "\r" not in told.err
    assert segment.main([*words, "--video", str(film)]) == 1
    assert "o: holds 3 files already (00001.png, 00002.png" in capsys.readouterr().err
    assert segment.main([*words, "--video", str(film), "--overwrite"]) == 0
    told = capsys.readouterr()
    assert "1 PNG of another run beside those of this one (00003.png)" in told.err
    assert "all 48 rows" in told.out


def test_a_box_stands_for_the_first_mask_and_what_is_cut_out_of_it_is_kept(
    refused, student, clip, tmp_path, capsys
):
    _, frames, mask = clip
    rows, columns = (np.flatnonzero(read_mask(mask).any(axis)) for axis in (1, 0))
    box = f"{columns[0] - 2},{rows[0] - 2},{columns[-1] + 3},{rows[-1] + 3}"
    words = ["--checkpoint", str(student), "--video", str(frames), "--out", str(tmp_path / "o")]
    assert segment.main([*words, "--box", box, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    kept = tmp_path / "o-first-mask.png"
    assert result["first_mask"] == str(kept)
    assert result["objects"] == {"1": pytest.approx(256 / 48 / 64, rel=0.1)}
    assert (read_mask(kept) == read_mask(tmp_path / "o" / "00001.png")).all()
    assert "o-first-mask.png: exists" in refused(segment.main, *words, "--box", box)
    assert "--mask or by --box" in refused(segment.main, *words, code=2)
    assert "--box 'x': pixels" in refused(segment.main, *words, "--box", "x", code=2)


def test_a_cut_film_gives_what_can_be_read_and_fails(student, clip, tmp_path, capsys):
    _, _, mask = clip
    film = write_film(tmp_path / "b.avi", 8, size=(120, 160))
    write_palette(mask, np.kron(read_mask(mask), np.ones((3, 3)))[:120, :160])
    cut(film, 0.7)
    words = ["--checkpoint", str(student), "--video", str(film), "--mask", str(mask), "--json"]
    assert segment.main([*words, "--out", str(tmp_path / "o.avi")]) == 1
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert 0 < result["frames"] == len(read_film(tmp_path / "o.avi")[0]) < 8
    assert f"b.avi: {result['frames']} of the 8 frames" in result["error"]
    assert f"error: {result['error']}; {tmp_path / 'o.avi'} holds what could be read" in told.err


def test_results_of_something_else_do_not_reach_the_readme(refused, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "x.json").write_text("{}")
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{readme_results.BEGIN}\nold\n{readme_results.END}\nb\n")
    told = refused(report.main, tmp_path / "r", "--readme", readme)
    assert "x.json" in told
    assert "old" in readme.read_text()


def test_help_of_every_command_ends_with_an_example(capsys):
    commands = (sweep, train, evaluate, segment, attention, fetch, report)
    for main in (command.main for command in commands):
        assert main(["--help"]) == 0
        text = capsys.readouterr().out
        assert "example:\n  python -m orchestrator." in text
