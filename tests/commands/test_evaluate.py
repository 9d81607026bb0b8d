"""Test evaluate on tiny folders: official layouts, and equal scores from disk."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator import evaluate
from tests import youtubevos
from tests.conftest import FRAMES
from tests.model_tools import any_filled
from vosmodels import checkpoint, registry
from vosmodels.data.masks import read_mask
from vosmodels.evaluation.runner import FirstFrameCopy
from vosmodels.spacetime.network import SpaceTimeNetwork


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    return checkpoint.write(tmp_path_factory.mktemp("student"), model.state_dict(), info)[0]


@pytest.fixture
def told(capsys):
    """Run the command and return what --json prints."""

    def run(*words):
        assert evaluate.main([*(str(word) for word in words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def truth_of(root):
    return root / "Annotations" / "480p" / "cat" / "00001.png"


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_of_fewer_rows_masks_are_written_and_scored_at_full_size(
    told, student, davis17_root, tmp_path
):
    words = ("--checkpoint", student, "--data", davis17_root)
    fewer = told(*words, "--height", 32, "--out", tmp_path / "out")
    assert fewer["mean"] != told(*words)["mean"]
    masks = ("--masks", tmp_path / "out", "--annotations", davis17_root / "Annotations" / "480p")
    assert told(*masks)["mean"] == fewer["mean"]


def test_a_half_gives_nearly_the_masks_of_the_whole_weights(told, davis17_root, tmp_path):
    """Of weights whose objects share the frames: in float8 a tenth of the pixels changes."""
    model = any_filled("mobilevos_mobilenetv2_noaspp")
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    whole, _ = checkpoint.write(tmp_path, model.state_dict(), info)
    half = tmp_path / "half.safetensors"
    half.write_bytes(checkpoint.halved(whole))
    for path, out in ((whole, "whole"), (half, "half")):
        answer = told("--checkpoint", path, "--data", davis17_root, "--out", tmp_path / out)
        assert answer["device"] == "cpu"
    names = written(tmp_path / "whole")[1:]  # the first is given
    masks = [np.stack([read_mask(tmp_path / out / n) for n in names]) for out in ("whole", "half")]
    assert all(np.mean(masks[0] == i) > 0.05 for i in (1, 2))
    assert np.mean(masks[0] == masks[1]) > 0.99


def test_the_network_runs_where_it_is_told_and_the_answer_says_so(
    student, davis17_root, monkeypatch, capsys
):
    """There is no other device here: what moves a model notes where, and leaves it."""
    places: list[str] = []

    def stay(model, place):
        places.append(place)
        return model

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(SpaceTimeNetwork, "to", stay, raising=False)
    monkeypatch.setattr("orchestrator.execution.folder_scores.segmenters_of", at_rest)
    words = ["--checkpoint", str(student), "--data", str(davis17_root), "--device", "cuda:1"]
    assert evaluate.main(words) == 0
    assert "frames a second, one video at a time, on cuda:1" in capsys.readouterr().out
    assert evaluate.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cuda:1"
    assert places == ["cuda:1", "cuda:1"]


def at_rest(model, rows, memory):
    """Make segmenters that follow nothing: the network has stayed where it was."""
    return FirstFrameCopy


@pytest.mark.gpu
def test_a_gpu_gives_nearly_the_scores_of_the_cpu(told, student, davis17_root):
    words = ("--checkpoint", student, "--data", davis17_root, "--height", 32)
    there = told(*words, "--device", "cuda")
    assert there["mean"]["jf"] == pytest.approx(told(*words)["mean"]["jf"], abs=0.02)


def test_a_device_is_none_of_masks_on_disk(failed, davis17_root, tmp_path):
    words = ("--masks", tmp_path, "--annotations", davis17_root, "--device", "mps")
    assert "--device mps: only with --checkpoint" in failed(*words)[2]


def test_a_file_of_names_is_a_split(told, student, davis17_root, tmp_path):
    split = tmp_path / "mine.txt"
    split.write_text("cat\n")
    words = ("--checkpoint", student, "--data", davis17_root, "--height", 32)
    assert told(*words, "--split", split)["sequences"] == told(*words)["sequences"]


def test_rows_that_no_network_sees_are_refused_and_so_are_rows_of_masks(
    student, davis17_root, tmp_path, capsys
):
    words = ["--checkpoint", str(student), "--data", str(davis17_root), "--height", "8"]
    assert evaluate.main(words) == 2
    assert "--height 8: rows for the network to see, 16 or more" in capsys.readouterr().err
    words = ["--masks", str(tmp_path), "--annotations", str(tmp_path), "--height", "32"]
    assert evaluate.main(words) == 2
    assert "--height" in capsys.readouterr().err


def test_by_another_memory_rule_a_checkpoint_has_other_scores_and_its_own_is_the_default(
    told, student, davis17_root
):
    words = ("--checkpoint", student, "--data", davis17_root)
    own = told(*words)["mean"]
    assert told(*words, "--memory", "first,last")["mean"] == own
    assert told(*words, "--memory", "first")["mean"] != own


def test_davis_masks_lie_in_a_folder_a_video_and_score_the_same(
    told, student, davis17_root, tmp_path
):
    out = tmp_path / "out"
    direct = told("--checkpoint", student, "--data", davis17_root, "--out", out)
    assert written(out) == [f"cat/{t:05d}.png" for t in range(FRAMES)]
    with (
        Image.open(out / "cat" / "00001.png") as found,
        Image.open(truth_of(davis17_root)) as truth,
    ):
        assert (found.mode, found.size) == ("P", truth.size)
        assert (found.getpalette() or [])[:9] == [
            0,
            0,
            0,
            128,
            0,
            0,
            0,
            128,
            0,
        ]
    on_disk = told("--masks", out, "--annotations", davis17_root / "Annotations" / "480p")
    assert (on_disk["mean"], on_disk["sequences"]) == (direct["mean"], direct["sequences"])


def test_youtubevos_masks_lie_as_the_server_wants_them_and_score_the_same(
    told, student, youtubevos_root, tmp_path
):
    out, words = tmp_path / "out", ("--data", youtubevos_root, "--split", "train")
    direct = told("--checkpoint", student, *words, "--out", out)
    fox = [f"Annotations/fox/{stem}.png" for stem in youtubevos.stems(0)]
    owl = [f"Annotations/owl/{stem}.png" for stem in youtubevos.stems(5)]
    assert written(out) == fox + owl
    on_disk = told("--masks", out, "--annotations", youtubevos_root / "train" / "Annotations")
    assert (on_disk["mean"], on_disk["sequences"]) == (direct["mean"], direct["sequences"])
    assert set(direct["sequences"]["fox"]["objects"]) == {"1", "2"}


def test_a_split_without_truth_gives_masks_and_speed_and_says_who_scores(
    told, student, youtubevos_root, tmp_path, capsys
):
    words = ("--checkpoint", student, "--data", youtubevos_root, "--split", "valid_all_frames")
    answer = told(*words, "--out", tmp_path / "out")
    assert answer["mean"] is None
    assert answer["sequences"] == {}
    assert answer["fps"] > 0
    assert "server" in answer["note"]
    assert len(written(tmp_path / "out")) == 5 + 4
    assert evaluate.main([str(word) for word in words]) == 0
    assert "scores come from the benchmark's server" in " ".join(capsys.readouterr().out.split())


def test_the_source_stands_whole_above_the_table(davis17_root, tmp_path, capsys):
    masks = tmp_path / ("long " * 20) / "480p"
    shutil.copytree(davis17_root / "Annotations" / "480p", masks)
    words = ("--masks", masks, "--annotations", davis17_root / "Annotations" / "480p")
    assert evaluate.main([str(word) for word in words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(masks)
    assert "mean" in lines[-1]
    assert "1.000" in lines[-1]


def test_offline_val_is_scored_as_the_server_does(told, student, youtubevos_root, capsys):
    meta = youtubevos_root / "train" / "meta.json"
    youtubevos.write_meta(meta, youtubevos.BEGINS, youtubevos.CATEGORY | {2: "bus"})
    words = ("--checkpoint", student, "--data", youtubevos_root, "--split", "offline_val")
    four = told(*words)["seen_unseen"]
    assert four["g"] == pytest.approx(sum(v for k, v in four.items() if k != "g") / 4)
    assert evaluate.main([str(word) for word in words]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert lines["seen"][1:3] == [f"{four['j_seen']:.3f}", f"{four['f_seen']:.3f}"]
    assert lines["unseen"][1:3] == [f"{four['j_unseen']:.3f}", f"{four['f_unseen']:.3f}"]
    assert lines["G,"][-1] == f"{four['g']:.3f}"


@pytest.fixture
def failed(capsys):
    """Run the command, which fails; return its exit code, stdout and its line on stderr."""

    def run(*words):
        code = evaluate.main([str(word) for word in words])
        told = capsys.readouterr()
        errors = [line for line in told.err.splitlines() if "year auto" not in line]
        assert "Traceback" not in told.err
        return code, told.out, "\n".join(errors)

    return run


def test_first_masks_of_davis_give_masks_for_the_server(told, student, davis17_root, tmp_path):
    annotations = davis17_root / "Annotations" / "480p"
    for path in annotations.rglob("0000[1-5].png"):
        path.unlink()
    answer = told("--checkpoint", student, "--data", davis17_root, "--out", tmp_path / "out")
    assert (answer["mean"], answer["sequences"]) == (None, {})
    assert "server" in answer["note"]
    assert written(tmp_path / "out") == [f"cat/{t:05d}.png" for t in range(FRAMES)]


def test_a_picture_that_breaks_on_the_way_costs_its_video_alone(
    failed, told, student, davis17_root, tmp_path
):
    words = ("--checkpoint", student, "--data", davis17_root, "--split", "train")
    whole = told(*words)
    folder = davis17_root / "JPEGImages" / "480p" / "bee"
    with Image.open(folder / "00003.jpg") as picture:
        picture.save(folder / "00003.png")
    (folder / "00003.jpg").unlink()
    data = (folder / "00003.png").read_bytes()
    (folder / "00003.png").write_bytes(data[:60] + bytes(400) + data[460:])
    code, out, err = failed(*words, "--out", tmp_path / "out", "--json")
    partial = json.loads(out)
    assert code == 1
    assert (partial["mean"], partial["wanted"]) == (None, 2)
    assert partial["sequences"] == {"ant": whole["sequences"]["ant"]}
    assert "bee: " in err and "00003.png: corrupt picture" in err
    assert written(tmp_path / "out") == [f"ant/{t:05d}.png" for t in range(FRAMES)]
    code, out, err = failed(*words)
    assert code == 1
    assert "partial, without a mean: 1 of 2 videos scored" in out
    assert "mean  " not in out
    assert len(err.splitlines()) == 1


def test_missing_masks_show_the_rest_without_a_mean(failed, davis17_root, tmp_path):
    annotations = davis17_root / "Annotations" / "480p"
    shutil.copytree(annotations / "ant", tmp_path / "masks" / "ant")
    words = ("--masks", tmp_path / "masks", "--annotations", annotations)
    code, out, err = failed(*words)
    assert code == 1
    assert "1 of 3 videos scored" in out
    assert " ant " in out
    assert "mean  " not in out
    assert "no masks of 2 of 3 annotated videos (bee, cat)" in err
    code, out, err = failed(*words, "--split", "val")
    assert (code, out) == (1, "")
    code, out, _ = failed(*words, "--split", "train", "--json")
    assert (code, json.loads(out)["mean"]) == (1, None)


def test_every_wrong_argument_is_told_at_once(failed, student, davis17_root, tmp_path):
    code, out, err = failed("--height", 3, "--data", "nodata", "--checkpoint", "nocheckpoint")
    assert (code, out) == (2, "")
    for said in ("--height 3", "nodata: no such folder", "nocheckpoint: no such file"):
        assert said in err
    code, _, err = failed("--masks", "nomasks", "--annotations", "notruth", "--out", "x")
    assert code == 2
    for said in ("nomasks: no such folder", "notruth: no such folder", "--out x: only with"):
        assert said in err
    code, _, err = failed("--checkpoint", "nocheckpoint", "--data", "nodata")
    assert code == 1
    assert "nodata: no such folder" in err and "nocheckpoint: no such file" in err
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    code, _, err = failed("--checkpoint", text, "--data", davis17_root, "--split", "vall")
    assert code == 1
    assert "did you mean 'val'" in err and "text.safetensors" in err
    assert failed("--checkpoint", "", "--data", davis17_root, "--out", "")[0] == 2


def test_masks_go_to_no_folder_of_others(failed, told, student, davis17_root, tmp_path):
    before = {path: path.read_bytes() for path in davis17_root.rglob("*.png")}
    words = ("--checkpoint", student, "--data", davis17_root, "--out")
    for out in (davis17_root, davis17_root / "Annotations", davis17_root / "Annotations" / "480p"):
        code, _, err = failed(*words, out)
        assert code == 2
        assert f"--out {out}" in err
    assert {path: path.read_bytes() for path in davis17_root.rglob("*.png")} == before
    (tmp_path / "out" / "eel").mkdir(parents=True)
    code, _, err = failed(*words, tmp_path / "out")
    assert code == 1
    assert "(eel)" in err and "--overwrite" in err
    told(*words, tmp_path / "out", "--overwrite")
    assert len(written(tmp_path / "out")) == FRAMES


def test_the_home_folder_may_be_a_tilde_in_every_path(
    told, student, davis17_root, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(student, tmp_path / "s.safetensors")
    (tmp_path / "mine.txt").write_text("cat\n")
    words = ("--checkpoint", "~/s.safetensors", "--data", "~/davis17", "--split", "~/mine.txt")
    direct = told(*words, "--out", "~/out")
    truth = "~/davis17/Annotations/480p"
    on_disk = told("--masks", "~/out", "--annotations", truth, "--split", "~/mine.txt")
    assert on_disk["mean"] == direct["mean"]


def test_a_video_that_is_left_out_is_not_judged(failed, student, davis17_root, capsys):
    (davis17_root / "Annotations/480p/bee/00002.png").unlink()
    words = ("--checkpoint", student, "--data", davis17_root, "--split", "train", "--json")
    code, _, err = failed(*words)
    assert (code, "of evaluate --leave-out NAME" in err) == (1, True)
    assert evaluate.main([*map(str, words), "--leave-out", "bee"]) == 0
    assert list(json.loads(capsys.readouterr().out)["sequences"]) == ["ant"]
    code, _, err = failed(*words, "--leave-out", "be")
    assert (code, "'be', to be left out: no such video" in err) == (1, True)
