"""Test every registered model against the promises of types.Propagator."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conformance import stand_in
from tests.model_tools import EVERY_MODEL, textured_frames
from vosmodels import registry
from vosmodels.types import Propagator

SIZES = [(24, 40), (33, 17), (16, 16)]
STUDENTS = [name for name in registry.REGISTRY if name.startswith("mobilevos_")]


@pytest.fixture(scope="module", params=[*EVERY_MODEL, stand_in.NAME])
def propagator(request: pytest.FixtureRequest) -> Iterator[Propagator]:
    # random, uncalibrated weights: what is promised here holds for any
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)
        yield registry.build(request.param, seed=0).propagator()


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _video(height: int = 24, width: int = 40, *, frames: int = 4) -> tuple[Tensor, Tensor]:
    """Frames, and ids of two objects."""
    ids = torch.zeros(height, width, dtype=torch.int64)
    ids[: height // 2, : width // 2] = 1
    ids[height // 2 :, width // 2 :] = 2
    return textured_frames(frames, height, width), ids


def _tensors(value: Any) -> list[Tensor]:
    """Every tensor in a state, in order."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        return [t for f in dataclasses.fields(value) for t in _tensors(getattr(value, f.name))]
    if isinstance(value, list | tuple):
        return [t for item in value for t in _tensors(item)]
    return []


def _equal(a: Any, b: Any) -> bool:
    left, right = _tensors(a), _tensors(b)
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("size", SIZES)
def test_probabilities_have_the_input_size_and_sum_to_one(
    propagator: Propagator, size: tuple[int, int]
):
    frames, ids = _video(*size)
    state = propagator.begin(frames[0], ids)
    for frame in frames[1:]:
        prediction = propagator.predict(state, frame)
        assert prediction.probabilities.shape == (3, *size)
        assert prediction.probabilities.min() >= 0
        torch.testing.assert_close(prediction.probabilities.sum(0), torch.ones(size))
        state = propagator.commit(state, prediction)


def test_the_state_is_a_frozen_dataclass_of_tensors(propagator: Propagator):
    frames, ids = _video()
    state = propagator.begin(frames[0], ids)
    assert dataclasses.is_dataclass(state)
    assert _tensors(state)
    field = dataclasses.fields(state)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(state, field, None)


def test_no_call_changes_the_state_or_the_frame_it_was_given(propagator: Propagator):
    frames, ids = _video()
    state = propagator.begin(frames[0], ids)
    before, frames_before, ids_before = copy.deepcopy(state), frames.clone(), ids.clone()
    prediction = propagator.predict(state, frames[1])
    propagator.commit(state, prediction)
    propagator.commit(state, prediction, ids)
    propagator.add(state, frames[2], ids)
    assert _equal(state, before)
    assert torch.equal(frames, frames_before)
    assert torch.equal(ids, ids_before)


def test_predict_answers_the_same_twice(propagator: Propagator):
    frames, ids = _video()
    state = propagator.begin(frames[0], ids)
    first = propagator.predict(state, frames[1]).probabilities
    propagator.commit(state, propagator.predict(state, frames[2]))
    assert torch.equal(propagator.predict(state, frames[1]).probabilities, first)


def test_commit_takes_ids_or_soft_maps_and_without_either_the_prediction(
    propagator: Propagator,
):
    frames, ids = _video()
    state = propagator.begin(frames[0], ids)
    for _ in range(4):  # up to the frame whose turn it is in every model
        state = propagator.commit(state, propagator.predict(state, frames[1]))
    prediction = propagator.predict(state, frames[2])
    plain = propagator.commit(state, prediction)
    soft = propagator.commit(state, prediction, torch.eye(3)[(2 - ids)].permute(2, 0, 1))
    hard = propagator.commit(state, prediction, 2 - ids)
    answers = [propagator.predict(s, frames[3]).probabilities for s in (plain, soft, hard)]
    assert all(answer.shape == (3, 24, 40) for answer in answers)
    assert not _equal(plain, hard)
    torch.testing.assert_close(answers[1], answers[2], atol=1e-4, rtol=0)


def test_objects_that_are_added_get_channels_after_the_old_ones(propagator: Propagator):
    frames, ids = _video()
    state = propagator.begin(frames[0], ids.clamp(max=1))
    assert propagator.predict(state, frames[1]).probabilities.shape[0] == 2
    late = ids.clone()
    late[:6, 26:] = 3
    state = propagator.add(state, frames[1], late)
    prediction = propagator.predict(state, frames[2])
    assert prediction.probabilities.shape == (4, 24, 40)
    state = propagator.commit(state, prediction)
    assert propagator.predict(state, frames[3]).probabilities.shape[0] == 4


def test_a_mask_without_objects_and_a_frame_of_another_size_are_refused(
    propagator: Propagator,
):
    frames, ids = _video()
    with pytest.raises(ValueError, match="no object"):
        propagator.begin(frames[0], torch.zeros_like(ids))
    state = propagator.begin(frames[0], ids)
    with pytest.raises(ValueError, match=r"\(3, 12, 40\)"):
        propagator.predict(state, frames[1][:, :12])
    prediction = propagator.predict(state, frames[1])
    for _ in range(5):
        state = propagator.commit(state, prediction)
    with pytest.raises(ValueError, match=r"\(24, 30\)"):
        for _ in range(5):
            state = propagator.commit(state, prediction, ids[:, :30])


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_memory_is_constant_from_its_second_frame_on(name: str):
    propagator: Propagator = registry.build(name, seed=0).propagator()
    frames, ids = _video(frames=8)
    state = propagator.begin(frames[0], ids)
    sizes = []
    for frame in frames[1:]:
        state = propagator.commit(state, propagator.predict(state, frame))
        sizes.append(sum(t.numel() for t in _tensors(state)))
    assert len(set(sizes)) == 1
