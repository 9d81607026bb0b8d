"""Test what keeps a video from being scored, found before a segmenter runs."""

from pathlib import Path

import numpy as np
from PIL import Image

from vosmodels.data.davis import DavisDataset, DavisSequence
from vosmodels.data.scorable import unscorable


def cat(root: Path) -> DavisSequence:
    (video,) = DavisDataset(root).open(["cat"])
    return video


def mask(root: Path, number: int) -> Path:
    return root / "Annotations/480p/cat" / f"{number:05d}.png"


def test_a_sound_video_can_be_scored_at_strides_that_leave_a_frame(davis_root: Path) -> None:
    assert unscorable(cat(davis_root)) == unscorable(cat(davis_root), stride=2) == []
    (problem,) = unscorable(cat(davis_root), stride=3)
    assert problem.startswith("cat: 6 frames at stride 3 leave nothing to score; wanted at least 3")


def test_every_mask_that_cannot_be_read_is_named(davis_root: Path) -> None:
    levels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    for number in (2, 5):
        Image.fromarray(levels).save(mask(davis_root, number))
    problems = unscorable(cat(davis_root))
    assert [str(mask(davis_root, n)) in p for n, p in zip((2, 5), problems, strict=True)] == [
        True,
        True,
    ]


def test_a_first_mask_without_objects_is_named(davis_root: Path) -> None:
    Image.new("L", (64, 48)).save(mask(davis_root, 0))
    assert unscorable(cat(davis_root)) == ["cat: no object in the first mask, so nothing to follow"]


def test_a_test_video_has_nothing_but_its_first_mask_to_be_read(davis_root: Path) -> None:
    for number in range(1, 6):
        mask(davis_root, number).unlink()
    assert unscorable(cat(davis_root)) == []
