"""Test the captured step: answers as the plain propagator's, one capture.

A graph itself needs a CUDA device.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model_tools import filled, textured_frames
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.memory_rule import MemoryRule
from vosmodels.spacetime.cuda_graph import Function, GraphPropagator, memory_tensors
from vosmodels.spacetime.network import SpaceTimeNetwork
from vosmodels.spacetime.propagator import SpaceTimePropagator
from vosmodels.types import HIDDEN

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


def assert_both_answer_alike(
    segmenter: VideoSegmenter,
    plain: VideoSegmenter,
    frames: Sequence[Tensor] | Tensor,
    given: Mapping[int, Tensor],
    remember: Mapping[int, Tensor] | None = None,
) -> None:
    """Both follow the same video; ids may differ where two objects are as likely."""
    for t, frame in enumerate(frames):
        written = (remember or {}).get(t)
        ids = [each.step(frame, given.get(t), remember=written) for each in (segmenter, plain)]
        torch.testing.assert_close(segmenter.probabilities, plain.probabilities, atol=2e-5, rtol=0)
        first, second = plain.probabilities.topk(2, dim=0).values
        assert torch.equal(*(each[first - second > 1e-4] for each in ids))


@pytest.mark.parametrize(
    "rule", ["first", "first,last", "first,last,1x1", "first,2x3", "first,last,2x3"]
)
@pytest.mark.parametrize("top_k", [None, 20])
def test_a_captured_step_answers_as_the_segmenter_for_every_memory(
    student: SpaceTimeNetwork, rule: str, top_k: int | None
):
    capture, options = Buffers(), {"memory": MemoryRule.of(rule), "top_k": top_k}
    segmenter, plain = graphed(student, capture, **options), VideoSegmenter(student, **options)
    assert_both_answer_alike(segmenter, plain, FRAMES, {0: band(1, 5, 20)})
    assert (capture.captures, capture.replays) == (1, len(FRAMES) - 1)


def test_late_objects_are_captured_anew_and_what_is_remembered_is_minded(
    student: SpaceTimeNetwork,
):
    capture = Buffers()
    segmenter, plain = graphed(student, capture), VideoSegmenter(student)
    given = {0: band(1, 5, 20), 3: band(2, 25, 35)}
    assert_both_answer_alike(segmenter, plain, FRAMES, given, {6: band(2, 24, 30)})
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
        for each in (segmenter, plain):
            each.reset()
        mask = band(1, 5, 20).T if turn else band(1, 5, 20)
        assert_both_answer_alike(segmenter, plain, frames, {0: mask})
    assert capture.captures == 2


def test_each_slot_of_the_memory_has_the_frames_of_its_bank_and_hides_the_rest(
    student: SpaceTimeNetwork,
):
    plain = student.propagator(queue=3)
    assert isinstance(plain, SpaceTimePropagator)
    with torch.inference_mode():
        state = plain.begin(FRAMES[0], band(1, 5, 20) + band(2, 25, 30))
        state = plain.add(state, FRAMES[1], band(3, 31, 36))
        key, value, bias = memory_tensors(state, 3)
    assert torch.equal(bias == 0, torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0]]).bool())
    assert bias[2, 2] == HIDDEN
    first, late = state.banks
    for slot in range(2):
        assert torch.equal(key[slot, :2], first.key)
        assert torch.equal(value[slot, :2], first.value[:, :, slot])
    assert torch.equal(key[2, :1], late.key)
    assert torch.equal(value[2, :1], late.value[:, :, 0])


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


def test_a_memory_that_grows_is_refused(student: SpaceTimeNetwork):
    plain = student.propagator(queue="all")
    assert isinstance(plain, SpaceTimePropagator)
    with pytest.raises(ValueError, match="queue=all"):
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
