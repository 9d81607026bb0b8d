"""Test the captured step: equal answers, one capture.

A graph itself needs a CUDA device.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model_tools import filled, textured_frames
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.spacetime.cuda_graph import Function, GraphPropagator, steady_step
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.spacetime.propagator import SpaceTimePropagator

SIZE = (40, 56)
FRAMES = textured_frames(8, *SIZE)


@pytest.fixture(scope="module")
def student() -> SpaceTimeNetwork:
    return filled("mobilevos_mobilenetv2_noaspp")


def band(object_id: int, top: int, bottom: int) -> Tensor:
    """Ids with one object, on the rows [top, bottom)."""
    ids = torch.zeros(SIZE, dtype=torch.int64)
    ids[top:bottom, 8:48] = object_id
    return ids


class Buffers:
    """A capture without a device: like a graph it works in the tensors it was made with."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, function: Function, arguments: Sequence[Tensor]) -> Function:
        self.captures += 1
        held = [x.clone() for x in arguments]

        def replay(*given: Tensor) -> tuple[Tensor, ...]:
            self.replays += 1
            for own, x in zip(held, given, strict=True):
                own.copy_(x)
            return tuple(x.clone() for x in function(*held))

        return replay


def graphed(student: SpaceTimeNetwork, capture: Buffers, **options: Any) -> VideoSegmenter:
    """A segmenter whose propagator captures by `capture`."""
    segmenter = VideoSegmenter(student, **options)
    plain = student.propagator(**options)
    assert isinstance(plain, SpaceTimePropagator)
    segmenter._propagator = GraphPropagator(plain, capture)
    return segmenter


@pytest.mark.parametrize("queue", [1, 2, 3])
def test_a_captured_step_answers_as_the_segmenter_bit_for_bit(
    student: SpaceTimeNetwork, queue: int
):
    capture = Buffers()
    segmenter, plain = graphed(student, capture, queue=queue), VideoSegmenter(student, queue=queue)
    for t, frame in enumerate(FRAMES):
        mask = band(1, 5, 20) if t == 0 else None
        assert torch.equal(segmenter.step(frame, mask), plain.step(frame, mask))
        assert torch.equal(segmenter.probabilities, plain.probabilities)
    assert (capture.captures, capture.replays) == (1, len(FRAMES) - queue)


def test_late_objects_are_captured_anew_and_what_is_remembered_is_minded(
    student: SpaceTimeNetwork,
):
    capture = Buffers()
    segmenter, plain = graphed(student, capture), VideoSegmenter(student)
    given = {0: band(1, 5, 20), 3: band(2, 25, 35)}
    for t, frame in enumerate(FRAMES):
        remember = band(2, 24, 30) if t == 6 else None
        for each in (segmenter, plain):
            each.step(frame, given.get(t), remember=remember)
        assert torch.equal(segmenter.probabilities, plain.probabilities)
    assert capture.captures == 2


def test_the_next_video_of_the_same_shapes_needs_no_new_capture(student: SpaceTimeNetwork):
    capture = Buffers()
    segmenter = graphed(student, capture)
    answers = []
    for _ in range(2):
        segmenter.reset()
        segmenter.step(FRAMES[0], band(1, 5, 20))
        answers.append([segmenter.step(frame) for frame in FRAMES[1:4]])
    assert capture.captures == 1
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


def test_a_turned_video_of_as_many_positions_is_another_shape(student: SpaceTimeNetwork):
    capture = Buffers()
    segmenter, plain = graphed(student, capture), VideoSegmenter(student)
    for turn in (False, True):
        frames = FRAMES[:4].transpose(2, 3) if turn else FRAMES[:4]
        mask = band(1, 5, 20).T if turn else band(1, 5, 20)
        for each in (segmenter, plain):
            each.reset()
            each.step(frames[0], mask)
            for frame in frames[1:]:
                each.step(frame)
        assert torch.equal(segmenter.probabilities, plain.probabilities)
    assert capture.captures == 2


def test_the_steady_step_changes_none_of_its_arguments(student: SpaceTimeNetwork):
    propagator = student.propagator()
    assert isinstance(propagator, SpaceTimePropagator)
    with torch.inference_mode():
        state = propagator.begin(FRAMES[0], band(1, 5, 20))
        state = propagator.commit(state, propagator.predict(state, FRAMES[1]))
        arguments = (FRAMES[2], *state.tensors)
        before = [x.clone() for x in arguments]
        step = steady_step(propagator, state)
        first, again = step(*arguments), step(*arguments)
    assert all(map(torch.equal, arguments, before))
    assert all(map(torch.equal, first, again))


def test_a_frame_that_is_not_of_the_video_is_refused_though_all_shapes_are_known(
    student: SpaceTimeNetwork,
):
    plain = student.propagator(queue=1)
    assert isinstance(plain, SpaceTimePropagator)
    propagator = GraphPropagator(plain, Buffers())
    with torch.inference_mode():
        state = propagator.begin(FRAMES[0], band(1, 5, 20))
        propagator.predict(state, FRAMES[1])
        turned = propagator.begin(FRAMES[0].transpose(1, 2), band(1, 5, 20).T)
        with pytest.raises(ValueError, match=r"this video's are \(3, 56, 40\)"):
            propagator.predict(turned, FRAMES[1])


@pytest.mark.parametrize("options", [{"queue": "all"}, {"mem_every": 2}])
def test_a_memory_that_grows_or_waits_is_refused(student: SpaceTimeNetwork, options: dict):
    ((option, value),) = options.items()
    plain = student.propagator(**options)
    assert isinstance(plain, SpaceTimePropagator)
    with pytest.raises(ValueError, match=f"{option}={value}"):
        GraphPropagator(plain)


def test_a_graph_wants_the_model_on_its_device(student: SpaceTimeNetwork):
    with pytest.raises(ValueError, match="graph=True on cpu"):
        VideoSegmenter(student, graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cuda_graph_answers_as_the_plain_steps(student: SpaceTimeNetwork, dtype: torch.dtype):
    ready = for_inference(student, dtype=dtype).to("cuda")
    segmenter, plain = VideoSegmenter(ready, graph=True), VideoSegmenter(ready)
    for t, frame in enumerate(FRAMES):
        mask = band(1, 5, 20) if t == 0 else None
        segmenter.step(frame, mask)
        plain.step(frame, mask)
        torch.testing.assert_close(segmenter.probabilities, plain.probabilities, atol=1e-5, rtol=0)
