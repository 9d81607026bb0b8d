"""A video, frame by frame: frames in, masks out. Ids, late and removed objects, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.types import Propagator

MAX_ID = 255
RANGE_SLACK = 0.1  # resampling overshoots [0, 1] a little


class HasPropagator(Protocol):
    """A model that can follow objects through a video."""

    def propagator(self, *args: Any, **kwargs: Any) -> Propagator: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def eval(self) -> Any: ...


class VideoSegmenter:
    """Follows the objects of one video at a time.

    Works on the model's device, where its results stay, and puts the model in eval mode. Ids are
    any of 1..255; a ValueError leaves everything as it was before that step.
    options: of `model.propagator`, such as mem_every, top_k, queue.
    """

    def __init__(self, model: HasPropagator, **options: Any) -> None:
        model.eval()
        self._device = next(iter(model.parameters())).device
        self._propagator = model.propagator(**options)
        self.reset()

    def reset(self) -> None:
        """Forgets the video: the next frame is the first of another."""
        self._state: Any = None
        self._slots: dict[int, int] = {}  # id -> slot 1..K of the propagator
        self._count = 0  # K: slots ever given, those of removed objects included
        self._size: tuple[int, int] | None = None
        self._probabilities: Tensor | None = None

    @property
    def ids(self) -> tuple[int, ...]:
        """The objects followed, in the order of the channels of `probabilities`."""
        return tuple(self._slots)

    @property
    def probabilities(self) -> Tensor:
        """Of the latest frame: (1 + len(ids), H, W), background first, summing to 1."""
        if self._probabilities is None:
            raise ValueError("no frame yet: call step first")
        return self._probabilities

    @property
    def state(self) -> Any:
        """All that is remembered of the video: the propagator's frozen state, None before it."""
        return self._state

    def remove(self, object_id: int) -> None:
        """Follow `object_id` no longer: its pixels are background from the next frame on.

        The same id in a later mask is a new object.
        """
        if object_id not in self._slots:
            raise ValueError(f"object {object_id} is not followed; there are {list(self.ids)}")
        del self._slots[object_id]

    def step(
        self, frame: Tensor, mask: Tensor | None = None, *, remember: Tensor | None = None
    ) -> Tensor:
        """The ids (H, W) int64 of `frame` (3, H, W) float in [0, 1].

        mask (H, W) integer ids: on the first frame, and wherever objects appear or are corrected.
        Its objects are exactly where it says; elsewhere the prediction of the others stands.
        remember (H, W) ids: written to memory in place of the prediction.
        Raises ValueError: first frame without a mask, mask without objects, another size than
        before, NaN or values outside [0, 1], ids unknown or out of range.
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
        given = [i for i in mask.unique().tolist() if i != 0]
        if not given:
            raise ValueError("mask without objects: every pixel is 0")
        slots = dict(self._slots)
        new = [i for i in given if i not in slots]
        slots.update({i: self._count + k for k, i in enumerate(new, 1)})
        count = self._count + len(new)
        in_slots = self._to_slots(mask, slots)
        truth = functional.one_hot(in_slots, count + 1).permute(2, 0, 1).float()
        if self._state is None:
            return self._accept(self._propagator.begin(frame, in_slots), truth, slots, count)
        predicted = self._propagator.predict(self._state, frame).probabilities
        predicted = functional.pad(predicted, (0, 0, 0, 0, 0, len(new)))
        others = [self._slots[i] for i in self._slots if i not in given]
        probabilities = torch.where(in_slots > 0, truth, _only(predicted, others))
        state = self._propagator.add(self._state, frame, best(probabilities))
        return self._accept(state, probabilities, slots, count)

    def _accept(
        self, state: Any, probabilities: Tensor, slots: dict[int, int], count: int
    ) -> Tensor:
        """All checks are behind: the step becomes the segmenter's state."""
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
            raise ValueError(f"{what} of {ids.dtype}: it holds integer ids, 0 = background")
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
    """The probabilities with every other slot's share given to the background."""
    kept = torch.zeros_like(probabilities)
    kept[slots] = probabilities[slots]
    kept[0] = 1 - kept.sum(0)
    return kept


def best(probabilities: Tensor) -> Tensor:
    """probabilities (K+1, H, W) -> channel of the largest (H, W) int64, the first of equals.

    argmax over the first axis, which on a CPU takes fifty times as long.
    """
    highest = probabilities[0]
    channel = torch.zeros(highest.shape, dtype=torch.int64, device=highest.device)
    for k in range(1, len(probabilities)):
        channel.masked_fill_(probabilities[k] > highest, k)
        highest = torch.maximum(highest, probabilities[k])
    return channel
