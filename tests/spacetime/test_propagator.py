from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.model_tools import DATA, filled, textured_frames
from vosmodels.spacetime.memory import affinity, read_memory
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.spacetime.propagator import SpaceTimePropagator

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

    monkeypatch.setattr("vosmodels.spacetime.propagator.read_memory", unscaled)
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
