import pickle
import shutil

import pytest
import torch
from PIL import Image

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.train import TrainConfig
from orchestrator.execution.scoring import Scorer
from orchestrator.planning import datasets
from orchestrator.planning.datasets import (
    Stage,
    _open_images,
    check_names,
    clips_fingerprint,
    fingerprint,
    sequences,
    staged,
    training_clips,
    unlabelled,
)
from orchestrator.planning.protocol import check_scored_videos, protocol_key
from orchestrator.tracking.storage import Storage
from tests import youtubevos
from vosmodels.data.davis import DavisDataset
from vosmodels.data.given import picture_gap
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.data.youtubevos import YouTubeVosSequence
from vosmodels.errors import InputError
from vosmodels.types import IGNORED


def video_stage(root, train):
    return Stage("video", train, DataConfig(root=str(root)))


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
    source = training_clips(video_stage(youtubevos_root, train), seed=0)
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
    before = training_clips(video_stage(youtubevos_root, train), seed=0)
    sparse = shutil.copytree(youtubevos_root, youtubevos_root.with_name("sparse"))
    for frame in range(youtubevos.LAST + 1):
        if frame % youtubevos.GAP:
            youtubevos.picture(sparse, "train", "fox", frame).unlink()
    after = training_clips(video_stage(sparse, train), seed=0)
    for index in range(4):
        one, other = before.sample(index), after.sample(index)
        assert one.frames.equal(other.frames)
        assert one.masks.equal(other.masks)


def still_images(root, count):
    for number in range(count):
        for kind, mode in (("images", "RGB"), ("masks", "L")):
            path = root / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new(mode, (64, 64))
            picture.paste(Image.new(mode, (32, 32), "white"), (8 + number, 16))
            picture.save(path)
    return root


def test_without_stages_a_run_has_one_on_its_own_data(davis_root):
    config = RunConfig(name="x", data=DataConfig(root=str(davis_root)))
    (stage,) = staged(config)
    assert (stage.name, stage.train, stage.data) == ("video", config.train, config.data)


def test_every_stage_has_clips_of_its_own_data_and_size(davis_root, youtubevos_root, tmp_path):
    stills = still_images(tmp_path / "stills", 3)
    lists = [{"root": str(davis_root), "repeat": 3}, {"root": str(youtubevos_root)}]
    small = {"steps": 2, "batch_size": 1, "clip_length": 2}
    config = RunConfig.model_validate(
        {
            "name": "x",
            "data": {"root": str(davis_root), "static": str(stills), "max_objects": 2},
            "stages": [
                {"name": "static", "crop": 48, **small},
                {"name": "bl30k", "crop": 32, "data": str(davis_root), **small},
                {"name": "video", "crop": 64, "data": lists, "max_skip": "curriculum", **small},
            ],
        }
    )
    made = [training_clips(stage, seed=0) for stage in staged(config)]
    sizes = [clips.sample(0).frames.shape for clips in made]
    assert sizes == [(1, 2, 3, edge, edge) for edge in (48, 32, 64)]
    for clips in made:  # processes that make batches ahead have a copy
        assert torch.equal(
            pickle.loads(pickle.dumps(clips)).sample(1).frames, clips.sample(1).frames
        )


def test_a_list_of_folders_is_visited_as_often_as_it_says(davis_root, youtubevos_root, monkeypatch):
    seen = []
    mask = YouTubeVosSequence.mask

    def noticed(self, index):
        seen.append(self.name)
        return mask(self, index)

    monkeypatch.setattr(YouTubeVosSequence, "mask", noticed)
    train = TrainConfig(clip_length=2, crop=32)
    folders = [{"root": str(davis_root), "repeat": 4}, {"root": str(youtubevos_root)}]
    data = DataConfig.model_validate({"train": folders})
    source = training_clips(Stage("video", train, data), seed=0)
    visits = 0
    for index in range(10):  # an epoch: two videos of DAVIS four times, two of YouTube-VOS once
        seen.clear()
        source.sample(index)
        visits += bool(seen)
    assert visits == 2


