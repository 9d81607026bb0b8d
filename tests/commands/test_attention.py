"""Test the command that shows where attention looks, on the smallest video."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import attention
from tests.model_tools import any_filled, textured_frames
from vosmodels import checkpoint
from vosmodels.data.masks import write_palette

HEIGHT, WIDTH = 33, 65


def words(tmp_path: Path, name: str, *more: str) -> list[str]:
    """A video of 14 frames, a mask, a checkpoint, and the command line."""
    video, store = tmp_path / "clip", tmp_path / "store"
    video.mkdir()
    for number, frame in enumerate(textured_frames(14, HEIGHT, WIDTH)):
        picture = frame.permute(1, 2, 0).mul(255).byte().numpy()
        Image.fromarray(picture).save(video / f"{number:05d}.png")
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    ids[8:25, 8:40] = 1
    write_palette(tmp_path / "first.png", ids)
    model = any_filled(name)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0)
    path, _ = checkpoint.write(store, model.state_dict(), info)
    given = {"--checkpoint": path, "--video": video, "--mask": tmp_path / "first.png"}
    pairs = [str(word) for pair in given.items() for word in pair]
    return [*pairs, "--out", str(tmp_path / "out"), *more]


def test_both_attentions_are_written_as_pictures_with_their_figures(tmp_path, capsys):
    line = words(tmp_path, "deaott_deformable", "--query", "17,16", "--json")
    assert attention.main(line) == 0
    told = json.loads(capsys.readouterr().out)
    names = [
        f"{kind}-1-{panel}.png"
        for kind in ("self", "long")
        for panel in ("mask", "attention", "keypoints", "keys", "offsets")
    ]
    assert told["files"] == names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    for name in names:
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == (WIDTH, HEIGHT + 18)
    assert told["frame"] == 10
    own, long = told["attentions"]
    assert (own["attention"], own["frame"], own["query"]) == ("self", 10, [16, 16])
    assert (long["attention"], long["frame"], long["remembered"]) == ("long", 0, [0])
    for one in (own, long):
        assert one["positions"] == [3, 5]
        assert [value for *_, value in one["key_points"]]
        assert sum(key["weight"] for key in one["keys"]) == pytest.approx(1, abs=1e-4)
        assert {len(key["sampled"]) for key in one["keys"]} == {4}


def test_one_attention_and_one_frame_can_be_asked_for(tmp_path, capsys):
    line = words(tmp_path, "deaott", "--frame", "3", "--attention", "self")
    assert attention.main(line) == 0
    assert "frame 3" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"self-1-{panel}.png" for panel in ("attention", "keypoints", "keys", "mask")
    ]
    assert attention.main(line) == 1  # does not write among files
    assert "--overwrite" in capsys.readouterr().err
    assert attention.main([*line, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("name", "more", "code", "message"),
    [
        ("deaott", "--frame 20", 1, "--frame 20: the video has 14 frames, 0 to 13"),
        ("deaott", "--query 65,3", 2, "--query 65,3: outside the video, which is 65x33"),
        ("deaott", "--layer 2", 1, "no intermediate 'self.weights.2'"),
        ("deaott", "--object 7", 1, "object 7: not in the predicted mask"),
        ("mobilevos_mobilenetv2_noaspp", "", 1, "give a checkpoint of AOT or DeAOT"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(tmp_path, capsys, name, more, code, message):
    assert attention.main(words(tmp_path, name, *more.split())) == code
    told = capsys.readouterr()
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_query_is_in_px_of_the_video_when_the_network_sees_fewer_rows(tmp_path, capsys):
    line = words(tmp_path, "deaott", "--height", "17", "--query", "64,32", "--json")
    assert attention.main(line) == 0
    told = json.loads(capsys.readouterr().out)
    assert {tuple(one["query"]) for one in told["attentions"]} == {(64.0, 32.0)}
    assert told["attentions"][0]["positions"] == [2, 3]
