"""Capture a constant-memory model's step as a CUDA graph.

A frame is then one kernel launch instead of some hundred. Once the queue is full, every step reads
and writes tensors of the same shapes. `steady_step` is this step as a pure function of tensors;
`GraphPropagator` captures the function once and replays the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vosmodels.spacetime.propagator import SpaceTimePropagator, SpaceTimeState
from vosmodels.types import Prediction

Function = Callable[..., tuple[Tensor, ...]]
Capture = Callable[[Function, Sequence[Tensor]], Function]
WARM_UP = 3  # calls before the capture, during which libraries choose their kernels


def steady_step(propagator: SpaceTimePropagator, like: SpaceTimeState) -> Function:
    """Return one step, predict and commit, as a pure function of tensors and weights.

    The function maps (frame, *state.tensors) to (probabilities, *next_state.tensors), for states
    of the shapes of `like`.
    """

    def step(frame: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        state = like.holding(tensors)
        prediction = propagator.predict(state, frame)
        return prediction.probabilities, *propagator.commit(state, prediction).tensors

    return step


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


@dataclass(frozen=True)
class Stepped:
    """The features of a captured step's prediction: its frame, and the next state."""

    frame: Tensor
    state: SpaceTimeState


class GraphPropagator:
    """A types.Propagator that runs the steady steps of `propagator` as a CUDA graph.

    Results equal those of `propagator`. Steps in which the memory still fills run uncaptured. A
    change of shapes (frame size, number of objects) makes a new capture, which replaces the old
    one. Raises ValueError for a propagator whose memory grows or is not written at every frame,
    because its steps differ.
    """

    def __init__(self, propagator: SpaceTimePropagator, capture: Capture = cuda_graph) -> None:
        if propagator.queue is None or propagator.mem_every != 1:
            raise ValueError(
                f"graph with queue={propagator.queue or 'all'}, mem_every={propagator.mem_every}: "
                "a graph needs a finite queue and mem_every=1, so that all steps have equal shapes"
            )
        self._plain = propagator
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
        """Predict `frame` (3, H, W); a steady step also computes the next state.

        `commit` then returns that state without further work.
        """
        if any(len(bank.key) != self._plain.queue for bank in state.banks):
            return self._plain.predict(state, frame)
        arguments = (frame, *state.tensors)
        of = (state.size, *(x.shape for x in arguments))
        if of != self._of:
            self._step, self._of = self._capture(steady_step(self._plain, state), arguments), of
        probabilities, *tensors = self._step(*arguments)
        return Prediction(probabilities, Stepped(frame, state.holding(tensors)))

    def commit(
        self, state: SpaceTimeState, prediction: Prediction, mask: Tensor | None = None
    ) -> SpaceTimeState:
        """Return the state after the frame, as the plain propagator does.

        A `mask` after a captured step makes the frame be encoded again.
        """
        stepped = prediction.features
        if not isinstance(stepped, Stepped):
            return self._plain.commit(state, prediction, mask)
        if mask is None:
            return stepped.state
        return self._plain.commit(state, self._plain.predict(state, stepped.frame), mask)