def test_a_repeat_and_a_further_image_change_what_a_stage_is_keyed_by(tmp_path):
    stills = still_images(tmp_path / "stills", 2)

    def of(repeat):
        data = DataConfig.model_validate({"static": [{"root": str(stills), "repeat": repeat}]})
        return clips_fingerprint(Stage("static", TrainConfig(), data))

    once = of(1)
    assert once != of(2)
    still_images(stills, 3)
    _open_images.cache_clear()
    assert of(1) != once


def test_scenes_have_as_many_objects_in_clips_and_in_scored_splits_as_asked_for():
    data = DataConfig(max_objects=5, scene_objects=5)
    assert {len(video.ids) for video in sequences(data, "val")} > {4, 5}
    source = training_clips(Stage("video", TrainConfig(clip_length=2, crop=32), data), seed=0)
    counts = {int(source.sample(index).present.sum()) for index in range(25)}
    assert counts == {1, 2, 3, 4, 5}


def test_a_generated_split_is_known_by_its_scenes_and_by_their_pixels_alone_as_ever(monkeypatch):
    monkeypatch.setattr(datasets, "_generated_fingerprint", lambda *of: 16 * "e")  # scenes alike
    plain = fingerprint(DataConfig(), "val")
    assert len(plain) == 16
    scenes = ({"scene_objects": 4}, {"scene_objects": 5}, {"scene_scale": 2.0})
    others = {fingerprint(DataConfig(**keys), "val") for keys in scenes}
    assert len(others | {plain}) == 4


@pytest.mark.parametrize("name", ["video", "static"])
def test_pasting_gives_clips_of_one_object_a_second_one(name, davis_root, tmp_path):
    """Videos of DAVIS-2016 and still images alike; without it the clips are what they were."""
    images = tmp_path / "images"
    images.mkdir()
    for letter in "ab":
        picture = Image.new("L", (80, 60))
        picture.paste(255, (20, 20, 50, 40))
        picture.save(images / f"{letter}.png")
        picture.convert("RGB").save(images / f"{letter}.jpg")
    data = DataConfig.model_validate(
        {"root": str(davis_root), "static": str(images), "max_objects": 3}
    )
    train = TrainConfig(clip_length=2, crop=33)
    alone = training_clips(Stage(name, train, data), seed=0)
    train = train.model_copy(update={"paste": 1.0})
    pasting = training_clips(Stage(name, train, data), seed=0)
    pairs = [(pasting.sample(i), alone.sample(i)) for i in range(12)]
    counts = [int(both.present.sum()) for both, _ in pairs]
    assert {*counts} <= {1, 2}
    assert counts.count(2) > 6
    for both, one in pairs:
        untouched = (both.frames == one.frames).all(2)
        assert untouched.any()
        assert not untouched.all()


def test_composites_are_scored_and_not_trained_on(davis_root):
    (davis_root / "ImageSets" / "2016" / "val.txt").write_text("ant\nbee\ncat\n")
    plain = DataConfig(root=str(davis_root))
    data = DataConfig(root=str(davis_root), composites=2)
    assert [len(video.ids) for video in sequences(data, "val")] == [3, 3, 3]
    assert [len(video.ids) for video in sequences(plain, "val")] == [1, 1, 1]
    assert [len(video.ids) for video in sequences(DataConfig(composites=1), "val")] != [
        len(video.ids) for video in sequences(DataConfig(), "val")
    ]
    train = TrainConfig(clip_length=2, crop=32)
    assert len({clips_fingerprint(Stage("video", train, d)) for d in (plain, data)}) == 1
    keys = [protocol_key(ScoringProtocol(d, "val")) for d in (plain, data)]
    assert keys[1] == [*keys[0], "composites 2"]
    with pytest.raises(InputError, match="wanted 2 videos beside each; the split has 2"):
        sequences(data, "train")


