"""Test the memory rules of AOT and DeAOT on video."""

import pytest
import torch
from torch import Tensor

from tests.model_tools import aot_network, textured_frames
from vosmodels.aot.propagator import AOTState, merged, network_size
from vosmodels.inference.segmenter import VideoSegmenter


def stripes(objects: int, height: int = 33, width: int = 65) -> Tensor:
    """Ids of vertical stripes."""
    column = torch.arange(width) * (objects + 1) // width
    return column.expand(height, width).contiguous()


def lengths(state: AOTState) -> list[int]:
    """Frames in the long-term memory of every pass."""
    return [p.long[0].key.shape[1] // p.short[0].key.shape[1] for p in state.passes]


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def followed(propagator, state: AOTState, frames: Tensor) -> list[int]:
    """Frames in the first pass's long-term memory behind each frame."""
    held = []
    for frame in frames:
        state = propagator.commit(state, propagator.predict(state, frame))
        held += lengths(state)[:1]
    return held


def test_a_frame_enters_the_long_term_memory_as_often_as_it_is_told():
    model, frames = aot_network("deaott"), textured_frames(8, 33, 65)
    for every, expected in (
        (None, [1] * 7),
        ("never", [1] * 7),
        (2, [1, 2, 2, 3, 3, 4, 4]),
        (3, [1, 1, 2, 2, 2, 3, 3]),
    ):
        propagator = model.propagator(mem_every=every)
        assert followed(propagator, propagator.begin(frames[0], stripes(2)), frames[1:]) == expected


def test_a_queue_forgets_the_oldest_frame_but_no_reference():
    model, frames = aot_network("aott"), textured_frames(8, 33, 65)
    propagator = model.propagator(mem_every=1, queue=3)
    state = propagator.begin(frames[0], stripes(1))
    first = state.passes[0].long[0].key
    keys = []
    for frame in frames[1:]:
        state = propagator.commit(state, propagator.predict(state, frame))
        keys.append(state.passes[0].short[0].key)
    tokens = first.shape[1]
    held = state.passes[0].long[0].key.split(tokens, 1)
    assert len(held) == 3
    for found, expected in zip(held, (first, *keys[-2:]), strict=True):
        assert torch.equal(found, expected)


def test_the_numbers_of_remembered_frames_are_handed_out_in_the_order_of_the_keys():
    model, frames = aot_network("deaott"), textured_frames(8, 33, 65)
    propagator = model.propagator(mem_every=2, queue=3)
    state = propagator.begin(frames[0], stripes(1))
    keys = {0: state.passes[0].short[0].key}
    for number, frame in enumerate(frames[1:], 1):
        prediction = propagator.predict(state, frame, watch=["long.weights.1"])
        (watched,) = prediction.watched
        remembered = state.passes[0].long[0].key
        tokens = watched.size[0] * watched.size[1]
        assert watched.named["long.weights.1"].shape == (tokens, remembered.shape[1])
        assert len(watched.held) == remembered.shape[1] // tokens
        for one, key in zip(watched.held, remembered.split(tokens, 1), strict=True):
            assert torch.equal(key, keys[one])
        if number == 5:  # a late reference, which stands before other frames
            state = propagator.add(state, frame, stripes(2))
        else:
            state = propagator.commit(state, prediction)
        keys[number] = state.passes[0].short[0].key
    assert watched.held == (0, 5, 4)


def test_every_pass_names_its_objects():
    model, frames = aot_network("aott", objects=2), textured_frames(2, 33, 65)
    propagator = model.propagator()
    state = propagator.begin(frames[0], stripes(5))
    watched = propagator.predict(state, frames[1], watch=["self.output.1"]).watched
    assert [one.slots for one in watched] == [range(1, 3), range(3, 5), range(5, 6)]


def test_late_references_stay_too_and_stand_before_other_frames():
    model, frames = aot_network("deaott"), textured_frames(6, 33, 65)
    propagator = model.propagator(mem_every=1, queue=2)
    state = propagator.begin(frames[0], stripes(1))
    first = state.passes[0].long[0].key
    for frame in frames[1:3]:
        state = propagator.commit(state, propagator.predict(state, frame))
    state = propagator.add(state, frames[3], stripes(2))
    late = state.passes[0].short[0].key
    for frame in frames[4:]:
        state = propagator.commit(state, propagator.predict(state, frame))
    assert lengths(state) == [2]
    assert torch.equal(state.passes[0].long[0].key, torch.cat([first, late], 1))


@pytest.mark.parametrize("option", [{"mem_every": 0}, {"queue": 0}])
def test_an_option_out_of_range_is_refused(option):
    with pytest.raises(ValueError, match="at least 1"):
        aot_network("aott").propagator(**option)


def test_twelve_objects_take_two_passes_and_their_own_channels():
    model, frames = aot_network("deaott"), textured_frames(3, 33, 65)
    ids = stripes(12)
    propagator = model.propagator()
    state = propagator.begin(frames[0], ids)
    assert [part.objects for part in state.passes] == [10, 2]
    prediction = propagator.predict(state, frames[1])
    assert prediction.probabilities.shape == (13, 33, 65)
    state = propagator.commit(state, prediction)
    assert propagator.predict(state, frames[2]).probabilities.shape == (13, 33, 65)


def test_a_pass_sees_the_ids_of_its_own_objects_alone():
    model, frames = aot_network("deaott"), textured_frames(2, 33, 65)
    ids = stripes(12)
    both = model.propagator().begin(frames[0], ids)
    alone = model.propagator().begin(frames[0], torch.where(ids > 10, ids - 10, 0))
    assert torch.equal(both.passes[1].long[0].value, alone.passes[0].long[0].value)


def test_an_eleventh_object_that_begins_late_starts_a_pass_of_its_own():
    model, frames = aot_network("deaott"), textured_frames(3, 33, 65)
    propagator = model.propagator()
    state = propagator.begin(frames[0], stripes(10))
    state = propagator.add(state, frames[1], stripes(11))
    assert lengths(state) == [1, 1]  # the first pass gets no object, so no reference
    assert state.objects == 11
    assert propagator.predict(state, frames[2]).probabilities.shape[0] == 12


def test_merged_passes_share_one_background():
    logits = [torch.randn(1, 3, 2, 2), torch.randn(1, 2, 2, 2)]
    found = merged(logits).sigmoid()
    first, second = (x.softmax(1) for x in logits)
    torch.testing.assert_close(found[:, 0], first[:, 0] * second[:, 0])
    torch.testing.assert_close(found[:, 1:], torch.cat([first[:, 1:], second[:, 1:]], 1))


def test_frames_are_resized_as_in_the_public_code():
    assert network_size(480, 854, 1040) == (481, 849)
    assert network_size(1080, 1920, 1040) == (577, 1041)
    assert network_size(10, 400, 1040) == (17, 401)


def test_time_hardly_depends_on_the_number_of_objects_up_to_ten():
    model, frames = aot_network("deaott"), textured_frames(2, 33, 65)
    for objects in (1, 10):
        segmenter = VideoSegmenter(model)
        segmenter.step(frames[0], stripes(objects))
        segmenter.step(frames[1])
        assert len(segmenter.state.passes) == 1


def test_an_object_that_leaves_and_new_ids_work_through_the_segmenter():
    model, frames = aot_network("aott"), textured_frames(4, 33, 65)
    segmenter = VideoSegmenter(model)
    segmenter.step(frames[0], stripes(2) * 7)  # ids 7 and 14
    segmenter.remove(7)
    assert set(segmenter.step(frames[1]).unique().tolist()) <= {0, 14}
    late = torch.zeros(33, 65, dtype=torch.int64)
    late[:10, :10] = 200
    found = segmenter.step(frames[2], late)
    assert torch.equal(found == 200, late == 200)
    assert segmenter.step(frames[3]).shape == (33, 65)
