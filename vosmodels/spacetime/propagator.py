"""Run a space-time network on one video by the memory rules of STCN's inference.

The network is any implementation of `MemoryNetwork`; h, w = H/16, W/16.
"""

from __future__ import annotations

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
    """The encoding of a frame, shared by all objects.

    features: the pyramid; key (B, C_k, h, w): matched with the memory; thin (B, C_v, h, w): key
    features that the decoder reads beside the readout.
    """

    features: Features
    key: Tensor
    thin: Tensor

    def frame(self, clips: int, index: int) -> KeyFeatures:
        """Return frame `index` of each clip, for a batch that is (clips, T) flattened."""

        def pick(x: Tensor) -> Tensor:
            return x.view(clips, -1, *x.shape[1:])[:, index]

        f = self.features
        pyramid = Features(pick(f.s4), pick(f.s8), pick(f.s16))
        return KeyFeatures(pyramid, pick(self.key), pick(self.thin))


class MemoryNetwork(Protocol):
    """The part of `SpaceTimeNetwork` that the propagator uses."""

    @property
    def mean(self) -> Tensor:
        """Return the colour (3, 1, 1) that normalisation makes zero."""
        ...

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """Encode frames (B, 3, H, W) in [0, 1], H and W multiples of 16, for matching."""
        ...

    def encode_value(self, frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        """Encode frames and their soft masks to memory values (B, N, C_v, h, w).

        frames (B, 3, H, W), masks (B, N, H, W), s16 (B, C_16, h, w) of the frames' KeyFeatures.
        """
        ...

    def decode(self, keys: KeyFeatures, read: Tensor) -> tuple[Tensor, Tensor]:
        """Decode a readout (B, N, C_v, h, w) to logits per object (B, N, H, W), and z.

        The propagator ignores z.
        """
        ...


@dataclass(frozen=True)
class Bank:
    """The memory of n objects that began in the same frame, one row per position.

    key (T, h*w, C_k) and squares (T, h*w) = |key|^2, both float32; value (T, h*w, n, C_v).
    """

    key: Tensor
    squares: Tensor
    value: Tensor

    def then(self, later: Bank, kept: list[int]) -> Bank:
        """Return a bank of this bank's frames `kept`, followed by the frames of `later`."""

        def joined(ours: Tensor, new: Tensor) -> Tensor:
            frames = [ours] if len(kept) == len(ours) else [ours[t : t + 1] for t in kept]
            return torch.cat([*frames, new])

        return Bank(
            joined(self.key, later.key),
            joined(self.squares, later.squares),
            joined(self.value, later.value),
        )


@dataclass(frozen=True)
class SpaceTimeState:
    """The state of a video: a bank per group of objects that began in the same frame.

    banks: in slot order; age: frames since the last permanent write to the memory; temporary: the
    next write replaces the banks' last frame; size: (H, W) of the video.
    """

    banks: tuple[Bank, ...]
    age: int
    size: tuple[int, int]
    temporary: bool = False

    @property
    def objects(self) -> int:
        """Count the objects of all banks."""
        return sum(bank.value.shape[2] for bank in self.banks)


@dataclass(frozen=True)
class FrameFeatures:
    """The encodings of a predicted frame that `commit` reuses.

    All have batch size 1 and are padded to multiples of 16.
    """

    frame: Tensor
    keys: KeyFeatures
    query: Tensor  # the key as rows (h*w, C_k) float32
    probabilities: Tensor


class SpaceTimePropagator:
    """A types.Propagator with STCN's memory rules and MobileVOS's queue.

    The memory holds the first frame and every `mem_every`-th later one; with `include_last` also
    the latest frame, until the next. A queue keeps the first frame and the latest ones. Objects
    that appear later start their own bank at their first frame. A given mask is softly aggregated
    before it is encoded, as in STCN's public code.
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
        """Start a video with its first frame and mask.

        frame (3, H, W) in [0, 1], ids (H, W) int64 with objects 1..K. Raises ValueError if ids hold
        no object.
        """
        empty = SpaceTimeState((), 0, (frame.shape[1], frame.shape[2]))
        return self.add(empty, frame, ids)

    def predict(self, state: SpaceTimeState, frame: Tensor) -> Prediction:
        """Predict the probabilities (K+1, H, W) of `frame` (3, H, W) in [0, 1]."""
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
        x0, _, y0, _ = padding(h, w)
        return Prediction(
            probabilities[0, :, y0 : y0 + h, x0 : x0 + w],
            FrameFeatures(padded, keys, query, probabilities),
        )

    def commit(
        self, state: SpaceTimeState, prediction: Prediction, mask: Tensor | None = None
    ) -> SpaceTimeState:
        """Write the predicted frame to the memory if it is due; see types.Propagator.

        A frame is due every `mem_every` frames, with `include_last` always.
        """
        if not self._due(state):
            return replace(state, age=state.age + 1)
        coded: FrameFeatures = prediction.features
        masks = coded.probabilities[:, 1:]
        if mask is not None:
            masks = self._padded_masks(state, mask, state.objects)
        return self.keep(state, coded.query, self._value(coded.frame, masks, coded.keys))

    def keep(self, state: SpaceTimeState, key: Tensor, value: Tensor) -> SpaceTimeState:
        """Write the encodings of a predicted frame to the memory if it is due, as `commit` does.

        key: rows (h*w, C_k) float32; value: rows (K, h*w, C_v) of the state's objects.
        """
        if not self._due(state):
            return replace(state, age=state.age + 1)
        return self._remember(state, key, value, temporary=state.age + 1 < self.mem_every)

    def add(self, state: SpaceTimeState, frame: Tensor, ids: Tensor) -> SpaceTimeState:
        """Write `frame` to the memory with all objects of `ids` (H, W), new ones included.

        See types.Propagator. Raises ValueError if ids hold no object.
        """
        objects = max(int(ids.max()), state.objects)
        if objects == 0:
            raise ValueError("ids hold no object: every pixel is 0")
        padded = self._padded_frame(state, frame)
        masks = self._padded_masks(state, ids, objects)
        keys = self.model.encode_key(padded)
        return self._remember(state, _rows(keys.key), self._value(padded, masks, keys))

    def check_frame(self, state: SpaceTimeState, frame: Tensor) -> None:
        """Raise ValueError unless `frame` has the size of the state's video."""
        h, w = state.size
        if frame.shape != (3, h, w):
            raise ValueError(f"frame of shape {tuple(frame.shape)}; this video's are (3, {h}, {w})")

    def _due(self, state: SpaceTimeState) -> bool:
        """Tell whether the next predicted frame is written."""
        return self.queue != 1 and (self.include_last or state.age + 1 >= self.mem_every)

    def _value(self, frame: Tensor, masks: Tensor, keys: KeyFeatures) -> Tensor:
        """Encode soft masks (1, K, H', W') of a padded frame to rows (K, h*w, C_v)."""
        value = self.model.encode_value(frame, masks, keys.features.s16)[0]  # (K, C_v, h, w)
        return value.flatten(2).transpose(1, 2)

    def _remember(
        self, state: SpaceTimeState, query: Tensor, value: Tensor, *, temporary: bool = False
    ) -> SpaceTimeState:
        rows = value.transpose(0, 1).contiguous().unsqueeze(0)  # (1, hw, K, C_v)
        key = query.unsqueeze(0)
        squares = key.square().sum(2)
        banks: list[Bank] = []
        done = 0
        for bank in state.banks:
            permanent, n = len(bank.key) - state.temporary, bank.value.shape[2]
            frames = kept_frames(permanent + 1, self.queue)[:-1]
            latest = Bank(key, squares, rows[:, :, done : done + n])
            banks.append(bank.then(latest, frames))
            done += n
        if done < len(value):
            banks.append(Bank(key, squares, rows[:, :, done:].contiguous()))
        age = state.age + 1 if temporary else 0
        return SpaceTimeState(tuple(banks), age, state.size, temporary)

    def _padded_frame(self, state: SpaceTimeState, frame: Tensor) -> Tensor:
        """Pad a frame (3, H, W) -> (1, 3, H', W') with the mean colour, normalised zero."""
        self.check_frame(state, frame)
        h, w = state.size
        mean = self.model.mean
        x0, right, y0, bottom = padding(h, w)
        padded = mean.expand(3, y0 + h + bottom, x0 + w + right).clone()
        padded[:, y0 : y0 + h, x0 : x0 + w] = frame
        return padded.unsqueeze(0)

    def _padded_masks(self, state: SpaceTimeState, mask: Tensor, objects: int) -> Tensor:
        """Pad ids (H, W) or soft masks (K+1, H, W) with 0 to soft masks (1, K, H', W')."""
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
    """Reshape a key (1, C, h, w) to rows (h*w, C), in float32.

    Scores are differences of large numbers, which half precision would round too much.
    """
    return key[0].flatten(1).T.float().contiguous()


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the padding (left, right, top, bottom) to multiples of 16.

    Of an odd amount the smaller half comes first, as in STCN.
    """
    over_h, over_w = -height % STRIDE, -width % STRIDE
    return (over_w // 2, over_w - over_w // 2, over_h // 2, over_h - over_h // 2)
