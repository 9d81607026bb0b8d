"""Test the runner against `VideoSegmenter`, on graphs that run in torch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.export.graphs import exported, frames_of, run_in_torch
from tests.model_tools import any_filled
from vosmodels.data.masks import write_palette
from vosmodels.export.runner import SIDECAR, Runner, RunnerError, follow
from vosmodels.inference import VideoSegmenter, for_inference
from vosmodels.memory_rule import MemoryRule
from vosmodels.support.seeding import numpy_generator

STUDENT = "mobilevos_mobilenetv2_noaspp"
STUDENTS = (STUDENT, "mobilevos_mobilenetv2", "mobilevos_resnet18", "stcn_mobilenetv2")
RULES = ("first", "first,last", "first,2x3", "first,last,2x3", "first,last,3x1", "first,1x2")
SIZE = (32, 48)


@pytest.fixture(autouse=True)
def in_torch(monkeypatch):
    run_in_torch(monkeypatch)


@pytest.fixture(scope="module")
def model():
    return any_filled(STUDENT)


def agree(runner, segmenter, ids, wanted):
    """Both have the same objects, probabilities, and ids wherever no two are nearly equal."""
    assert runner.ids == segmenter.ids
    expected = segmenter.probabilities.numpy()
    np.testing.assert_allclose(runner.probabilities, expected, atol=1e-4)
    ranked = np.sort(expected, 0)
    clear = ranked[-1] - ranked[-2] > 2e-4
    assert (ids == wanted.numpy())[clear].all()


def both(runner, segmenter, frame, mask=None):
    given = None if mask is None else torch.from_numpy(mask)
    agree(runner, segmenter, runner.step(frame.numpy(), mask), segmenter.step(frame, given))


def boxes(rng, ids, size=SIZE):
    mask = np.zeros(size, np.int64)
    for i in ids:
        y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
        mask[y : y + rng.integers(4, 20), x : x + rng.integers(4, 30)] = i
    return mask


@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("size", [(32, 48), (37, 50)])
def test_a_runner_segments_as_the_model_does(tmp_path, name, size):
    model = any_filled(name)
    rule = MemoryRule.of("first,last")
    runner = Runner(exported(model, tmp_path, size, objects=2, memory=rule))
    segmenter = VideoSegmenter(for_inference(model), memory=rule)
    mask = boxes(numpy_generator(0, name), (4, 9), size)
    for number, frame in enumerate(frames_of(5, size)):
        both(runner, segmenter, frame, None if number else mask)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(2))
def test_a_runner_follows_what_is_given_removed_and_corrected_as_the_segmenter(
    tmp_path, model, rule, seed
):
    memory, rng = MemoryRule.of(rule), numpy_generator(seed, "events")
    runner = Runner(exported(model, tmp_path, objects=6, memory=memory))
    segmenter = VideoSegmenter(for_inference(model), memory=memory)
    fresh = iter(rng.permutation(np.arange(1, 256))[:5].tolist())
    for number, frame in enumerate(frames_of(11, SIZE)):
        mask, given = None, []
        if not number or rng.random() < 0.3:
            given = [new for new in [next(fresh, None)] if new]
        if runner.ids and rng.random() < 0.2:
            given.append(int(rng.choice(runner.ids)))
        if given:
            mask = boxes(rng, given)
            if not set(np.unique(mask)) >= set(given):
                mask[:2, : len(given)] = given
        elif len(runner.ids) > 1 and rng.random() < 0.2:
            gone = int(rng.choice(runner.ids))
            runner.remove(gone)
            segmenter.remove(gone)
        both(runner, segmenter, frame, mask)


def test_after_a_reset_another_video_is_segmented_as_by_a_new_runner(tmp_path, model):
    out = exported(model, tmp_path, objects=2)
    used, new = Runner(out), Runner(out)
    frames, rng = frames_of(6, SIZE), numpy_generator(0, "reset")
    for number, frame in enumerate(frames[:3]):
        used.step(frame.numpy(), None if number else boxes(rng, (1, 2)))
    used.reset()
    with pytest.raises(ValueError, match="first frame needs a mask"):
        used.step(frames[3].numpy())
    mask = boxes(rng, (5,))
    for number, frame in enumerate(frames[3:]):
        given = None if number else mask
        assert np.array_equal(used.step(frame.numpy(), given), new.step(frame.numpy(), given))
    assert np.array_equal(used.probabilities, new.probabilities)


def test_a_full_runner_gives_a_new_object_the_slot_of_a_removed_one(tmp_path, model):
    runner = Runner(exported(model, tmp_path, objects=1))
    frames, rng = frames_of(4, SIZE), numpy_generator(0, "slots")
    runner.step(frames[0].numpy(), boxes(rng, (1,)))
    with pytest.raises(ValueError, match="more than 1 objects: the graphs have no slot"):
        runner.step(frames[1].numpy(), boxes(rng, (2,)))
    assert runner.ids == (1,)
    runner.remove(1)
    mask = boxes(rng, (2,))
    alone = Runner(exported(model, tmp_path, objects=1))
    assert np.array_equal(runner.step(frames[1].numpy(), mask), mask)
    alone.step(frames[1].numpy(), mask)
    runner.step(frames[2].numpy())
    alone.step(frames[2].numpy())
    assert np.allclose(runner.probabilities, alone.probabilities, atol=1e-6)


def nothing(frame, mask):
    return frame, np.zeros_like(mask)


def halves(frame, mask):
    return frame, mask.astype(np.float32)


def beyond(frame, mask):
    return frame, mask + 255


def small(frame, mask):
    return frame[:, :-1], mask


def bright(frame, mask):
    return frame * 255, mask


def lost(frame, mask):
    return frame * np.nan, mask


def bytes_of(frame, mask):
    return (frame * 255).astype(np.uint8), mask


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (nothing, "mask without objects"),
        (halves, "mask of float32: ids are integers"),
        (beyond, r"mask with ids 255\.\.256: ids are 0\.\.255"),
        (small, r"frame of shape \(3, 31, 48\), float32: these graphs take \(3, 32, 48\)"),
        (bright, "frames are finite, in"),
        (lost, "frame with values nan"),
        (bytes_of, "uint8: these graphs take"),
    ],
)
def test_what_cannot_be_segmented_is_told_and_changes_nothing(tmp_path, model, spoil, told):
    runner = Runner(exported(model, tmp_path))
    frame, mask = frames_of(1, SIZE)[0].numpy(), boxes(numpy_generator(0, "bad"), (1,))
    for _ in range(2):
        with pytest.raises(ValueError, match=told):
            runner.step(*spoil(frame, mask))
        runner.step(frame, mask)
    assert runner.ids == (1,)


def test_probabilities_before_the_first_step_and_unknown_objects_are_told(tmp_path, model):
    runner = Runner(exported(model, tmp_path))
    with pytest.raises(ValueError, match="no frame yet"):
        _ = runner.probabilities
    with pytest.raises(ValueError, match="object 3 is not followed; there are"):
        runner.remove(3)


def test_a_folder_that_is_no_export_is_told(tmp_path, model):
    with pytest.raises(RunnerError, match="no such file; give a folder of vosmodels"):
        Runner(tmp_path)
    out = exported(model, tmp_path)
    (out / "step.onnx").write_bytes(b"other")
    with pytest.raises(RunnerError, match=r"step.onnx: its sha256 is not that of student.json"):
        Runner(out)
    (out / "step.onnx").unlink()
    with pytest.raises(RunnerError, match=r"step.onnx: cannot be read"):
        Runner(out)
    sidecar = json.loads((out / SIDECAR).read_text())
    (out / SIDECAR).write_text(json.dumps({**sidecar, "version": 9}))
    with pytest.raises(RunnerError, match="format version 9; this runner reads 1"):
        Runner(out)
    (out / SIDECAR).write_text("{")
    with pytest.raises(RunnerError, match="not the description of an export"):
        Runner(out)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, frame in enumerate(frames_of(3, (64, 96))):
        array = (frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(array).save(folder / f"{number:05d}.png")
    write_palette(tmp_path / "first.png", boxes(numpy_generator(0, "m"), (3,), (64, 96)))
    return folder


def opened(path):
    with Image.open(path) as picture:
        return picture.copy()


def test_a_folder_of_pictures_becomes_masks_of_their_size(tmp_path, model, pictures):
    runner, first, out = Runner(exported(model, tmp_path)), tmp_path / "first.png", tmp_path / "out"
    assert follow(runner, pictures, first, out) == 3
    masks = [opened(out / f"{number:05d}.png") for number in range(3)]
    assert {mask.size for mask in masks} == {(96, 64)}
    given = opened(first)
    assert masks[0].getpalette() == given.getpalette()
    assert np.mean(np.asarray(masks[0]) == np.asarray(given)) > 0.97  # halved and doubled
    grey = Image.fromarray(np.asarray(given))
    grey.save(tmp_path / "grey.png")
    runner.reset()
    follow(runner, pictures, tmp_path / "grey.png", out)
    assert opened(out / "00000.png").getpalette() == given.getpalette()


def test_a_folder_without_pictures_and_a_mask_of_another_size_are_told(tmp_path, model, pictures):
    runner, first = Runner(exported(model, tmp_path)), tmp_path / "first.png"
    with pytest.raises(ValueError, match=r"no \.jpg or \.png in it"):
        follow(runner, tmp_path / "exported" / "clip", first, tmp_path / "out")
    opened(first).resize((20, 30)).save(first)
    with pytest.raises(ValueError, match=r"first.png: \(20, 30\), the first picture is \(96, 64\)"):
        follow(runner, pictures, first, tmp_path / "out")
