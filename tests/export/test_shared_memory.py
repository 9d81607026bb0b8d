"""Test graphs whose objects share a memory: the runner against the model, and what is refused."""

import json
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.export.graphs import exported, frames_of, run_in_torch, saved
from tests.export.test_runner import both, boxes
from tests.model_tools import any_filled
from vosmodels.aot.propagation import LayerMemory, Propagated, Unfused
from vosmodels.aot.propagator import AOTPropagator
from vosmodels.export import folder
from vosmodels.export.__main__ import main
from vosmodels.export.clip import ParityClip
from vosmodels.export.families import exportable_step
from vosmodels.export.runner import Runner, SharedMemory
from vosmodels.inference import VideoSegmenter, for_inference
from vosmodels.memory_rule import MemoryRule
from vosmodels.support.seeding import numpy_generator
from vosmodels.types import HIDDEN

STUDENT = "deaott_deformable"
SIZE = (24, 40)
SIZED = ("--format", "onnx", "--size", "33x49")


@pytest.fixture(autouse=True)
def in_torch(monkeypatch):
    run_in_torch(monkeypatch)


@pytest.fixture
def no_clip(monkeypatch):
    """Write no clip beside the graphs, which takes longer than all else of an export."""
    monkeypatch.setattr(folder, "parity_clip", lambda *_, **__: ParityClip([], {}, []))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (STUDENT, "first,last"),
        (STUDENT, "first,last,2x3"),
        ("deaott", "first,last,3x1"),
        ("aott", "first,last,1x2"),
    ],
)
@pytest.mark.usefixtures("no_clip")
def test_a_runner_follows_what_is_given_removed_and_corrected_as_the_segmenter(
    tmp_path, name, rule
):
    model, memory, rng = any_filled(name), MemoryRule.of(rule), numpy_generator(0, name, rule)
    runner = Runner(exported(model, tmp_path, SIZE, objects=4, memory=memory))
    segmenter = VideoSegmenter(for_inference(model), memory=memory)
    fresh = iter(rng.permutation(np.arange(1, 256))[:4].tolist())
    masks = 0
    for number, frame in enumerate(frames_of(9, SIZE)):
        mask, given = None, []
        if not number or (rng.random() < 0.4 and masks < 4):
            given = [new for new in [next(fresh, None)] if new]
            if runner.ids and rng.random() < 0.3:
                given.append(int(rng.choice(runner.ids)))
        if given:
            mask = boxes(rng, given, SIZE)
            if not set(np.unique(mask)) >= set(given):
                mask[:2, : len(given)] = given
            masks += 1
        elif len(runner.ids) > 1 and rng.random() < 0.2:
            gone = int(rng.choice(runner.ids))
            runner.remove(gone)
            segmenter.remove(gone)
        both(runner, segmenter, frame, mask)
    assert masks > 1


class Numbers:
    """A network whose layers remember the number that a frame is filled with."""

    config: Any = any_filled("deaott").config
    mean = torch.zeros(())

    def encode(self, frames):
        return frames.mean().view(1, 1, 1)

    def embed(self, masks):
        return torch.zeros(())

    def identities(self, ids, places):
        return ids

    def propagate(self, encoded, long=None, short=None, *, embedding=None, watch=None):
        frames = [Unfused(encoded, encoded)]
        return Propagated(torch.zeros(1, 11, 17, 17), torch.zeros(()), frames)

    def remember(self, frames, embedding):
        return (LayerMemory(frames[0].key, frames[0].value),)


