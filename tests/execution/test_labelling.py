"""Test that a teacher's masks label the videos of which only the first mask is used."""

import dataclasses
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import forecast, labelling
from orchestrator.execution import job as jobs
from orchestrator.execution.labelling import MaskCache, labels_of_plan, left_to_segment
from orchestrator.planning import calibration
from orchestrator.planning.paths import located
from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import plan_sweep, videos_segmented
from orchestrator.tracking import events, leases
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.conftest import write_davis
from tests.model_tools import fill_from_names
from vosmodels import checkpoint, registry
from vosmodels.data.frames import frame_tensor
from vosmodels.data.masks import write_palette
from vosmodels.data.teacher_masks import StoredMasks
from vosmodels.inference import VideoSegmenter, for_inference

MODEL = "mobilevos_mobilenetv2_noaspp"
FREE = {"logit": 0.0, "representation": 0.0, "dice": 1.0}


@pytest.fixture(scope="module", autouse=True)
def few_calibration_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Weights of a teacher that predicts something."""
    model = registry.build(MODEL, seed=3)
    fill_from_names(model)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0, scores={})
    path, _ = checkpoint.write(tmp_path_factory.mktemp("teacher"), model.state_dict(), info)
    return path


def first_masks_alone(root, *names):
    """Delete every mask of the videos but the first."""
    for name in names:
        for path in sorted((root / "Annotations/480p" / name).iterdir())[1:]:
            path.unlink()
    return root


def plan_on(root, weights, *, sources=None, **sections):
    """One trial on `ant`, whose masks are true, and `bee`, whose masks are the teacher's."""
    for name in ("ant", "bee"):
        (root / f"{name}.txt").write_text(f"{name}\n")
    train = sources or [
        {"root": str(root), "split": str(root / "ant.txt")},
        {"root": str(root), "split": str(root / "bee.txt"), "labels": "teacher"},
    ]
    values = {
        "name": "tiny",
        "data": {"root": str(root), "select_height": 48, "train": train, "max_objects": 1},
        "student": {"name": MODEL},
        "teacher": {"name": MODEL, "weights": weights and str(weights)},
        "loss": FREE,
        "stem": {"steps": 1, "batch_size": 2, "crop": 32, "lr": 1e-3},
        "train": {"steps": 2, "checkpoint_every": 2, "batch_size": 2, "clip_length": 3}
        | {"crop": 32, "lr": 1e-3},
        "sweep": {"parameters": {"train.lr": [1e-3]}},
    }
    for name, section in sections.items():
        values[name] = values[name] | section
    config = SweepConfig.model_validate(values)
    return plan_sweep(located(config), sweep_id(config), threads=1)


def run(plan, folder):
    """Run a plan; return the sha256 of its last checkpoint, and its storage."""
    storage = Storage(folder)
    for job in plan.jobs:
        jobs.run([job], storage)
    return Ledger(folder).job(plan.trials[0].key).checkpoints()[-1].sha256, storage


@pytest.mark.slow
@pytest.mark.parametrize(("segments", "threshold"), [("video", 0.44), ("clip", 0.55)])
def test_masks_after_the_first_change_neither_keys_nor_weights(
    tmp_path, teacher, segments, threshold
):
    full = write_davis(tmp_path / "full", 2017)
    settings = {"threshold": threshold, "segments": segments}
    plan = plan_on(full, teacher, teacher=settings)
    first = first_masks_alone(shutil.copytree(full, tmp_path / "first"), "bee")
    twin = plan_on(first, teacher, teacher=settings)
    assert [job.key for job in plan.jobs] == [job.key for job in twin.jobs]
    sha256, storage = run(plan, tmp_path / "a")
    assert run(twin, tmp_path / "b")[0] == sha256
    supervised = plan_on(full, teacher, sources=[{"root": str(full)}])
    assert run(supervised, tmp_path / "c")[0] != sha256
    record = Ledger(storage.root).job(plan.trials[0].key)
    (taught,) = record.of(events.Taught)
    assert taught.teacher == f"{MODEL} {teacher.stem}"
    assert (taught.segments, taught.threshold, taught.videos) == (segments, threshold, 1)
    shares = [losses.values["ignored"] for losses in record.losses()]
    assert 0 < max(shares) < 1
    if segments == "video":
        assert taught.ignored is not None
        assert 0 < taught.ignored < 1


def videos_of(plan):
    return videos_segmented(plan.trials[0])


def cache_in(folder, plan, teacher, **options):
    model = registry.build(MODEL, seed=3)
    checkpoint.load_weights(model, teacher)
    config = plan.trials[0].config.teacher.model_copy(update=options)
    return MaskCache(Storage(folder), config, teacher.stem, model.eval())


@pytest.fixture(scope="module")
def planned(tmp_path_factory, teacher):
    root = write_davis(tmp_path_factory.mktemp("data") / "davis", 2017)
    both = [{"root": str(root), "labels": "teacher"}]
    return plan_on(root, teacher, sources=both)


