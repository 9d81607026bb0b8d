"""Segment a video frame by frame, keeping track of object ids.

`VideoSegmenter` handles arbitrary ids, objects that appear late or are removed, and bad input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.support.channels import best
from vosmodels.types import Propagator

MAX_ID = 255
RANGE_SLACK = 0.1  # accepted overshoot of [0, 1], as resampling overshoots a little


class HasPropagator(Protocol):
    """A model that can segment a video, such as a SpaceTimeNetwork."""

    def propagator(self, *args: Any, **kwargs: Any) -> Propagator:
        """Return a propagator, which runs the model on one video."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the model's parameters, as nn.Module does."""
        ...

    def eval(self) -> Any:
        """Set the model to eval mode, as nn.Module does."""
        ...


class VideoSegmenter:
    """A segmenter of one video at a time.

    The model is put in eval mode; results stay on the model's device. Ids are any of 1..255. A step
    that raises ValueError changes nothing. options: of `model.propagator`, such as mem_every,
    top_k, queue.
    """

    def __init__(self, model: HasPropagator, **options: Any) -> None:
        model.eval()
        self._device = next(iter(model.parameters())).device
        self._propagator = model.propagator(**options)
        self.reset()

    def reset(self) -> None:
        """Forget the video: the next frame is the first of another video."""
        self._state: Any = None
        self._slots: dict[int, int] = {}  # id -> slot 1..K of the propagator
        self._count = 0  # K: slots assigned so far, including those of removed objects
        self._size: tuple[int, int] | None = None
        self._probabilities: Tensor | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of the objects, in the order of `probabilities`' channels."""
        return tuple(self._slots)

    @property
    def probabilities(self) -> Tensor:
        """Return the latest frame's probabilities (1 + len(ids), H, W), background first.

        They sum to 1 over channels. Raises ValueError before the first step.
        """
        if self._probabilities is None:
            raise ValueError("no frame yet: call step first")
        return self._probabilities

    @property
    def state(self) -> Any:
        """Return the propagator's frozen state; None before the first step."""
        return self._state

    def remove(self, object_id: int) -> None:
        """Remove an object: its pixels are background from the next frame on.

        The same id in a later mask is a new object. Raises ValueError on an id that is not
        followed.
        """
        if object_id not in self._slots:
            raise ValueError(f"object {object_id} is not followed; there are {list(self.ids)}")
        del self._slots[object_id]

    def step(
        self, frame: Tensor, mask: Tensor | None = None, *, remember: Tensor | None = None
    ) -> Tensor:
        """Segment a frame (3, H, W) float in [0, 1] and return its ids (H, W) int64.

        mask (H, W) integer ids: needed on the first frame, allowed on any frame in which objects
        appear or are corrected. The objects of the mask get exactly the mask's pixels; the other
        pixels keep the prediction of the other objects.
        remember (H, W) ids: written to the memory in place of the prediction.
        Raises ValueError on a first frame without a mask, a mask without objects, a frame of
        another size than before, NaN or values outside [0, 1], unknown or out-of-range ids.
        """
        with torch.inference_mode():
            frame = self._checked_frame(frame)
            if mask is not None:
                if remember is not None:
                    raise ValueError("mask and remember together: a given mask is remembered")
                return self._step_given(frame, self._checked_ids(mask, frame, "mask"))
            if self._state is None:
                raise ValueError("the first frame needs a mask: step(frame, mask)")
            return self._step_predicted(frame, remember)

    def _step_predicted(self, frame: Tensor, remember: Tensor | None) -> Tensor:
        written = None
        if remember is not None:
            written = self._checked_ids(remember, frame, "remember")
            self._refuse_unknown(written)
            written = self._to_slots(written, self._slots)
        prediction = self._propagator.predict(self._state, frame)
        state = self._propagator.commit(self._state, prediction, written)
        return self._accept(state, prediction.probabilities, self._slots, self._count)

    def _step_given(self, frame: Tensor, mask: Tensor) -> Tensor:
        ids = [i for i in mask.unique().tolist() if i != 0]
        if not ids:
            raise ValueError("mask without objects: every pixel is 0")
        slots = dict(self._slots)
        new = [i for i in ids if i not in slots]
        slots.update({i: self._count + k for k, i in enumerate(new, 1)})
        count = self._count + len(new)
        in_slots = self._to_slots(mask, slots)
        truth = functional.one_hot(in_slots, count + 1).permute(2, 0, 1).float()
        if self._state is None:
            return self._accept(self._propagator.begin(frame, in_slots), truth, slots, count)
        predicted = self._propagator.predict(self._state, frame).probabilities
        predicted = functional.pad(predicted, (0, 0, 0, 0, 0, len(new)))
        others = [self._slots[i] for i in self._slots if i not in ids]
        probabilities = torch.where(in_slots > 0, truth, _only(predicted, others))
        state = self._propagator.add(self._state, frame, best(probabilities))
        return self._accept(state, probabilities, slots, count)

    def _accept(
        self, state: Any, probabilities: Tensor, slots: dict[int, int], count: int
    ) -> Tensor:
        """Store the result of a checked step as the segmenter's state; return its ids."""
        if len(slots) < count:  # removed objects
            probabilities = _only(probabilities, list(slots.values()))
            probabilities = probabilities[[0, *slots.values()]]
        self._state, self._slots, self._count = state, slots, count
        self._size = (probabilities.shape[1], probabilities.shape[2])
        self._probabilities = probabilities
        ids = torch.tensor([0, *slots], device=self._device)
        return ids[best(probabilities)]

    def _checked_frame(self, frame: Tensor) -> Tensor:
        image = frame.ndim == 3 and frame.shape[0] == 3 and frame.numel() > 0
        if not image or not frame.is_floating_point():
            raise ValueError(
                f"frame of shape {tuple(frame.shape)}, {frame.dtype}: frames are (3, H, W) float"
            )
        size = (frame.shape[1], frame.shape[2])
        if self._size not in (None, size):
            raise ValueError(f"frame of size {size} in a video of {self._size}: reset() first")
        low, high = (float(bound) for bound in frame.aminmax())
        if not (low >= -RANGE_SLACK and high <= 1 + RANGE_SLACK):  # NaN fails both
            raise ValueError(f"frame with values {low:g}..{high:g}: frames are finite, in [0, 1]")
        return frame.to(self._device)

    def _checked_ids(self, ids: Tensor, frame: Tensor, what: str) -> Tensor:
        if ids.shape != frame.shape[1:]:
            raise ValueError(
                f"{what} of shape {tuple(ids.shape)}, the frame is {tuple(frame.shape[1:])}"
            )
        if ids.is_floating_point() or ids.is_complex():
            raise ValueError(f"{what} of {ids.dtype}: ids are integers, 0 = background")
        ids = ids.to(self._device, torch.int64)
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high > MAX_ID:
            raise ValueError(f"{what} with ids {low}..{high}: ids are 0..{MAX_ID}")
        return ids

    def _refuse_unknown(self, ids: Tensor) -> None:
        unknown = [i for i in ids.unique().tolist() if i not in (0, *self._slots)]
        if unknown:
            raise ValueError(
                f"remember holds objects {unknown} that are not followed; give them as a mask"
            )

    def _to_slots(self, ids: Tensor, slots: dict[int, int]) -> Tensor:
        table = torch.zeros(MAX_ID + 1, dtype=torch.int64, device=self._device)
        for object_id, slot in slots.items():
            table[object_id] = slot
        return table[ids]


def _only(probabilities: Tensor, slots: list[int]) -> Tensor:
    """Keep the probabilities of `slots`; those of other slots go to the background."""
    rest = torch.zeros_like(probabilities)
    rest[slots] = probabilities[slots]
    rest[0] = 1 - rest.sum(0)
    return rest
