"""A space-time network run on one video: its memory frame by frame, by STCN's rules of inference.

The network is whatever answers `MemoryNetwork`; h, w = H/16, W/16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vosmodels.spacetime.memory import compete, kept_frames, one_hot, read_memory
from vosmodels.types import Features, Prediction

STRIDE = 16


@dataclass(frozen=True)
class KeyFeatures:
    """What one frame is encoded to, once for all objects.

    features: the pyramid; key (B, C_k, h, w) matches; thin (B, C_v, h, w) joins the readout.
    """

    features: Features
    key: Tensor
    thin: Tensor

    def frame(self, clips: int, index: int) -> KeyFeatures:
        """Where the batch is (clips, T) flattened: frame `index` of each clip."""

        def pick(x: Tensor) -> Tensor:
            return x.view(clips, -1, *x.shape[1:])[:, index]

        f = self.features
        pyramid = Features(pick(f.s4), pick(f.s8), pick(f.s16))
        return KeyFeatures(pyramid, pick(self.key), pick(self.thin))


class MemoryNetwork(Protocol):
    """What the propagator asks of a network; `spacetime.SpaceTimeNetwork` says more of each."""

    @property
    def mean(self) -> Tensor:
        """(3, 1, 1): the colour that is zero once normalised."""
        ...

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """frames (B, 3, H, W) in [0, 1], H and W multiples of 16."""
        ...

    def encode_value(self, frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        """The same frames, masks (B, N, H, W) soft, s16 of their key -> (B, N, C_v, h, w)."""
        ...

    def decode(self, keys: KeyFeatures, read: Tensor) -> tuple[Tensor, Tensor]:
        """read (B, N, C_v, h, w) -> logits per object (B, N, H, W), and what is not asked here."""
        ...


@dataclass(frozen=True)
class Bank:
    """Memory of n objects that began together, one row a position: key (T, h*w, C_k) and squares
    (T, h*w) = |key|^2, both float32; value (T, h*w, n, C_v)."""

    key: Tensor
    squares: Tensor
    value: Tensor

    def then(self, later: Bank, kept: list[int]) -> Bank:
        """Those of these frames that are kept, then the frames of `later`."""

        def joined(ours: Tensor, new: Tensor) -> Tensor:
            held = [ours] if len(kept) == len(ours) else [ours[t : t + 1] for t in kept]
            return torch.cat([*held, new])

        return Bank(
            joined(self.key, later.key),
            joined(self.squares, later.squares),
            joined(self.value, later.value),
        )


@dataclass(frozen=True)
class SpaceTimeState:
    """One bank per group of objects that began in the same frame, in slot order.

    age: frames since the memory was last written for good; temporary: the banks' last frame is
    there only until the next; size: (H, W) of the video.
    """

    banks: tuple[Bank, ...]
    age: int
    size: tuple[int, int]
    temporary: bool = False

    @property
    def objects(self) -> int:
        return sum(bank.value.shape[2] for bank in self.banks)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held: key, squares and value of each bank."""
        return tuple(x for bank in self.banks for x in (bank.key, bank.squares, bank.value))

    def holding(self, tensors: Sequence[Tensor]) -> SpaceTimeState:
        """This state with other `tensors`, in the order of its own."""
        starts = range(0, len(tensors), 3)
        return replace(self, banks=tuple(Bank(*tensors[i : i + 3]) for i in starts))


@dataclass(frozen=True)
class FrameFeatures:
    """A predicted frame as `commit` wants it: all padded to multiples of 16, batch of one."""

    frame: Tensor
    keys: KeyFeatures
    query: Tensor  # the key by rows (h*w, C_k), as it was matched
    probabilities: Tensor


