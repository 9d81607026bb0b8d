import shutil

import pytest

from orchestrator.config import DataConfig, TrainConfig
from orchestrator.data import fingerprint, scored_sequences, sequences, training_clips
from tests import youtubevos
from vosmodels.data.youtubevos import YouTubeVosSequence
from vosmodels.types import InputError


@pytest.mark.parametrize("layout", ["auto", "youtubevos"])
def test_a_youtubevos_folder_is_read_by_its_meta_json_or_by_name(youtubevos_root, layout):
    data = DataConfig(root=str(youtubevos_root), layout=layout)
    assert [video.name for video in sequences(data, "valid")] == ["fox", "owl"]
    assert len(fingerprint(data, "valid")) == 32


def test_a_davis_folder_stays_davis(davis_root):
    data = DataConfig(root=str(davis_root))
    assert [video.name for video in sequences(data, "train")] == ["ant", "bee"]
    with pytest.raises(InputError, match="no split 'train'; there are davis"):
        sequences(DataConfig(root=str(davis_root), layout="youtubevos"), "train")


def test_a_youtubevos_folder_is_davis_where_that_is_asked_for(youtubevos_root):
    with pytest.raises(InputError, match="not a DAVIS folder"):
        sequences(DataConfig(root=str(youtubevos_root), layout="davis"), "train")


def test_youtubevos_clips_are_made_of_neighbouring_labels(youtubevos_root, monkeypatch):
    read = []
    mask = YouTubeVosSequence.mask

    def recorded(self, index):
        read.append(index)
        return mask(self, index)

    monkeypatch.setattr(YouTubeVosSequence, "mask", recorded)
    train = TrainConfig(clip_length=2, crop=32)
    source = training_clips(DataConfig(root=str(youtubevos_root)), train, seed=0)
    starts = set()
    for index in range(12):
        source.sample(index)
        first, second = read[-2:]
        assert abs(first - second) == 1
        starts.add(first)
    assert len(starts) > 2


def test_youtubevos_clips_are_made_of_labelled_frames_alone(youtubevos_root):
    """Frames between labels are removed: the clips stay as they are, bit by bit."""
    train = TrainConfig(clip_length=4, crop=32)
    before = training_clips(DataConfig(root=str(youtubevos_root)), train, seed=0)
    sparse = shutil.copytree(youtubevos_root, youtubevos_root.with_name("sparse"))
    for frame in range(youtubevos.LAST + 1):
        if frame % youtubevos.GAP:
            youtubevos.picture(sparse, "train", "fox", frame).unlink()
    after = training_clips(DataConfig(root=str(sparse)), train, seed=0)
    for index in range(4):
        one, other = before.sample(index), after.sample(index)
        assert one.frames.equal(other.frames)
        assert one.masks.equal(other.masks)


def test_a_split_that_only_gives_objects_is_refused_where_scores_are_wanted(youtubevos_root):
    data = DataConfig(root=str(youtubevos_root))
    assert len(scored_sequences(data, "train")) == 2
    with pytest.raises(InputError, match="split 'valid' has nothing to score"):
        scored_sequences(data, "valid")
