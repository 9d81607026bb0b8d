from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.model_tools import DATA, fill_from_names, textured_clip, textured_frames
from vosmodels import registry
from vosmodels.memory import affinity, read_memory
from vosmodels.seeding import generator
from vosmodels.spacetime import KeyProjection, SpaceTimeNetwork, SpaceTimePropagator
from vosmodels.types import Clip

TEACHER, STUDENT = "stcn_mobilenetv2", "mobilevos_mobilenetv2_noaspp"


def _model(name: str, **options: Any) -> SpaceTimeNetwork:
    """Regenerated weights: unlike untouched random ones they are not dead without calibration."""
    model = registry.build(name, seed=0, **options)
    fill_from_names(model)
    return model


@pytest.fixture(scope="module")
def stcn() -> SpaceTimeNetwork:
    return _model("stcn")


@pytest.fixture(scope="module")
def teacher() -> SpaceTimeNetwork:
    return _model(TEACHER)


@pytest.fixture(scope="module")
def student() -> SpaceTimeNetwork:
    return _model(STUDENT)


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


def test_a_video_through_stcn_equals_the_public_code(stcn: SpaceTimeNetwork):
    golden = np.load(DATA / "stcn_eval.npz")
    frames = torch.from_numpy(golden["rgb_u8"]).permute(0, 3, 1, 2).float() / 255
    propagator = stcn.propagator(mem_every=int(golden["mem_every"]))
    state = propagator.begin(frames[0], torch.from_numpy(golden["label0"]).long())
    value = state.banks[0].value[0].permute(1, 2, 0).unflatten(2, (5, 6))[:, ::16]
    torch.testing.assert_close(value, torch.from_numpy(golden["value_0"]), atol=1e-4, rtol=0)
    for t in range(1, 4):
        prediction = propagator.predict(state, frames[t])
        expected = torch.from_numpy(golden[f"prob_{t}"])
        found = prediction.probabilities[:, ::4, ::4]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        if t == 3:
            held = state.banks[0].key.unflatten(1, (5, 6)).permute(3, 0, 1, 2)[None]
            weights = affinity(held, prediction.features.keys.key, top_k=20)
            expected = torch.from_numpy(golden["affinity_3"]).T
            torch.testing.assert_close(weights[0], expected, atol=1e-5, rtol=0)
        state = propagator.commit(state, prediction)


def _distance_from_golden(stcn: SpaceTimeNetwork, **options: Any) -> float:
    """Largest difference of a probability over the golden video."""
    golden = np.load(DATA / "stcn_eval.npz")
    frames = torch.from_numpy(golden["rgb_u8"]).permute(0, 3, 1, 2).float() / 255
    propagator = stcn.propagator(mem_every=int(golden["mem_every"]), **options)
    state = propagator.begin(frames[0], torch.from_numpy(golden["label0"]).long())
    worst = 0.0
    for t in range(1, 4):
        prediction = propagator.predict(state, frames[t])
        found = prediction.probabilities[:, ::4, ::4]
        worst = max(worst, float((found - torch.from_numpy(golden[f"prob_{t}"])).abs().max()))
        state = propagator.commit(state, prediction)
    return worst


def test_the_golden_video_notices_a_missing_top_k(stcn: SpaceTimeNetwork):
    assert _distance_from_golden(stcn) < 1e-5
    assert _distance_from_golden(stcn, top_k=None) > 1e-3


def test_the_golden_video_notices_scores_without_their_scale(
    monkeypatch: pytest.MonkeyPatch, stcn: SpaceTimeNetwork
):
    def unscaled(query: Tensor, keys: Tensor, squares: Tensor, *rest: Any) -> Tensor:
        root = keys.shape[1] ** 0.5
        return read_memory(query * root, keys, squares * root, *rest)

    monkeypatch.setattr("vosmodels.spacetime.read_memory", unscaled)
    assert _distance_from_golden(stcn) > 1e-3


