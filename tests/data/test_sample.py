"""Test the clip that people without a video can try."""

import numpy as np
import pytest

from orchestrator import fetch
from vosmodels.data.generated import sequences
from vosmodels.data.masks import read_mask
from vosmodels.inference.film import prepare


def test_the_sample_is_a_video_whose_first_mask_can_be_followed(tmp_path, capsys):
    assert fetch.main(["sample", str(tmp_path / "mine")]) == 0
    frames, mask = tmp_path / "mine" / "frames", tmp_path / "mine" / "first.png"
    task = prepare(frames, mask)
    assert len(task.report.shares) == 2
    assert len(list(task.video.frames)) == 48
    told = capsys.readouterr().out
    assert "python -m orchestrator.segment --checkpoint demo --video " in told
    assert f"--video {frames} --mask {mask} --out {tmp_path / 'mine' / 'out.mp4'}" in told


def test_the_sample_is_written_over_nothing_that_is_there(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert fetch.main(["sample", str(tmp_path)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_sample_is_in_no_split(split, tmp_path):
    fetch.main(["sample", str(tmp_path / "mine")])
    ids = read_mask(tmp_path / "mine" / "first.png")
    for video in sequences(split, size=ids.shape, length=1):
        assert not np.array_equal(video.mask(0), ids)
