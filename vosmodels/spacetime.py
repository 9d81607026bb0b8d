"""What STCN and MobileVOS share: a network that reads masks out of a memory of past frames.

`SpaceTimeNetwork` is put together from parts and reads no configuration; `stcn.py` and
`mobilevos.py` choose the parts. `SpaceTimePropagator` runs it on videos. h, w = H/16, W/16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.backbones import KeyEncoder, ValueEncoder
from vosmodels.decoder import Decoder
from vosmodels.memory import affinity, aggregate, compete, kept_frames, read_memory, readout
from vosmodels.types import Clip, Features, Prediction, StepOutput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIDE = 16
TOP_K = 20  # memory entries read per query at inference, as in STCN's public code


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


class KeyProjection(nn.Module):
    """conv3x3 from s16 to the matching space; no norm, no activation.      STCN, section 3.2

    Orthogonal weights times `gain`, zero bias. A small gain makes the first affinities soft.
    """

    def __init__(self, in_channels: int, key_channels: int, gain: float) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(in_channels, key_channels, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight, gain)
        nn.init.zeros_(self.key_proj.get_parameter("bias"))

    def forward(self, s16: Tensor) -> Tensor:
        """(B, C_16, h, w) -> (B, C_k, h, w)."""
        key: Tensor = self.key_proj(s16)
        return key


class SpaceTimeNetwork(nn.Module):
    """Key encoder, value encoder, memory read, decoder.

    queue: memory length in frames, first frame pinned; None remembers every frame.
    mem_every: at inference every so many frames enter the memory; include_last: the latest frame
    is there as well, until the next.
    detach_feedback: no gradient through predicted masks that are fed back (STCN: it flows).
    config: what a checkpoint stores to build this model again; name: its name in the registry.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        key_encoder: KeyEncoder,
        key_proj: KeyProjection,
        key_comp: nn.Conv2d,
        value_encoder: ValueEncoder,
        decoder: Decoder,
        queue: int | None,
        mem_every: int,
        include_last: bool = False,
        detach_feedback: bool,
        config: BaseModel,
    ) -> None:
        super().__init__()
        self.key_encoder = key_encoder
        self.value_encoder = value_encoder
        self.key_proj = key_proj
        self.key_comp = key_comp
        self.decoder = decoder
        self.queue = queue
        self.mem_every = mem_every
        self.include_last = include_last
        self.detach_feedback = detach_feedback
        self.config = config
        self.name = type(self).__name__
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.key_proj.key_proj.weight.dtype

    @property
    def z_channels(self) -> int:
        """Width of z."""
        return self.decoder.pred.in_channels

    def train(self, mode: bool = True) -> Self:
        """As nn.Module, but BatchNorm keeps its statistics: STCN trains it in eval mode.

        Its scale and shift are optimised like every other parameter.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """frames (B, 3, H, W) in [0, 1], H and W multiples of 16 -> KeyFeatures."""
        features: Features = self.key_encoder(self._normalised(frames))
        return KeyFeatures(features, self.key_proj(features.s16), self.key_comp(features.s16))

    def encode_value(self, frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        """The memory value of N objects of a frame.

        frames (B, 3, H, W) in [0, 1], masks (B, N, H, W) soft, s16 (B, C_16, h, w)
        -> (B, N, C_v, h, w). An object's second mask is the sum of the other N-1.
        """
        n = masks.shape[1]
        x = masks.unsqueeze(2)
        if self.value_encoder.sees_others:
            others = masks.sum(1, keepdim=True) - masks
            x = torch.stack([masks, others], 2)  # (B, N, 2, H, W)
        if self.value_encoder.sees_frame:
            rgb = self._normalised(frames).unsqueeze(1).expand(-1, n, -1, -1, -1)
            x = torch.cat([rgb, x.to(rgb)], 2)
        key = s16.unsqueeze(1).expand(-1, n, -1, -1, -1)
        value: Tensor = self.value_encoder(x.flatten(0, 1).to(self.dtype), key.flatten(0, 1))
        return value.view(*masks.shape[:2], *value.shape[1:])

    def _normalised(self, frames: Tensor) -> Tensor:
        """Frames as the encoders were made for them, in the weights' type."""
        return torch.addcmul(-self.mean / self.std, frames, 1 / self.std).to(self.dtype)

    def read(self, query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
        """memory_key (B, C_k, T, h, w), memory_value (B, N, C_v, T, h, w) -> (B, N, C_v, h, w)."""
        return readout(affinity(memory_key, query_key), memory_value)

    def decode(self, keys: KeyFeatures, read: Tensor) -> tuple[Tensor, Tensor]:
        """read (B, N, C_v, h, w) -> logits per object (B, N, H, W), z (B, N, C_z, H/4, W/4)."""
        thin = keys.thin.unsqueeze(1).expand(-1, read.shape[1], -1, -1, -1)
        x = torch.cat([read, thin], 2)  # (B, N, 2*C_v, h, w)
        logits, z = self.decoder(x, keys.features.s8, keys.features.s4)
        return logits, z

    def segment(
        self, keys: KeyFeatures, memory_key: Tensor, memory_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`decode` of what `read` finds: independent object logits, not yet aggregated, and z."""
        return self.decode(keys, self.read(keys.key, memory_key, memory_value))

    def forward(self, clip: Clip) -> StepOutput:
        """A whole training clip. Frame 0's mask is given; every later one is predicted.

        Frame t reads the memory of frames before it, whose values are made of the model's own soft
        masks. Slots absent from a clip have probability 0 and feed empty masks. H and W must be
        multiples of 16, T at least 2.
        """
        return self.roll(clip, given_masks=False)

    def roll(self, clip: Clip, *, given_masks: bool) -> StepOutput:
        """`forward`; with `given_masks` the memory is made of the clip's masks, not of its own."""
        b, t, _, h, w = clip.frames.shape
        if t < 2 or h % STRIDE or w % STRIDE:
            raise ValueError(
                f"a clip of {t} frames of {h}x{w}: it takes 2 frames or more, and sides that are "
                f"multiples of {STRIDE}"
            )
        selector = clip.present[:, :, None, None].to(clip.frames.dtype)
        keys = self.encode_key(clip.frames.flatten(0, 1))
        per_frame = [keys.frame(b, i) for i in range(t)]
        masks = _one_hot(clip.masks[:, 0], clip.present.shape[1]) * selector
        values: list[Tensor] = []
        logits: list[Tensor] = []
        z: list[Tensor] = []
        for i in range(1, t):
            past = per_frame[i - 1]
            values.append(self.encode_value(clip.frames[:, i - 1], masks, past.features.s16))
            kept = kept_frames(len(values), self.queue)
            memory_key = torch.stack([per_frame[k].key for k in kept], 2)
            memory_value = torch.stack([values[k] for k in kept], 3)
            object_logits, z_i = self.segment(per_frame[i], memory_key, memory_value)
            logits.append(aggregate(object_logits.sigmoid() * selector))
            z.append(z_i)
            if given_masks:
                masks = _one_hot(clip.masks[:, i], clip.present.shape[1]) * selector
            else:
                masks = logits[-1].softmax(1)[:, 1:] * selector
                masks = masks.detach() if self.detach_feedback else masks
        return StepOutput(torch.stack(logits, 1), torch.stack(z, 1))

    def propagator(
        self,
        *,
        mem_every: int | None = None,
        include_last: bool | None = None,
        top_k: int | None = TOP_K,
        queue: int | Literal["all"] | None = None,
    ) -> SpaceTimePropagator:
        """The model on one video; None is the model's own, but for top_k: None reads everything.

        mem_every (at least 1): so many frames apart they enter the memory; include_last: between
        them the latest is there too, until the next; top_k (at least 1): entries read a query;
        queue (at least 1, or "all"): frames remembered, the first for good; of one, it alone.
        """
        queue = self.queue if queue is None else None if queue == "all" else queue
        mem_every = self.mem_every if mem_every is None else mem_every
        limits = (("mem_every", mem_every, 1), ("top_k", top_k, 1), ("queue", queue, 1))
        for option, value, least in limits:
            if value is not None and value < least:
                raise ValueError(f"{option}={value}: at least {least}")
        return SpaceTimePropagator(
            self,
            mem_every=mem_every,
            include_last=self.include_last if include_last is None else include_last,
            top_k=top_k,
            queue=queue,
        )


def _one_hot(ids: Tensor, objects: int) -> Tensor:
    """ids (B, H, W) -> (B, objects, H, W) float, background left out."""
    slots = torch.arange(1, objects + 1, device=ids.device).view(1, -1, 1, 1)
    return (ids.unsqueeze(1) == slots).float()


@dataclass(frozen=True)
class Bank:
    """Memory of n objects that began together, one row a position: key (T, h*w, C_k) and squares
    (T, h*w) = |key|^2, both float32; value (T, h*w, n, C_v)."""

    key: Tensor
    squares: Tensor
    value: Tensor

    def kept(self, frames: list[int]) -> Bank:
        """Only those frames."""
        if len(frames) == len(self.key):
            return self
        return Bank(self.key[frames], self.squares[frames], self.value[frames])

    def joined(self, later: Bank) -> Bank:
        """These frames, then those of `later`."""
        pairs = ((getattr(self, n), getattr(later, n)) for n in ("key", "squares", "value"))
        return Bank(*(torch.cat(pair) for pair in pairs))


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
        model: SpaceTimeNetwork,
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
            banks.append(bank.kept(kept).joined(latest))
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
        one_hot = functional.pad(_one_hot(mask.unsqueeze(0), objects), padding(h, w))
        return compete(one_hot)[:, 1:]


def _rows(key: Tensor) -> Tensor:
    """(1, C, h, w) -> (h*w, C) float32: scores are differences of large numbers."""
    return key[0].flatten(1).T.float().contiguous()


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) to multiples of 16; the smaller half comes first, as in STCN."""
    over_h, over_w = -height % STRIDE, -width % STRIDE
    return (over_w // 2, over_w - over_w // 2, over_h // 2, over_h - over_h // 2)
