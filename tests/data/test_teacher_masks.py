"""Test the file of a teacher's masks, and the labels that a video has from it."""

from typing import Any

import numpy as np
import pytest
import torch

from vosmodels.data.clips import SequenceClips, VideoSource, collate
from vosmodels.data.davis import DavisDataset
from vosmodels.data.masks import NO_LABEL
from vosmodels.data.teacher_masks import StoredMasks, TaughtVideo, doubtful, write
from vosmodels.errors import InputError
from vosmodels.types import IGNORED

OBJECTS = (3, 7)


def drawn(frames=4, height=20, width=30, seed=0):
    """Probabilities of background and two objects that sum to 1, and the planes of a file."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet((0.3, 0.3, 0.3), (frames, height, width)).transpose(0, 3, 1, 2)
    ids = np.array([0, *OBJECTS], dtype=np.uint8)[probabilities.argmax(1)]
    quantised = np.round(probabilities[:, 1:] * 255).astype(np.uint8)
    return probabilities, [np.concatenate(([i], q)) for i, q in zip(ids, quantised, strict=True)]


def test_a_file_gives_back_ids_and_the_probability_of_each_pixels_id(tmp_path):
    probabilities, planes = drawn()
    counts = write(tmp_path / "masks/ant.npz", OBJECTS, iter(planes))
    masks = StoredMasks(tmp_path / "masks/ant.npz")
    for number, frame in enumerate(planes):
        assert np.array_equal(masks.ids(number), frame[0])
        confidence = masks.confidence(number) / 255
        assert np.abs(confidence - probabilities[number].max(0)).max() <= 1.01 / 255
    later = np.stack([masks.confidence(number) for number in (1, 2, 3)])
    assert np.array_equal(counts, np.bincount(later.ravel(), minlength=256))


def test_the_same_masks_are_the_same_bytes(tmp_path):
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in files:
        write(path, OBJECTS, drawn()[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    write(files[1], OBJECTS, drawn(seed=1)[1])
    assert files[0].read_bytes() != files[1].read_bytes()


def test_a_torn_file_is_told_with_its_remedy(tmp_path):
    path = tmp_path / "ant.npz"
    write(path, OBJECTS, drawn()[1])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    for broken in (bytes(data), bytes(data[: len(data) // 2]), b""):
        path.write_bytes(broken)
        with pytest.raises(
            InputError, match=r"ant\.npz: the teacher's masks cannot be read .*dele"
        ):
            [StoredMasks(path).ids(number) for number in range(4)]


def test_a_label_is_there_where_its_probability_reaches_the_threshold(davis17_root, tmp_path):
    ant = DavisDataset(davis17_root).given("train")[0]
    height, width = ant.mask(0).shape
    _, planes = drawn(len(ant), height, width)
    write(tmp_path / "ant.npz", OBJECTS, planes)
    masks = StoredMasks(tmp_path / "ant.npz")
    for threshold in (0.0, 0.5, 0.9, 1.0):
        video = TaughtVideo(ant, masks, threshold)
        assert np.array_equal(video.mask(2), planes[2][0])
        for y, x in ((0, 0), (7, 9), (20, 31), (40, 60)):
            sure = masks.confidence(2)[y, x] / 255 >= threshold
            assert video.label(2)[y, x] == (planes[2][0, y, x] if sure else NO_LABEL)
    assert doubtful(np.array([254, 255], dtype=np.uint8), 1.0).tolist() == [True, False]
    assert not doubtful(np.array([0], dtype=np.uint8), 0.0).any()


def test_a_clip_starts_with_whole_masks_and_is_ignored_below_the_threshold(davis17_root, tmp_path):
    """Its objects, frames and views are those of the clip that has true masks."""
    dataset = DavisDataset(davis17_root)
    true, given = dataset.sequences("train")[0], dataset.given("train")[0]
    planes = []
    for number in range(len(true)):
        ids = true.mask(number)
        sure = np.where(np.arange(ids.shape[1]) % 2, 255, 128)  # every second column
        planes.append(np.stack([ids, *((ids == i) * sure for i in (1, 2))]).astype(np.uint8))
        background = (ids == 0) & (sure == 128)
        planes[-1][1][background] = 127  # so that the background has 128 there
    write(tmp_path / "ant.npz", (1, 2), planes)
    taught = TaughtVideo(given, StoredMasks(tmp_path / "ant.npz"), 0.9)
    settings: dict[str, Any] = {"clip_length": 3, "crop": 32, "seed": 0, "max_objects": 2}
    sources = [SequenceClips([VideoSource([video])], **settings) for video in (true, taught)]
    for index in range(6):
        clip, labelled = (source.sample(index) for source in sources)
        assert clip.labelled
        assert not labelled.labelled
        assert clip.frames.equal(labelled.frames)
        assert clip.masks[:, 0].equal(labelled.masks[:, 0])
        known = labelled.masks[:, 1:] != IGNORED
        assert 0.3 < known.float().mean() < 0.7
        assert clip.masks[:, 1:][known].equal(labelled.masks[:, 1:][known])


def test_a_clip_of_soft_labels_has_the_warped_probabilities_of_its_objects(davis17_root, tmp_path):
    dataset = DavisDataset(davis17_root)
    true, given = dataset.sequences("train")[0], dataset.given("train")[0]
    shares = {1: 100, 2: 50}  # of 255, everywhere: what no view changes
    planes = []
    for number in range(len(true)):
        everywhere = [np.full(true.mask(0).shape, share) for share in shares.values()]
        planes.append(np.stack([true.mask(number), *everywhere]).astype(np.uint8))
    write(tmp_path / "ant.npz", (1, 2), planes)
    taught = TaughtVideo(given, StoredMasks(tmp_path / "ant.npz"), soft=True)
    settings: dict[str, Any] = {"clip_length": 3, "crop": 32, "seed": 0}
    both = SequenceClips([VideoSource([taught])], **settings, max_objects=3)
    seen: set[tuple[int, ...]] = set()
    for index in range(8):
        clip = both.sample(index)
        assert clip.soft is not None
        assert clip.soft.shape == (1, 2, 4, 32, 32)
        torch.testing.assert_close(clip.soft.sum(2), torch.ones(1, 2, 32, 32))
        middle = (255 * clip.soft[0, :, :, 16, 16]).round().int().tolist()
        seen.update(tuple(frame) for frame in middle)
    assert seen <= {(105, 100, 50, 0), (105, 50, 100, 0), (155, 100, 0, 0), (205, 50, 0, 0)}
    assert len(seen) > 2
    alone = SequenceClips([VideoSource([true])], **settings, max_objects=3).sample(0)
    pair = collate([alone, both.sample(0)])
    assert pair.soft is not None
    assert pair.soft[0].argmax(1).equal(alone.masks[0, 1:])
    assert set(pair.soft[0].unique().tolist()) == {0.0, 1.0}