@pytest.mark.parametrize("queue", range(1, 5))
@pytest.mark.parametrize("every", range(1, 4))
def test_the_same_frames_stay_as_in_the_propagator(every, queue):
    most = max(queue, 3)
    for seed in range(10):
        rng, given = numpy_generator(seed, "kept", every, queue), 1
        propagator = AOTPropagator(cast(Any, Numbers()), mem_every=every, queue=queue)
        memory = SharedMemory(
            (1, most + 1, 1, 1), (1, most + 1, 1, 1), every=every, queue=queue, hidden=HIDDEN
        )
        ids = torch.ones(17, 17, dtype=torch.int64)
        state: Any = None
        for number in range(20):
            frame, row = torch.full((3, 17, 17), float(number)), np.full((1, 1, 1), number, "f4")
            if not number or (given < 3 and rng.random() < 0.15):
                state = (
                    propagator.add(state, frame, ids) if number else propagator.begin(frame, ids)
                )
                memory.given(row, row, [0])
                given += number > 0
            else:
                state = propagator.commit(state, propagator.predict(state, frame), ids)
                memory.predicted(row, row, [0])
            (part,) = state.passes
            for places in (memory.key, memory.value):
                assert sorted(places[0, :-1][memory.bias == 0].ravel()) == sorted(part.held)
                assert places[0, -1] == part.short[0].key == number
            assert set(memory.bias.tolist()) <= {0, HIDDEN}


@pytest.mark.usefixtures("no_clip")
def test_a_mask_for_which_there_is_no_place_is_refused_and_changes_nothing(tmp_path):
    runner = Runner(exported(any_filled(STUDENT), tmp_path, SIZE, objects=2))
    frames, rng = [frame.numpy() for frame in frames_of(4, SIZE)], numpy_generator(0, "full")
    mask = boxes(rng, (5,), SIZE)
    for frame in frames[:2]:
        runner.step(frame, mask)
    before = runner.probabilities.copy()
    with pytest.raises(ValueError, match=r"2 frames with masks were given.* or a --memory of more"):
        runner.step(frames[2], boxes(rng, (8,), SIZE))
    assert runner.ids == (5,)
    assert np.array_equal(runner.probabilities, before)
    runner.step(frames[3])
    runner.reset()
    assert np.array_equal(runner.step(frames[0], mask), mask)


@pytest.mark.usefixtures("no_clip")
def test_the_identity_of_a_removed_object_is_no_other_s(tmp_path):
    runner = Runner(exported(any_filled(STUDENT), tmp_path, SIZE, objects=1))
    frames, rng = frames_of(2, SIZE), numpy_generator(0, "slots")
    runner.step(frames[0].numpy(), boxes(rng, (1,), SIZE))
    runner.remove(1)
    with pytest.raises(ValueError, match=r"more than 1 objects: .* for another; reset, or export"):
        runner.step(frames[1].numpy(), boxes(rng, (2,), SIZE))


@pytest.mark.parametrize(
    ("rule", "objects", "places", "queue"),
    [("first,last", 1, 1, 1), ("first,last", 3, 3, 1), ("first,last,4x5", 3, 5, 5)],
)
def test_there_is_a_place_for_the_first_frame_of_every_object(rule, objects, places, queue):
    memory = MemoryRule.of(rule)
    step = exportable_step(any_filled(STUDENT), memory, height=33, width=49, objects=objects)
    plan = step.memory
    assert (plan.kind, plan.frames, plan.queue) == ("shared", places + 1, queue)
    assert (plan.every, plan.positions) == (memory.every, 12)
    shapes = {name: list(x.shape) for name, x in step.examples.items()}
    assert shapes["memory_key"] == [1, places + 1, 12, 128]
    assert shapes["memory_value"] == [1, places + 1, 12, 1024]
    assert shapes["memory_bias"] == [places]


def test_a_memory_and_objects_that_the_model_cannot_have_are_told_at_once(tmp_path, capsys):
    file = str(saved(any_filled("deaott"), tmp_path / "checkpoints"))
    out = ("--out", str(tmp_path / "out"))
    assert main([file, *SIZED, "--memory", "first", "--objects", "11", *out]) == 2
    lines = capsys.readouterr().err.removeprefix("error: ").splitlines()
    assert lines[0] == "memory first: deaott reads the latest frame, too; say first,last"
    assert "--objects 11: deaott has 10 identities" in lines[1]
    assert main([file, *SIZED, "--memory", "all", *out]) == 2
    assert "memory all: it grows with the video" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_export_passes_its_check(tmp_path, capsys):
    out = exported(any_filled(STUDENT), tmp_path, SIZE, objects=3)
    assert main(["--check", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differing"] < 1e-3