@pytest.fixture(scope="module")
def made(tmp_path_factory, planned, teacher):
    """A storage with the masks of two videos."""
    folder = tmp_path_factory.mktemp("made")
    told = []
    assert (
        cache_in(folder, planned, teacher).make(videos_of(planned), lambda *at: told.append(at))
        == 2
    )
    assert told == [(1, 2), (2, 2)]
    return folder


def test_stored_masks_are_those_of_the_segmenter_from_the_first_mask(made, planned, teacher):
    cache = cache_in(made, planned, teacher)
    for each in videos_of(planned):
        segmenter = VideoSegmenter(for_inference(cache.model))
        stored = StoredMasks(cache.path(each))
        first = torch.from_numpy(each.video.mask(0).astype("int64"))
        for number in range(len(each.video)):
            frame = frame_tensor(each.video.frame(number))
            ids = segmenter.step(frame, first if number == 0 else None)
            assert torch.equal(torch.from_numpy(stored.ids(number)).long(), ids)
            sure = 255 * segmenter.probabilities.max(0).values
            found = torch.from_numpy(stored.confidence(number)).float()
            assert (found - sure).abs().max() <= 1.01
        assert stored.confidence(0).min() == 255


def test_masks_are_made_once_and_anew_where_they_are_broken(
    made, planned, teacher, tmp_path, caplog
):
    folder = shutil.copytree(made, tmp_path / "copy")
    cache, videos = cache_in(folder, planned, teacher), videos_of(planned)
    whole = {each.key: cache.path(each).read_bytes() for each in videos}
    assert cache.make(videos, lambda *at: None) == 0
    first, second = (cache.path(each) for each in videos)
    torn = bytearray(first.read_bytes())
    torn[len(torn) // 2] ^= 1
    first.write_bytes(torn)
    second.with_suffix(".json").unlink()  # as after a kill between the two files
    assert cache.make(videos, lambda *at: None) == 2
    assert f"{first}: not the masks that were written" in caplog.text
    assert {each.key: cache.path(each).read_bytes() for each in videos} == whole
    first.unlink()
    second.with_suffix(".json").write_text("{")
    assert cache.make(videos, lambda *at: None) == 2
    assert {each.key: cache.path(each).read_bytes() for each in videos} == whole
    assert not [path for path in first.parent.iterdir() if path.name.startswith(".")]


def test_a_kill_loses_no_video_that_was_done(planned, teacher, tmp_path, monkeypatch):
    cache, videos = cache_in(tmp_path, planned, teacher), videos_of(planned)
    frames = iter(range(8))  # of 12

    def alive():
        if next(frames, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(cache, alive=alive).make(videos, lambda *at: None)
    assert [cache.recorded(each) for each in videos] == [True, False]
    assert cache.make(videos, lambda *at: None) == 1


def test_a_video_that_another_process_is_at_is_waited_for(
    made, planned, teacher, tmp_path, monkeypatch
):
    """The other process ends with the masks of the one, and dies over the other."""
    monkeypatch.setattr(labelling, "WAIT_S", 0.01)
    cache, videos = cache_in(tmp_path, planned, teacher), videos_of(planned)
    (tmp_path / "masks").mkdir()
    locks = [FileLock(cache.path(each).with_suffix(".lock")) for each in videos]
    for lock in locks:
        lock.acquire()
    waits: list[None] = []

    def alive():
        waits.append(None)
        if len(waits) == 5:
            for suffix in (".npz", ".json"):
                path = cache.path(videos[0]).with_suffix(suffix)
                shutil.copy(made / "masks" / path.name, path)
            for lock in locks:
                lock.release()

    assert dataclasses.replace(cache, alive=alive).make(videos, lambda *at: None) == 1
    assert len(waits) > 5
    assert all(cache.recorded(each) for each in videos)


def test_masks_are_named_by_teacher_rows_and_video_alone(made, planned, teacher, tmp_path):
    cache, (ant, bee) = cache_in(made, planned, teacher), videos_of(planned)
    same = cache_in(made, planned, teacher, threshold=0.9, backbone="imagenet")
    assert same.path(ant).name == cache.path(ant).name
    others = [
        cache.path(bee),
        cache_in(made, planned, teacher, rows=32).path(ant),
        cache_in(made, planned, teacher, options={"queue": 3}).path(ant),
        dataclasses.replace(cache, sha256="0" * 64).path(ant),
    ]
    assert len({path.name for path in (cache.path(ant), *others)}) == 5


def test_the_share_below_a_threshold_is_counted_over_all_videos(made, planned, teacher):
    cache, videos = cache_in(made, planned, teacher), videos_of(planned)
    confidence = [
        StoredMasks(cache.path(each)).confidence(number)
        for each in videos
        for number in range(1, len(each.video))
    ]
    for threshold in (0.0, 0.44, 1.0):
        expected = np.mean(np.stack(confidence) / 255 < threshold)
        assert cache.ignored(videos, threshold) == pytest.approx(expected)
    assert 0.1 < cache.ignored(videos, 0.44) < 0.9


def test_what_is_left_to_segment_is_what_no_job_has_made(made, planned, tmp_path):
    jobs_ = list(planned.jobs)
    assert labels_of_plan(planned, Storage(made)) == [
        f"labels of 2 videos: {MODEL} at full size, 0 videos left to segment"
    ]
    left = left_to_segment(jobs_, Storage(tmp_path))
    assert sorted(each.video.name for _, each in left.values()) == ["ant", "bee"]
    assert not left_to_segment(jobs_, Storage(made))


@pytest.mark.slow
def test_a_folder_of_masks_labels_as_the_teacher_that_made_them(tmp_path, made, planned, teacher):
    """Whoever segments the videos: the same masks train the same weights, without a network."""
    cache = cache_in(made, planned, teacher)
    for each in videos_of(planned):
        folder = tmp_path / "masks" / each.video.name
        folder.mkdir(parents=True)
        stored = StoredMasks(cache.path(each))
        for number, image in enumerate(each.video.images):
            write_palette(folder / f"{image.stem}.png", stored.ids(number))
    root = Path(planned.trials[0].config.data.root)
    first = first_masks_alone(shutil.copytree(root, tmp_path / "first"), "bee")
    keys = []
    sha256 = []
    for at in (root, first):
        plan = plan_on(at, None, teacher={"masks": str(tmp_path / "masks")})
        keys.append([job.key for job in plan.jobs])
        sha256.append(run(plan, tmp_path / f"of {at.name}")[0])
    assert keys[0] == keys[1]
    by_network = plan_on(root, teacher)
    assert {run(by_network, tmp_path / "network")[0], *sha256} == {sha256[0]}
    (taught,) = Ledger(tmp_path / "of first").job(plan.trials[0].key).of(events.Taught)
    assert taught.describe() == f"{tmp_path / 'masks'}: its masks, hard targets, threshold 0"


def test_pixels_of_a_given_mask_are_certain_also_where_the_teacher_sees_fewer_rows(
    planned, teacher, tmp_path
):
    cache, (ant, _) = cache_in(tmp_path, planned, teacher, rows=24), videos_of(planned)
    cache.make([ant], lambda *at: None)
    stored = StoredMasks(cache.path(ant))
    assert np.array_equal(stored.ids(0), ant.video.mask(0))
    assert stored.confidence(0).min() == 255
    assert stored.ids(3).shape == ant.video.mask(0).shape
    whole = cache_in(tmp_path, planned, teacher)
    whole.make([ant], lambda *at: None)
    assert not np.array_equal(stored.confidence(3), StoredMasks(whole.path(ant)).confidence(3))


def test_the_forecast_counts_the_pixels_of_the_videos_that_are_left(made, planned, monkeypatch):
    monkeypatch.setattr(forecast, "step_seconds", lambda job, train, students: 0.0)
    monkeypatch.setattr(forecast, "pixel_seconds", lambda job, model: 1e-3)
    config = planned.trials[0].config.as_sweep()
    place = Placement(at_once=1, workers=1, threads=1, gpus=0)
    told = forecast.forecast(planned, config, Storage(made / "none"), place)
    assert told.seconds["labels"] == pytest.approx(1e-3 * 2 * 6 * 48 * 64)
    assert "labels" not in forecast.forecast(planned, config, Storage(made), place).seconds


def test_nodes_that_share_a_store_alone_segment_each_video_once(
    made, planned, teacher, tmp_path, monkeypatch
):
    """A third node is at the first video, and lets go of it without any masks."""
    monkeypatch.setattr(labelling, "WAIT_S", 0.01)
    videos = videos_of(planned)

    def node(name):
        storage = Storage(tmp_path / name, f"memory://{tmp_path}")
        storage.mirror.begin()
        return dataclasses.replace(cache_in(tmp_path / name, planned, teacher), storage=storage)

    here, there, third = node("here"), node("there"), node("third")
    third_is_at = ExitStack()
    name = f"masks-{third.path(videos[0]).stem}"
    third_is_at.enter_context(leases.held(third.storage.mirror, name))
    done = []

    def on_done(*at):
        done.append((*at, here.recorded(videos[0])))
        third_is_at.close()

    assert here.make(videos, on_done) == 2
    assert done == [(1, 2, False), (2, 2, True)], "the first video was not waited for"
    assert there.make(videos, on_done) == 0
    for each in videos:
        expected = (made / "masks" / here.path(each).name).read_bytes()
        assert here.path(each).read_bytes() == there.path(each).read_bytes() == expected
