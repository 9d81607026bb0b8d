"""Test the two graphs against the propagator, whose memory grows, and the bias of attention."""

import pytest
import torch
from torch.nn import functional

from tests.model_tools import aot_network, textured_frames
from vosmodels.aot import attention
from vosmodels.aot.attention import attend
from vosmodels.aot.step_graph import BeginGraph, StepGraph, narrowed, nearest
from vosmodels.inference import for_inference
from vosmodels.support.channels import softmax_of_channels
from vosmodels.support.seeding import generator
from vosmodels.types import HIDDEN

MODELS = [("aott", {"layers": 2}), ("deaott", {}), ("deaott_deformable", {"layers": 2})]
SIZES = [(33, 49), (40, 61)]  # as the network sees them, and not
OBJECTS = 3  # that the graphs know


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def ids_of(size, objects, seed=0):
    """Rectangles."""
    ids, rng = torch.zeros(size, dtype=torch.int64), generator(seed, "ids")
    for i in range(objects):
        y, x = (int(torch.randint(0, side - 16, (), generator=rng)) for side in size)
        ids[y : y + 16, x : x + 16] = i + 1
    return ids


def one_hot(ids):
    return (ids == torch.arange(1, OBJECTS + 1)[:, None, None]).float().unsqueeze(0)


def graphs_of(model, size):
    network = narrowed(for_inference(model, stripes=False), OBJECTS)
    return (kind(network, height=size[0], width=size[1]) for kind in (BeginGraph, StepGraph))


def places_of(memories, tokens):
    """A memory of all layers as the graphs take it, (L, T, P, C) each."""
    keys = torch.cat([memory.key for memory in memories])
    values = torch.cat([memory.value for memory in memories])
    return [rows.unflatten(1, (-1, tokens)) for rows in (keys, values)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "options"), MODELS)
def test_a_given_frame_is_encoded_as_the_propagator_does(name, options, size):
    model = aot_network(name, **options)
    begin, _ = graphs_of(model, size)
    frame, ids = textured_frames(1, *size), ids_of(size, 2)
    found = begin(frame, one_hot(ids))
    (part,) = model.propagator().begin(frame[0], ids).passes
    tokens = part.short[0].key.shape[1]
    for own, expected in zip(found, places_of(part.short, tokens), strict=True):
        torch.testing.assert_close(own, expected[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "options"), MODELS)
def test_a_step_reads_the_frames_of_its_memory_in_any_order_and_no_hidden_place(
    name, options, size
):
    model = aot_network(name, **options)
    _, step = graphs_of(model, size)
    propagator, frames = model.propagator(mem_every=1), textured_frames(4, *size)
    state = propagator.begin(frames[0], ids_of(size, 2))
    for frame in frames[1:3]:
        state = propagator.commit(state, propagator.predict(state, frame))
    (part,) = state.passes
    tokens = part.short[0].key.shape[1]
    held = zip(places_of(part.long, tokens), places_of(part.short, tokens), strict=True)
    memory = []
    for long, short in held:  # three frames in five places, and the latest
        places = 3 * torch.randn(long.shape[0], 5, *long.shape[2:], generator=generator(0, "free"))
        places[:, [3, 0, 4]] = long
        memory.append(torch.cat([places, short], 1))
    bias = torch.tensor([0.0, HIDDEN, HIDDEN, 0.0, 0.0])
    found = step(frames[3:], *memory, bias, torch.tensor([1.0, 1.0, 0.0]))
    prediction = propagator.predict(state, frames[3])
    assert found[0][3].max() == 0
    torch.testing.assert_close(found[0][:3], prediction.probabilities, atol=1e-4, rtol=1e-3)
    (after,) = propagator.commit(state, prediction).passes
    for own, expected in zip(found[1:], places_of(after.short, tokens), strict=True):
        torch.testing.assert_close(own, expected[:, 0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("chunk", [1, attention.CHUNK])
def test_attention_with_a_bias_is_that_to_the_entries_which_it_leaves(chunk, monkeypatch):
    monkeypatch.setattr(attention, "CHUNK", chunk)
    rng = generator(0, "bias")
    query, key, value = (torch.randn(2, 3, n, 4, generator=rng) for n in (5, 7, 7))
    left = torch.tensor([0, 2, 3, 6])
    bias = torch.full((7,), HIDDEN)
    bias[left] = 0
    found, _ = attend(query, key, value, bias=bias)
    expected, _ = attend(query, key[:, :, left], value[:, :, left])
    torch.testing.assert_close(found, expected)
    often = torch.tensor([0, 0, 2, 2, 3, 3, 3, 3, 3, 3, 6])
    bias[left] = torch.tensor([2.0, 2.0, 6.0, 1.0]).log()  # as if entries stood there so often
    found, _ = attend(query, key, value, bias=bias)
    expected, _ = attend(query, key[:, :, often], value[:, :, often])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("length", "wanted"), [(32, 33), (61, 65), (100, 97), (17, 17)])
def test_the_nearest_pixels_are_those_that_ids_are_resized_by(length, wanted):
    ids = torch.randint(0, 256, (1, 1, length, 3), generator=generator(0, "nearest"))
    expected = functional.interpolate(ids.float(), size=(wanted, 3))
    assert torch.equal(ids[:, :, nearest(length, wanted)].float(), expected)


def test_channels_are_shared_out_as_a_softmax_does():
    logits = 40 * torch.randn(1, 4, 5, 6, generator=generator(0, "logits"))
    logits[:, 2] = HIDDEN
    torch.testing.assert_close(softmax_of_channels(logits), logits.softmax(1))


@pytest.mark.parametrize("objects", [0, 11])
def test_more_objects_than_the_bank_has_are_refused(objects):
    with pytest.raises(ValueError, match=f"{objects} objects; the bank has 10 identities"):
        narrowed(aot_network("deaott"), objects)
