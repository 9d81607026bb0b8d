"""Test rules of memory as text, and that both families remember the frames that a rule names."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.model_tools import aot_network, filled, textured_frames
from vosmodels import registry
from vosmodels.errors import InputError
from vosmodels.memory_rule import MemoryRule

FRAMES = 14
RULES = [
    *("first", "first,last", "all", "first,last,1x1", "first,last,2x3", "first,last,allx4"),
    *("first,2x3", "first,allx5"),
]


def remembered(rule: MemoryRule, now: int) -> list[int]:
    """Numbers of the frames that a rule names behind frame `now` of a video, written out."""
    others = [t for t in range(1, now + 1) if t % rule.every == 0]
    latest = [now] if rule.last and now else []
    if rule.older == 0:
        others = []
    elif rule.older is not None:
        others = [t for t in others if t not in latest][-rule.older :]
    return sorted({0, *others, *latest})


@pytest.mark.parametrize("text", RULES)
def test_a_rule_is_written_as_it_was_read(text):
    assert str(MemoryRule.of(text)) == text
    assert str(MemoryRule.of(text.replace(",", " , "))) == text


def test_all_is_the_latest_and_every_frame_before_it():
    assert MemoryRule.of("first,last,allx1") == MemoryRule.of("all")


@pytest.mark.parametrize(
    "text", ["", "last", "first,first", "first,2", "first,last,2x", "first,0x2", "first,2x0", "2x5"]
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(ValueError, match=r"memory '.*' is no rule; .*K older"):
        MemoryRule.of(text)


@given(
    older=st.none() | st.integers(0, 4),
    every=st.integers(1, 5),
    last=st.booleans(),
    now=st.integers(0, 30),
)
def test_the_number_of_remembered_frames_is_bounded_as_it_says(older, every, last, now):
    rule = MemoryRule(older, every, last)
    count = len(remembered(rule, now))
    assert count <= rule.after(now)
    assert rule.frames is None or rule.after(now) <= rule.frames


@pytest.mark.parametrize("text", RULES)
@pytest.mark.parametrize("name", ["stcn_mobilenetv2", "mobilevos_mobilenetv2_noaspp"])
def test_a_space_time_network_remembers_the_frames_that_a_rule_names(name, text):
    rule, model, video = MemoryRule.of(text), filled(name), textured_frames(FRAMES, 32, 32)
    with torch.inference_mode():
        propagator = model.propagator(memory=rule)
        state = propagator.begin(video[0], (video[0, 0] > 0.5).long())
        keys = [state.banks[0].key[-1]]
        for now, frame in enumerate(video[1:], 1):
            keys.append(model.encode_key(frame[None]).key[0].flatten(1).T)
            state = propagator.commit(state, propagator.predict(state, frame))
            expected = torch.stack([keys[t] for t in remembered(rule, now)])
            torch.testing.assert_close(state.banks[0].key, expected)


@pytest.mark.parametrize("text", [rule for rule in RULES if "last" in rule or rule == "all"])
@pytest.mark.parametrize("name", ["aott", "deaott"])
def test_aot_holds_the_latest_frame_and_of_the_others_those_of_the_rule(name, text):
    """The latest frame, where it is one of every E-th, is one of the K older ones, too."""
    rule, video = MemoryRule.of(text), textured_frames(FRAMES, 33, 33)
    with torch.inference_mode():
        propagator = aot_network(name).propagator(memory=rule)
        state = propagator.begin(video[0], (video[0, 0] > 0.5).long())
        for now, frame in enumerate(video[1:], 1):
            state = propagator.commit(state, propagator.predict(state, frame))
            long = MemoryRule(rule.older, rule.every, last=False)
            assert list(state.passes[0].held) == remembered(long, now)


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_a_models_own_rule_is_what_it_follows_without_one(name):
    """Its option `memory` in the words of that rule changes nothing."""
    own = registry.outline(name).memory
    assert registry.outline(name, memory=str(own)).memory == own


def test_the_options_before_it_say_a_rule_too():
    def rule(name, **options):
        return str(registry.outline(name, **options).memory)

    assert rule("mobilevos_resnet18", queue=1) == "first"
    assert rule("mobilevos_resnet18", queue=4) == "first,last,2x1"
    assert rule("stcn", mem_every=3, include_last=True) == "first,last,allx3"
    assert rule("aott", mem_every=5, queue=3) == "first,last,2x5"


def test_a_rule_without_the_latest_frame_is_refused_for_aot():
    with pytest.raises(InputError, match="read the latest frame, too"):
        registry.config("aott", memory="first,2x5")
    with pytest.raises(InputError, match="read the latest frame, too"):
        aot_network("deaott").check_memory(MemoryRule.of("first"))


def test_a_checkpoint_of_a_model_without_the_option_is_written_as_before_there_was_one():
    assert "memory" not in registry.config("aott").model_dump(mode="json")
    config = registry.config("aott", memory="first,last,2x5")
    assert config.model_dump(mode="json")["memory"] == "first,last,2x5"