def test_the_first_mask_copied_is_scored_on_every_object_of_a_composite(davis_root, tmp_path):
    (davis_root / "ImageSets" / "2016" / "val.txt").write_text("ant\nbee\n")
    protocol = ScoringProtocol(DataConfig(root=str(davis_root), composites=1), "val", height=48)
    check_scored_videos(protocol)
    assert "val with the objects of 1 more in each video" in protocol.describe()
    scores = Scorer(Storage(tmp_path / "results"), protocol).copy()
    names = [(video.name, len(video.objects)) for video in scores.sequences]
    assert names == [("ant+bee", 2), ("bee+ant", 2)]
    assert 0 < scores.jf < 1


def given_stage(root, **settings):
    train = TrainConfig(clip_length=3, crop=32, max_skip=5)
    return Stage("video", train, DataConfig(root=str(root), **settings))


def test_youtubevos_videos_without_labels_need_the_masks_alone_that_give_objects(youtubevos_root):
    """Every picture is used; a gap is counted in pictures, which some videos keep every fifth."""
    stage = given_stage(youtubevos_root, labels="none")
    before = clips_fingerprint(stage), [training_clips(stage, 0).sample(i) for i in range(4)]
    bare = shutil.copytree(youtubevos_root, youtubevos_root.with_name("bare"))
    for video, begins in youtubevos.BEGINS.items():
        for path in (bare / "train/Annotations" / video).iterdir():
            if int(path.stem) not in begins.values():
                path.unlink()
    stage = given_stage(bare, labels="none")
    after = clips_fingerprint(stage), [training_clips(stage, 0).sample(i) for i in range(4)]
    assert before[0] == after[0]
    for one, other in zip(before[1], after[1], strict=True):
        assert one.frames.equal(other.frames)
        assert one.masks.equal(other.masks)
        assert (one.masks[:, 1:] == IGNORED).all()
        assert not one.labelled
    with pytest.raises(InputError, match="too short for a clip of 3"):
        training_clips(given_stage(bare), 0)
    fox, owl = unlabelled(stage, "none")
    assert [len(fox.video), len(owl.video)] == [21, 4]
    assert [picture_gap(each.video) for each in (fox, owl)] == [1, 5]
    assert unlabelled(stage, "teacher") == []


def test_the_content_of_a_given_mask_and_of_no_other_names_a_video(davis17_root, tmp_path):
    def key(root):
        return [each.key for each in unlabelled(given_stage(root, labels="none"), "none")]

    before = key(davis17_root)
    assert len(set(before)) == 2
    for number, changes in ((3, False), (0, True)):
        root = shutil.copytree(davis17_root, tmp_path / str(number))
        mask = root / f"Annotations/480p/bee/{number:05d}.png"
        other = read_mask(mask)
        other[:2] = 2
        write_palette(mask, other)
        assert (key(root) != before) == changes


def test_a_late_object_counts_where_masks_give_objects_alone(davis17_root):
    """Of a video with a mask for every frame only the first mask is used, as in DAVIS."""
    masks = davis17_root / "Annotations/480p/ant"
    late = read_mask(masks / "00003.png")
    late[:4, :4] = 5
    write_palette(masks / "00003.png", late)

    def begins():
        (ant, _) = DavisDataset(davis17_root).given("train")
        return ant.begins

    assert begins() == {1: 0, 2: 0}
    for number in (1, 2, 4, 5):
        (masks / f"{number:05d}.png").unlink()
    assert begins() == {1: 0, 2: 0, 5: 3}


def test_generated_videos_that_are_left_out_are_in_no_split_and_in_the_fingerprint():
    one, two = "generated-val-01", "generated-test-03"
    whole, fewer = DataConfig(), DataConfig(leave_out=(one, two))
    names = [video.name for video in sequences(whole, "val")]
    assert [video.name for video in sequences(fewer, "val")] == [n for n in names if n != one]
    assert fingerprint(fewer, "val") == f"{fingerprint(whole, 'val')}, not {one}"
    assert fingerprint(fewer, "train") == fingerprint(whole, "train")
    check_names(fewer)
    with pytest.raises(InputError, match="'generated-val-99', to be left out: no such video"):
        check_names(DataConfig(leave_out=("generated-val-99",)))
    with pytest.raises(InputError, match="no video of split 'val' is left"):
        sequences(DataConfig(leave_out=tuple(names)), "val")
