"""A constant-memory model's step as one CUDA graph: one launch a frame instead of some hundreds.

Once its queue is full, every step takes and makes tensors of the same shapes. `steady_step` is that
step as a pure function of tensors; `GraphPropagator` has it captured once and replays it.
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
WARM_UP = 3  # calls before the capture, in which libraries choose their kernels


def steady_step(propagator: SpaceTimePropagator, like: SpaceTimeState) -> Function:
    """(frame, *state.tensors) -> (probabilities, *next state's tensors), states shaped as `like`.

    Predicts and commits; depends on nothing but its arguments and the weights.
    """

    def step(frame: Tensor, *held: Tensor) -> tuple[Tensor, ...]:
        state = like.holding(held)
        prediction = propagator.predict(state, frame)
        return prediction.probabilities, *propagator.commit(state, prediction).tensors

    return step


@torch.inference_mode()
def cuda_graph(function: Function, arguments: Sequence[Tensor]) -> Function:
    """`function` recorded on `arguments`; a call copies its own over them, and the answers out.

    It takes tensors of the same shapes ever after. The weights must stay where they are.
    """
    held = [x.clone() for x in arguments]
    with torch.cuda.device(held[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                function(*held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = function(*held)

    @torch.inference_mode()
    def replay(*given: Tensor) -> tuple[Tensor, ...]:
        for own, x in zip(held, given, strict=True):
            own.copy_(x)
        graph.replay()
        return tuple(x.clone() for x in made)

    return replay


@dataclass(frozen=True)
class Stepped:
    """What a captured step hands to `commit`: its frame, and the state after it."""

    frame: Tensor
    state: SpaceTimeState


class GraphPropagator:
    """types.Propagator: answers as `propagator` does, its steady steps by `capture`d function.

    Steps in which the memory still fills up run as they are. A new capture is made where shapes
    change (another frame size, more objects); the last one is kept. Raises ValueError for a
    propagator whose memory grows, or is written every few frames: its steps are not alike.
    """

    def __init__(self, propagator: SpaceTimePropagator, capture: Capture = cuda_graph) -> None:
        if propagator.queue is None or propagator.mem_every != 1:
            raise ValueError(
                f"graph with queue={propagator.queue or 'all'}, mem_every={propagator.mem_every}: "
                "it takes a queue of some length and mem_every=1, so that all steps are alike"
            )
        self._plain = propagator
        self._capture = capture
        self._of: tuple[Any, ...] = ()  # what `_step` was captured for
        self._step: Function

    def begin(self, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """As the plain propagator."""
        return self._plain.begin(frame, ids)

    def add(self, state: SpaceTimeState, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """As the plain propagator."""
        return self._plain.add(state, frame, ids)

    def predict(self, state: SpaceTimeState, frame: Tensor) -> Prediction:
        """The whole step at once where it is a steady one; `commit` then has nothing to do."""
        if any(len(bank.key) != self._plain.queue for bank in state.banks):
            return self._plain.predict(state, frame)
        arguments = (frame, *state.tensors)
        of = (state.size, *(x.shape for x in arguments))
        if of != self._of:
            self._step, self._of = self._capture(steady_step(self._plain, state), arguments), of
        probabilities, *held = self._step(*arguments)
        return Prediction(probabilities, Stepped(frame, state.holding(held)))

    def commit(
        self, state: SpaceTimeState, prediction: Prediction, mask: Tensor | None = None
    ) -> SpaceTimeState:
        """As the plain propagator; a `mask` after a captured step has the frame encoded again."""
        stepped = prediction.features
        if not isinstance(stepped, Stepped):
            return self._plain.commit(state, prediction, mask)
        if mask is None:
            return stepped.state
        return self._plain.commit(state, self._plain.predict(state, stepped.frame), mask)