def test_the_golden_video_notices_a_missing_mask_of_the_others(
    monkeypatch: pytest.MonkeyPatch, stcn: SpaceTimeNetwork
):
    real = stcn.value_encoder.forward

    def blind(x: Tensor, key: Tensor) -> Tensor:
        found: Tensor = real(torch.cat([x[:, :-1], torch.zeros_like(x[:, -1:])], 1), key)
        return found

    monkeypatch.setattr(stcn.value_encoder, "forward", blind)
    assert _distance_from_golden(stcn) > 1e-3


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_a_prediction_knows_nothing_of_later_frames_or_of_any_mask_but_the_first(name: str):
    model, clip = _model(name), textured_clip(frames=4)
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
    model = _model(name)
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
    model, clip = _model(name), textured_clip(clips=1, frames=4)
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
    model = _model(STUDENT, detach_feedback=detach)
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


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_every_parameter_gets_a_gradient_and_statistics_stay(name: str):
    model = registry.build(name, seed=0).train()
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    with torch.enable_grad():
        model(textured_clip(clips=1, frames=2, size=32)).logits.sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert before
    for key, value in model.state_dict().items():
        if "running" in key:
            assert torch.equal(value, before[key]), key


def test_train_keeps_batch_norm_in_eval_and_the_rest_in_training():
    model = registry.build("mobilevos_mobilenetv2", seed=0).train()
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


@pytest.mark.parametrize("options", [{"mem_every": 0}, {"top_k": 0}, {"queue": 0}])
def test_propagator_refuses_options_out_of_range(
    student: SpaceTimeNetwork, options: dict[str, Any]
):
    ((option, value),) = options.items()
    with pytest.raises(ValueError, match=f"{option}={value}"):
        student.propagator(**options)


def _lengths(model: SpaceTimeNetwork, frames: int, **options: Any) -> list[int]:
    """Memory length after each of `frames` frames."""
    propagator = model.propagator(**options)
    video = textured_frames(frames, 40, 56)
    ids = torch.zeros(40, 56, dtype=torch.int64)
    ids[10:30, 10:40] = 1
    state = propagator.begin(video[0], ids)
    lengths = [len(state.banks[0].key)]
    for frame in video[1:]:
        state = propagator.commit(state, propagator.predict(state, frame))
        lengths.append(len(state.banks[0].key))
    return lengths


def test_the_teacher_remembers_every_fifth_frame(teacher: SpaceTimeNetwork):
    assert _lengths(teacher, 12) == [1] * 5 + [2] * 5 + [3] * 2
    assert _lengths(teacher, 5, mem_every=2) == [1, 1, 2, 2, 3]
    assert _lengths(teacher, 5, mem_every=1, queue=3) == [1, 2, 3, 3, 3]


def test_a_queue_may_hold_the_first_frame_alone_or_all_of_them(student: SpaceTimeNetwork):
    assert _lengths(student, 4, queue=1) == [1, 1, 1, 1]
    assert _lengths(student, 4, queue=3) == [1, 2, 3, 3]
    assert _lengths(student, 4, queue="all") == [1, 2, 3, 4]


def test_with_include_last_the_latest_frame_is_remembered_until_the_next(
    teacher: SpaceTimeNetwork,
):
    assert _lengths(teacher, 8, mem_every=3, include_last=True) == [1, 2, 2, 2, 3, 3, 3, 4]
    assert _lengths(teacher, 8, mem_every=3, include_last=True, queue=2) == [1] + [2] * 7
    assert _lengths(teacher, 4, mem_every=1, include_last=True) == [1, 2, 3, 4]


