"""Capture the step of a model whose memory does not grow as a CUDA graph.

A frame is then one kernel launch instead of some hundred. The step is `StepGraph`, whose tensors
have the same shapes while the memory fills and when it is full; `GraphPropagator` captures it once
for a size of frames and a number of objects, and replays it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vosmodels.spacetime.propagator import SpaceTimePropagator, SpaceTimeState
from vosmodels.spacetime.step_graph import StepGraph
from vosmodels.types import HIDDEN, Prediction

Function = Callable[..., tuple[Tensor, ...]]
Capture = Callable[[Function, Sequence[Tensor]], Function]
WARM_UP = 3  # calls before the capture, during which libraries choose their kernels


@torch.inference_mode()
def cuda_graph(function: Function, arguments: Sequence[Tensor]) -> Function:
    """Capture a call `function(*arguments)` and return a function that replays it.

    The replay copies its arguments over the captured ones and the results out, so it only takes
    tensors of the captured shapes. The weights must not move in memory.
    """
    inputs = [x.clone() for x in arguments]
    with torch.cuda.device(inputs[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                function(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = function(*inputs)

    @torch.inference_mode()
    def replay(*values: Tensor) -> tuple[Tensor, ...]:
        for own, x in zip(inputs, values, strict=True):
            own.copy_(x)
        graph.replay()
        return tuple(x.clone() for x in outputs)

    return replay


def memory_tensors(state: SpaceTimeState, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lay the banks of a state out as `StepGraph` takes a memory of `frames` frames.

    Returns memory_key (N, T, P, C_k), memory_value (N, T, P, C_v), memory_bias (N, T).
    """
    first, n = state.banks[0], state.objects
    (_, positions, width), depth = first.key.shape, first.value.shape[3]
    key = first.key.new_zeros(n, frames, positions, width)
    value = first.value.new_zeros(n, frames, positions, depth)
    bias = first.key.new_full((n, frames), HIDDEN)
    done = 0
    for bank in state.banks:
        held, slots = len(bank.key), slice(done, done + bank.value.shape[2])
        key[slots, :held] = bank.key
        value[slots, :held] = bank.value.permute(2, 0, 1, 3)
        bias[slots, :held] = 0
        done = slots.stop
    return key, value, bias


@dataclass(frozen=True)
class Stepped:
    """The features of a captured step's prediction: its frame (3, H, W), and what it encodes.

    key (P, C_k), value (N, P, C_v): what the memory takes if the frame is due.
    """

    frame: Tensor
    key: Tensor
    value: Tensor


class GraphPropagator:
    """A types.Propagator that predicts as `propagator` does, by a CUDA graph of `StepGraph`.

    Probabilities differ by rounding alone, as the two add in another order. Another frame size or
    number of objects makes a new capture, which replaces the old one. Raises ValueError for a
    propagator whose memory grows.
    """

    def __init__(self, propagator: SpaceTimePropagator, capture: Capture = cuda_graph) -> None:
        if propagator.queue is None:
            raise ValueError(
                "graph with queue=all: the memory grows, and a graph needs shapes that stay; give "
                "a queue"
            )
        self._plain = propagator
        self._frames = propagator.queue
        self._capture = capture
        self._of: tuple[Any, ...] = ()  # the sizes that `_step` was captured for
        self._step: Function

    def begin(self, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """Start a video as the plain propagator does."""
        return self._plain.begin(frame, ids)

    def add(self, state: SpaceTimeState, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """Add objects as the plain propagator does."""
        return self._plain.add(state, frame, ids)

    def predict(self, state: SpaceTimeState, frame: Tensor) -> Prediction:
        """Predict `frame` (3, H, W), and encode it for the memory.

        Raises ValueError on a frame of another size than the video's.
        """
        self._plain.check_frame(state, frame)
        present = frame.new_ones(state.objects, dtype=torch.float32)
        arguments = (frame[None], *memory_tensors(state, self._frames), present)
        of = (state.size, state.objects)
        if of != self._of:
            height, width = state.size
            graph = StepGraph(
                self._plain.model, height=height, width=width, top_k=self._plain.top_k
            )
            self._step, self._of = self._capture(graph, arguments), of
        probabilities, key, value = self._step(*arguments)
        return Prediction(probabilities, Stepped(frame, key, value))

    def commit(
        self, state: SpaceTimeState, prediction: Prediction, mask: Tensor | None = None
    ) -> SpaceTimeState:
        """Return the state after the frame, as the plain propagator does.

        A `mask` makes the frame be encoded again.
        """
        stepped: Stepped = prediction.features
        if mask is None:
            return self._plain.keep(state, stepped.key, stepped.value)
        return self._plain.commit(state, self._plain.predict(state, stepped.frame), mask)
