"""Test the intermediates that models return on request, for every model of the registry."""

from typing import Any

import pytest
import torch

from tests.conformance import stand_in
from tests.tiny import SquareClips
from vosmodels import registry
from vosmodels.data.clips import batch
from vosmodels.support.watching import resolve

NAMES = (*registry.REGISTRY, stand_in.NAME)
SMALL = ("aott_deformable", "deaott", stand_in.NAME)  # the others have more layers of the same
STRIDE, SIZE = 16, 32


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)


def clip_for(name):
    return batch(SquareClips(objects=2, size=SIZE + registry.entry(name).side), 0, 2)


def attentions(names):
    """Names ATTENTION.PART.LAYER, without what else a model returns."""
    return [name for name in names if name.count(".") == 2]


def watching():
    """Models that have names to watch; the others are built as an outline alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)
        return [n for n in NAMES if registry.entry(n).watchable(registry.config(n))]


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_knows_the_names_without_building_the_model(name):
    entry, model = registry.entry(name), registry.outline(name)
    assert entry.watchable(registry.config(name)) == model.watchable
    assert len(set(model.watchable)) == len(model.watchable)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_a_model_lacks_is_refused_with_those_it_has(name):
    model = registry.outline(name)
    there = f"there are {', '.join(model.watchable)}" if model.watchable else "there is none"
    for call in (model, lambda clip, watch: model.roll(clip, given_masks=True, watch=watch)):
        with pytest.raises(ValueError, match=f"no intermediate self.id.9 to watch; {there}"):
            call(clip_for(name).to("meta"), watch=["self.id.9"])


@pytest.mark.parametrize("name", SMALL)
def test_what_is_asked_for_is_returned_and_nothing_else(name):
    model = registry.build(name, seed=0)
    clip = clip_for(name)
    plain = model(clip)
    assert plain.named == {}
    asked = attentions(model.watchable)
    for one in asked[:2]:
        for output in (model(clip, watch=[one]), model.roll(clip, given_masks=False, watch=(one,))):
            torch.testing.assert_close(output.logits, plain.logits)
            assert list(output.named) == [one]
    named = model(clip, watch=model.watchable).named
    assert set(named) == set(model.watchable)
    places = (-(-clip.frames.shape[-1] // STRIDE)) ** 2
    for one in asked:
        value = named[one]
        assert value.shape[:2] == (2, 2)
        assert value.shape[2] % places == 0
        if ".weights." in one:
            torch.testing.assert_close(value.sum(-1), torch.ones(value.shape[:3]))
        else:
            assert value.shape[2] == places
        assert value.requires_grad


@pytest.mark.parametrize("name", SMALL)
def test_a_propagator_hands_out_what_a_clip_returns(name):
    model = registry.build(name, seed=0).eval()
    clip = clip_for(name)
    asked = attentions(model.watchable)
    with torch.inference_mode():
        expected = model.roll(clip, given_masks=True, watch=asked).named
        propagator: Any = model.propagator()
        state = propagator.begin(clip.frames[0, 0], clip.masks[0, 0])
        for frame in range(1, clip.frames.shape[1]):
            plain = propagator.predict(state, clip.frames[0, frame])
            prediction = propagator.predict(state, clip.frames[0, frame], watch=asked)
            (watched,) = prediction.watched
            assert not plain.watched
            assert torch.equal(plain.probabilities, prediction.probabilities)
            assert set(watched.named) == set(asked)
            assert watched.slots == range(1, 3)
            assert watched.size[0] * watched.size[1] == watched.named["self.output.1"].shape[0]
            for one in asked:
                # A clip draws places in the bank of identities in training alone.
                found, wanted = watched.named[one], expected[one][0, frame - 1]
                # Sharp scores multiply the rounding between one frame and three encoded at once.
                torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
            state = propagator.commit(state, prediction, clip.masks[0, frame])


@pytest.mark.parametrize("name", watching())
def test_layers_are_counted_from_one_without_a_gap(name):
    names = registry.entry(name).watchable(registry.config(name))
    for place in {other.rpartition(".")[0] for other in attentions(names)}:
        attention, part = place.split(".")
        assert attention in ("long", "self")
        assert part in ("visual", "id", "output", "weights", "offsets")
        layers = sum(other.rpartition(".")[0] == place for other in names)
        assert [resolve(f"{place}.{n - layers}", names) for n in range(layers)] == [
            f"{place}.{n + 1}" for n in range(layers)
        ]