def test_the_student_remembers_the_first_and_the_previous_frame(student: SpaceTimeNetwork):
    assert _lengths(student, 5) == [1, 2, 2, 2, 2]
    propagator = student.propagator()
    video = textured_frames(4, 48, 64)
    state = propagator.begin(video[0], (video[0, 0] > 0.5).long())
    for frame in video[1:]:
        state = propagator.commit(state, propagator.predict(state, frame))
    for slot, t in enumerate((0, 3)):
        key = student.encode_key(video[t : t + 1]).key
        torch.testing.assert_close(state.banks[0].key[slot], key[0].flatten(1).T)
        squares = state.banks[0].key[slot].square().sum(1)
        torch.testing.assert_close(state.banks[0].squares[slot], squares)


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_video_inference_without_top_k_equals_the_training_forward(name: str):
    model, clip = _model(name), textured_clip(clips=1, frames=3, slots=2)
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
    masks = torch.rand(1, 2, 64, 64, generator=generator(0, "masks"))
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


def test_a_given_mask_is_remembered_as_its_soft_aggregate(
    monkeypatch: pytest.MonkeyPatch, teacher: SpaceTimeNetwork
):
    fed: list[Tensor] = []
    real = teacher.encode_value

    def spy(frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        fed.append(masks)
        return real(frames, masks, s16)

    monkeypatch.setattr(teacher, "encode_value", spy)
    teacher.propagator().begin(textured_frames(1, 16, 16)[0], torch.ones(16, 16).long())
    # one object everywhere: both classes at their clamp, 1e-7 against 1 - 1e-7
    odds = (1e-7 / (1 - 1e-7)) ** 2
    expected = torch.full((1, 1, 16, 16), 1 / (1 + odds))
    torch.testing.assert_close(fed[0], expected)
    teacher.propagator().begin(textured_frames(1, 16, 17)[0], torch.ones(16, 17).long())
    padding = fed[1][..., -1]
    assert padding.min() > 0
    assert padding.max() < 1e-12


def test_late_objects_start_a_bank_of_their_own_and_the_old_ones_go_on(
    teacher: SpaceTimeNetwork,
):
    propagator = teacher.propagator(mem_every=1)
    assert isinstance(propagator, SpaceTimePropagator)
    video = textured_frames(4, 48, 64)
    ids = torch.zeros(48, 64, dtype=torch.int64)
    ids[:20] = 1
    state = propagator.begin(video[0], ids)
    state = propagator.commit(state, propagator.predict(state, video[1]))
    ids[30:, 20:40], ids[30:, 44:] = 2, 3
    state = propagator.add(state, video[2], ids)
    assert [len(bank.key) for bank in state.banks] == [3, 1]
    assert [bank.value.shape[2] for bank in state.banks] == [1, 2]
    # the new objects read as if the video had begun with them
    fresh = propagator.begin(video[2], ids)
    torch.testing.assert_close(state.banks[1].key, fresh.banks[0].key)
    torch.testing.assert_close(state.banks[1].value, fresh.banks[0].value[:, :, 1:])
    # from then on each bank remembers its own objects
    prediction = propagator.predict(state, video[3])
    state = propagator.commit(state, prediction)
    seen = prediction.features
    value = teacher.encode_value(seen.frame, seen.probabilities[:, 1:], seen.keys.features.s16)
    rows = value[0].flatten(2).permute(2, 0, 1)  # (hw, K, C_v)
    torch.testing.assert_close(state.banks[0].value[-1], rows[:, :1])
    torch.testing.assert_close(state.banks[1].value[-1], rows[:, 1:])


def test_padding_is_the_mean_colour_and_splits_the_smaller_half_first(
    teacher: SpaceTimeNetwork,
):
    propagator = teacher.propagator()
    frame = torch.full((3, 35, 51), 0.9)
    ids = torch.ones(35, 51, dtype=torch.int64)
    state = propagator.begin(frame, ids)
    padded = propagator.predict(state, frame).features.frame
    assert padded.shape == (1, 3, 48, 64)
    inside = (padded[0] - 0.9).abs() < 1e-6
    assert inside[:, 6:41, 6:57].all()
    assert int(inside.sum()) == 3 * 35 * 51
    torch.testing.assert_close(padded[0, :, 0, 0], torch.tensor([0.485, 0.456, 0.406]))
