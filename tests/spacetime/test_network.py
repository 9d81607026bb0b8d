from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.model_tools import DATA, filled, network, textured_clip, textured_frames
from vosmodels import registry
from vosmodels.spacetime.configs import MobileVOSConfig, STCNConfig
from vosmodels.spacetime.memory import affinity
from vosmodels.spacetime.network import KeyProjection, SpaceTimeNetwork
from vosmodels.support.seeding import generator
from vosmodels.types import Clip

FAMILY = (STCNConfig, MobileVOSConfig)
TEACHER, STUDENT = "stcn_mobilenetv2", "mobilevos_mobilenetv2_noaspp"


@pytest.fixture(scope="module")
def stcn() -> SpaceTimeNetwork:
    return filled("stcn")


@pytest.fixture(scope="module")
def teacher() -> SpaceTimeNetwork:
    return filled(TEACHER)


@pytest.fixture(scope="module")
def student() -> SpaceTimeNetwork:
    return filled(STUDENT)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_a_training_clip_through_stcn_equals_the_public_code(stcn: SpaceTimeNetwork):
    golden = np.load(DATA / "stcn_train.npz")
    frames = torch.from_numpy(golden["rgb_u8"]).permute(0, 1, 4, 2, 3).float() / 255
    masks = torch.from_numpy(golden["labels"]).long()
    output = stcn(Clip(frames, masks, torch.from_numpy(golden["selector"]), (0, 1)))
    for t in (1, 2):
        expected = torch.from_numpy(golden[f"logits_{t}"])
        found = output.logits[:, t - 1, :, ::2, ::2]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.softmax(1), expected.softmax(1), atol=1e-5, rtol=0)
    keys = [stcn.encode_key(frames[:, t]).key for t in range(3)]
    weights = affinity(torch.stack(keys[:2], 2), keys[2]).transpose(1, 2)
    torch.testing.assert_close(weights, torch.from_numpy(golden["affinity_2"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_a_prediction_knows_nothing_of_later_frames_or_of_any_mask_but_the_first(name: str):
    model, clip = filled(name), textured_clip(frames=4)
    output = model(clip)
    frames, masks = clip.frames.clone(), clip.masks.clone()
    frames[:, 3] = frames[:, 3].flip(-1)
    masks[:, 1:] = 0
    changed = model(replace(clip, frames=frames, masks=masks))
    torch.testing.assert_close(changed.logits[:, :2], output.logits[:, :2])
    torch.testing.assert_close(changed.z[:, :2], output.z[:, :2])
    assert not torch.allclose(changed.logits[:, 2], output.logits[:, 2], atol=1e-3)


def test_shapes_of_a_step_output(student: SpaceTimeNetwork):
    output = student(textured_clip(clips=2, frames=3, size=64, slots=2))
    assert output.logits.shape == (2, 2, 3, 64, 64)
    assert output.z.shape == (2, 2, 2, 64, 16, 16)


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_an_absent_slot_has_probability_zero_and_changes_nothing_for_the_others(name: str):
    model = filled(name)
    clip = textured_clip(clips=1, slots=2)  # the last clip has the first slot only
    alone = model(replace(clip, present=clip.present[:, :1]))
    both = model(clip)
    assert both.logits[:, :, 2].max() < -16
    torch.testing.assert_close(both.logits[:, :, :2], alone.logits, atol=1e-4, rtol=1e-4)


def test_an_absent_slot_feeds_an_empty_mask_even_where_ids_name_it(student: SpaceTimeNetwork):
    clip = textured_clip(clips=1, slots=2)
    masks = clip.masks.clone()
    masks[:, 0, 40:60, 40:60] = 2
    torch.testing.assert_close(student(replace(clip, masks=masks)).logits, student(clip).logits)


@pytest.mark.parametrize(
    ("name", "expected"), [(TEACHER, [[0], [0, 1], [0, 1, 2]]), (STUDENT, [[0], [0, 1], [0, 2]])]
)
def test_training_memory_holds_all_frames_of_the_teacher_and_two_of_the_student(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: list[list[int]]
):
    model, clip = filled(name), textured_clip(clips=1, frames=4)
    keys = [model.encode_key(clip.frames[:, t]).key for t in range(4)]
    seen: list[list[int]] = []
    real = model.segment

    def spy(features: Any, memory_key: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        held = memory_key.unbind(2)
        seen.append([t for k in held for t in range(4) if torch.allclose(k, keys[t], atol=1e-4)])
        return real(features, memory_key, *args)

    monkeypatch.setattr(model, "segment", spy)
    model(clip)
    assert seen == expected


@pytest.mark.parametrize("detach", [False, True])
def test_fed_back_masks_carry_gradient_unless_detached(
    monkeypatch: pytest.MonkeyPatch, detach: bool
):
    model = filled(STUDENT, detach_feedback=detach)
    fed: list[bool] = []
    real = model.encode_value

    def spy(frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        fed.append(masks.requires_grad)
        return real(frames, masks, s16)

    monkeypatch.setattr(model, "encode_value", spy)
    with torch.enable_grad():
        model(textured_clip(frames=4))
    assert fed == [False, not detach, not detach]  # and the last frame is never encoded


def test_an_absent_slot_feeds_back_exactly_nothing(
    monkeypatch: pytest.MonkeyPatch, student: SpaceTimeNetwork
):
    fed: list[float] = []
    real = student.encode_value

    def spy(frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        fed.append(float(masks[:, 1].abs().max()))
        return real(frames, masks, s16)

    monkeypatch.setattr(student, "encode_value", spy)
    student(textured_clip(clips=1, frames=4, slots=2))
    assert fed == [0, 0, 0]


def test_given_masks_replace_the_models_own(student: SpaceTimeNetwork):
    clip = textured_clip(frames=3)
    truth = student.roll(clip, given_masks=True)
    own = student(clip)
    torch.testing.assert_close(truth.logits[:, 0], own.logits[:, 0])
    assert not torch.allclose(truth.logits[:, 1], own.logits[:, 1], atol=1e-3)


@pytest.mark.parametrize(
    "name", [name for name, entry in registry.REGISTRY.items() if entry.config in FAMILY]
)
def test_every_parameter_gets_a_gradient_and_statistics_stay(name: str):
    model = network(name, seed=0).train()
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    with torch.enable_grad():
        model(textured_clip(clips=1, frames=2, size=32)).logits.sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert before
    for key, value in model.state_dict().items():
        if "running" in key:
            assert torch.equal(value, before[key]), key


def test_train_keeps_batch_norm_in_eval_and_the_rest_in_training():
    model = network("mobilevos_mobilenetv2", seed=0).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 80
    assert not any(m.training for m in norms)
    assert model.decoder.training
    assert all(p.requires_grad for m in norms for p in m.parameters())


@pytest.mark.parametrize(("frames", "size"), [(1, 64), (2, 40)])
def test_a_clip_that_is_too_short_or_of_an_odd_size_is_refused(
    student: SpaceTimeNetwork, frames: int, size: int
):
    with pytest.raises(ValueError, match=f"{frames} frames of {size}x{size}"):
        student(textured_clip(frames=frames, size=size))


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_video_inference_without_top_k_equals_the_training_forward(name: str):
    model, clip = filled(name), textured_clip(clips=1, frames=3, slots=2)
    clip = replace(clip, masks=clip.masks.clone(), present=torch.tensor([[True, True]]))
    clip.masks[:, 0, 40:60, 40:60] = 2
    output = model(clip).logits.softmax(2)[0]
    propagator = model.propagator(mem_every=1, top_k=None)
    state = propagator.begin(clip.frames[0, 0], clip.masks[0, 0])
    for t in (1, 2):
        prediction = propagator.predict(state, clip.frames[0, t])
        # a given mask enters inference as its soft aggregate: nearly, not exactly, 0 or 1
        torch.testing.assert_close(prediction.probabilities, output[t - 1], atol=1e-4, rtol=0)
        state = propagator.commit(state, prediction)


def test_the_value_encoder_sees_the_frame_in_the_teacher_only(
    teacher: SpaceTimeNetwork, student: SpaceTimeNetwork
):
    clip = textured_clip(clips=1)
    masks = torch.rand(1, 2, 48, 48, generator=generator(0, "masks"))
    for model, depends in ((teacher, True), (student, False)):
        s16 = model.encode_key(clip.frames[:, 0]).features.s16
        first = model.encode_value(clip.frames[:, 0], masks, s16)
        second = model.encode_value(clip.frames[:, 1], masks, s16)
        assert torch.equal(first, second) is not depends


def test_the_value_of_an_object_depends_on_where_the_others_are(student: SpaceTimeNetwork):
    frames = textured_frames(1, 64, 64)
    masks = torch.zeros(1, 3, 64, 64)
    masks[:, 0, :20], masks[:, 1, 20:40], masks[:, 2, 40:] = 1, 1, 1
    s16 = student.encode_key(frames).features.s16
    value = student.encode_value(frames, masks, s16)
    swapped = student.encode_value(frames, masks[:, [0, 2, 1]], s16)
    torch.testing.assert_close(swapped, value[:, [0, 2, 1]])  # only their sum counts
    alone = student.encode_value(frames, masks[:, :1], s16)
    assert not torch.allclose(alone, value[:, :1], atol=1e-3)


def test_key_projection_starts_orthogonal_times_its_gain():
    torch.manual_seed(0)
    weight = KeyProjection(16, 8, 0.25).key_proj.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(8) / 16)