class SpaceTimePropagator:
    """types.Propagator over a space-time memory: STCN's inference rules, and MobileVOS's queue.

    The first frame is always remembered, later ones every `mem_every`; with `include_last` the
    latest too, until the next one; a queue keeps the first and the latest. Objects that appear
    later start a bank of their own at their first frame. What is remembered of a given mask is its
    soft aggregate, as STCN's public code does.
    """

    def __init__(
        self,
        model: MemoryNetwork,
        *,
        mem_every: int,
        include_last: bool,
        top_k: int | None,
        queue: int | None,
    ) -> None:
        self.model = model
        self.mem_every = mem_every
        self.include_last = include_last
        self.top_k = top_k
        self.queue = queue

    def begin(self, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """frame (3, H, W) in [0, 1], ids (H, W) int64 with objects 1..K."""
        empty = SpaceTimeState((), 0, (frame.shape[1], frame.shape[2]))
        return self.add(empty, frame, ids)

    def predict(self, state: SpaceTimeState, frame: Tensor) -> Prediction:
        """Probabilities (K+1, H, W) of `frame` (3, H, W)."""
        padded = self._padded_frame(state, frame)
        keys = self.model.encode_key(padded)
        h16, w16 = keys.key.shape[2:]
        query = _rows(keys.key)
        reads = [
            read_memory(
                query,
                bank.key.flatten(0, 1),
                bank.squares.flatten(),
                bank.value.flatten(0, 1).flatten(1),
                self.top_k,
            )
            for bank in state.banks
        ]
        read = torch.cat(reads, 1).view(1, h16, w16, state.objects, -1)  # (1, h, w, K, C_v)
        logits, _ = self.model.decode(keys, read.permute(0, 3, 4, 1, 2))
        probabilities = compete(logits.sigmoid())  # (1, K+1, H', W')
        h, w = state.size
        left, _, top, _ = padding(h, w)
        return Prediction(
            probabilities[0, :, top : top + h, left : left + w],
            FrameFeatures(padded, keys, query, probabilities),
        )

    def commit(
        self, state: SpaceTimeState, prediction: Prediction, mask: Tensor | None = None
    ) -> SpaceTimeState:
        """Remembers the predicted frame where it is its turn; see types.Propagator."""
        temporary = state.age + 1 < self.mem_every
        if (temporary and not self.include_last) or self.queue == 1:
            return replace(state, age=state.age + 1)
        seen: FrameFeatures = prediction.features
        masks = seen.probabilities[:, 1:]
        if mask is not None:
            masks = self._padded_masks(state, mask, state.objects)
        return self._remember(state, seen.frame, seen.keys, seen.query, masks, temporary=temporary)

    def add(self, state: SpaceTimeState, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """Remembers `frame` with all objects of `ids` (H, W), new ones included; see
        types.Propagator."""
        objects = max(int(ids.max()), state.objects)
        if objects == 0:
            raise ValueError("ids hold no object: every pixel is 0")
        padded = self._padded_frame(state, frame)
        masks = self._padded_masks(state, ids, objects)
        keys = self.model.encode_key(padded)
        return self._remember(state, padded, keys, _rows(keys.key), masks)

    def _remember(
        self,
        state: SpaceTimeState,
        frame: Tensor,
        keys: KeyFeatures,
        query: Tensor,
        masks: Tensor,
        *,
        temporary: bool = False,
    ) -> SpaceTimeState:
        value = self.model.encode_value(frame, masks, keys.features.s16)  # (1, K, C_v, h, w)
        rows = value.permute(0, 3, 4, 1, 2).flatten(1, 2)  # (1, hw, K, C_v)
        key = query.unsqueeze(0)
        squares = key.square().sum(2)
        banks: list[Bank] = []
        done = 0
        for bank in state.banks:
            held, n = len(bank.key) - state.temporary, bank.value.shape[2]
            kept = kept_frames(held + 1, self.queue)[:-1]
            latest = Bank(key, squares, rows[:, :, done : done + n])
            banks.append(bank.then(latest, kept))
            done += n
        if done < masks.shape[1]:
            banks.append(Bank(key, squares, rows[:, :, done:].contiguous()))
        age = state.age + 1 if temporary else 0
        return SpaceTimeState(tuple(banks), age, state.size, temporary)

    def _padded_frame(self, state: SpaceTimeState, frame: Tensor) -> Tensor:
        """(3, H, W) -> (1, 3, H', W'), padded with the mean colour: zero once normalised."""
        h, w = state.size
        if frame.shape != (3, h, w):
            raise ValueError(f"frame of shape {tuple(frame.shape)}; this video's are (3, {h}, {w})")
        mean = self.model.mean
        left, right, top, bottom = padding(h, w)
        padded = mean.expand(3, top + h + bottom, left + w + right).clone()
        padded[:, top : top + h, left : left + w] = frame
        return padded.unsqueeze(0)

    def _padded_masks(self, state: SpaceTimeState, mask: Tensor, objects: int) -> Tensor:
        """ids (H, W) or soft (K+1, H, W) -> soft (1, K, H', W'), nothing in the padding."""
        h, w = state.size
        if mask.shape not in ((h, w), (objects + 1, h, w)):
            raise ValueError(
                f"mask of shape {tuple(mask.shape)}; ids are ({h}, {w}), soft masks "
                f"({objects + 1}, {h}, {w})"
            )
        mask = mask.to(self.model.mean.device)
        if mask.ndim == 3:
            return functional.pad(mask[1:].float(), padding(h, w)).unsqueeze(0)
        maps = functional.pad(one_hot(mask.unsqueeze(0), objects), padding(h, w))
        return compete(maps)[:, 1:]


def _rows(key: Tensor) -> Tensor:
    """(1, C, h, w) -> (h*w, C) float32: scores are differences of large numbers."""
    return key[0].flatten(1).T.float().contiguous()


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) to multiples of 16; the smaller half comes first, as in STCN."""
    over_h, over_w = -height % STRIDE, -width % STRIDE
    return (over_w // 2, over_w - over_w // 2, over_h // 2, over_h - over_h // 2)
