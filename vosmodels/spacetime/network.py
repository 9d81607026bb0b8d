"""Segment a clip by matching its frames with a memory of past frames and masks.

STCN and MobileVOS are both a `SpaceTimeNetwork`, which is assembled from parts and reads no
configuration; `stcn.py` and `mobilevos.py` choose the parts. `propagator.py` runs the network on
videos. h, w = H/16, W/16.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from vosmodels.backbones import IMAGENET_MEAN, IMAGENET_STD, KeyEncoder, ValueEncoder
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import ParameterKind, VideoModel
from vosmodels.spacetime.cuda_graph import GraphPropagator
from vosmodels.spacetime.decoder import Decoder
from vosmodels.spacetime.memory import TOP_K, affinity, aggregate, kept_frames, one_hot, readout
from vosmodels.spacetime.propagator import STRIDE, KeyFeatures, SpaceTimePropagator
from vosmodels.types import IGNORED, Clip, Features, StepOutput

MASK_STEMS = ("value_encoder.conv1.weight", "value_encoder.features.0.0.weight")


class KeyProjection(nn.Module):
    """A 3x3 convolution of s16 to the matching space, no activation      STCN, 3.2

    Orthogonal weights times `gain`, zero bias. A small gain makes the first affinities soft.
    """

    def __init__(self, in_channels: int, key_channels: int, gain: float) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(in_channels, key_channels, 3, padding=1)
        nn.init.orthogonal_(self.key_proj.weight, gain)
        nn.init.zeros_(self.key_proj.get_parameter("bias"))

    def forward(self, s16: Tensor) -> Tensor:
        """Project s16 (B, C_16, h, w) -> key (B, C_k, h, w)."""
        key: Tensor = self.key_proj(s16)
        return key


class SpaceTimeNetwork(VideoModel):
    """A network of key encoder, value encoder, memory read and decoder.

    memory: frames of a video that are remembered. In a training clip, whose frames lie apart, every
    frame counts as one of those that may stay, and the latest is always read.
    detach_feedback: no gradient through predicted masks that are fed back (STCN has the gradient).
    config: options that a checkpoint stores to rebuild the model; name: the model's registry name.
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
        memory: MemoryRule,
        detach_feedback: bool,
        config: BaseModel,
    ) -> None:
        super().__init__()
        self.key_encoder = key_encoder
        self.value_encoder = value_encoder
        self.key_proj = key_proj
        self.key_comp = key_comp
        self.decoder = decoder
        self.memory = memory
        self.detach_feedback = detach_feedback
        self.config = config
        self.name = type(self).__name__
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return self.key_proj.key_proj.weight.dtype

    @property
    def z_channels(self) -> int:
        """Return the number of channels of z."""
        return self.decoder.pred.in_channels

    def parameter_kinds(self) -> Mapping[str, ParameterKind]:
        """Name the key encoder's parameters, which see frames alone."""
        return dict.fromkeys(
            (f"key_encoder.{name}" for name, _ in self.key_encoder.named_parameters()), "encoder"
        )

    def adapt_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Grow the mask stem of weights that were trained without the other objects' mask.

        STCN's static-image weights have 4 input channels there; the fifth is filled with zeros, so
        that the model does what they did.
        """
        own, adapted = self.state_dict(), dict(tensors)
        for name in MASK_STEMS:
            stem, old = own.get(name), tensors.get(name)
            if stem is not None and old is not None and stem.ndim == old.ndim == 4:
                width, inputs = old.shape[:2]
                if (width, inputs + 1) == stem.shape[:2] and old.shape[2:] == stem.shape[2:]:
                    adapted[name] = torch.cat([old, torch.zeros_like(old[:, :1])], 1)
        return adapted

    def train(self, mode: bool = True) -> Self:
        """Set the mode as nn.Module does, but keep BatchNorm in eval mode, as STCN trains.

        BatchNorm's running statistics thus stay fixed; scale and shift are trained.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def encode_key(self, frames: Tensor) -> KeyFeatures:
        """Encode frames (B, 3, H, W) in [0, 1], H and W multiples of 16, for matching."""
        features: Features = self.key_encoder(self._normalised(frames))
        return KeyFeatures(features, self.key_proj(features.s16), self.key_comp(features.s16))

    def encode_value(self, frames: Tensor, masks: Tensor, s16: Tensor) -> Tensor:
        """Encode a frame and the masks of its N objects to memory values.

        frames (B, 3, H, W) in [0, 1], masks (B, N, H, W) soft, s16 (B, C_16, h, w)
        -> (B, N, C_v, h, w). The encoder sees an object's mask and the sum of the other N-1 masks.
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
        """Normalise frames by ImageNet's mean and deviation, in the weights' type."""
        return torch.addcmul(-self.mean / self.std, frames, 1 / self.std).to(self.dtype)

    def read(self, query_key: Tensor, memory_key: Tensor, memory_value: Tensor) -> Tensor:
        """Read the memory at the query frame's pixels.

        query_key (B, C_k, h, w), memory_key (B, C_k, T, h, w), memory_value (B, N, C_v, T, h, w)
        -> (B, N, C_v, h, w).
        """
        return readout(affinity(memory_key, query_key), memory_value)

    def decode(self, keys: KeyFeatures, read: Tensor) -> tuple[Tensor, Tensor]:
        """Decode a readout (B, N, C_v, h, w) to logits per object and z.

        Returns logits (B, N, H, W), not yet aggregated, and z (B, N, C_z, H/4, W/4).
        """
        thin = keys.thin.unsqueeze(1).expand(-1, read.shape[1], -1, -1, -1)
        x = torch.cat([read, thin], 2)  # (B, N, 2*C_v, h, w)
        logits, z = self.decoder(x, keys.features.s8, keys.features.s4)
        return logits, z

    def segment(
        self, keys: KeyFeatures, memory_key: Tensor, memory_value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read the memory and decode the readout; arguments and results as theirs."""
        return self.decode(keys, self.read(keys.key, memory_key, memory_value))

    def forward(self, clip: Clip, *, watch: Collection[str] = ()) -> StepOutput:
        """Segment a whole training clip; the mask of frame 0 is given, others predicted.

        Frame t reads the memory of earlier frames, whose values are encoded from the model's own
        soft masks. Slots absent from a clip have probability 0 and an empty mask. Raises ValueError
        unless H and W are multiples of 16 and T is at least 2, and on any name to watch.
        """
        return self.roll(clip, given_masks=False, watch=watch)

    def roll(self, clip: Clip, *, given_masks: bool, watch: Collection[str] = ()) -> StepOutput:
        """Segment a clip as `forward` does, with predicted or given masks in the memory.

        given_masks: encode the clip's own masks to memory values; where it has none the predicted
        ones.
        """
        self.check_watched(watch)
        b, t, _, h, w = clip.frames.shape
        if t < 2 or h % STRIDE or w % STRIDE:
            raise ValueError(
                f"a clip of {t} frames of {h}x{w}: a clip needs at least 2 frames, and sides "
                f"that are multiples of {STRIDE}"
            )
        selector = clip.present[:, :, None, None].to(clip.frames.dtype)
        keys = self.encode_key(clip.frames.flatten(0, 1))
        per_frame = [keys.frame(b, i) for i in range(t)]
        masks = one_hot(clip.masks[:, 0], clip.present.shape[1]) * selector
        values: list[Tensor] = []
        logits: list[Tensor] = []
        z: list[Tensor] = []
        for i in range(1, t):
            past = per_frame[i - 1]
            values.append(self.encode_value(clip.frames[:, i - 1], masks, past.features.s16))
            frames = kept_frames(len(values), self.memory.frames)
            memory_key = torch.stack([per_frame[k].key for k in frames], 2)
            memory_value = torch.stack([values[k] for k in frames], 3)
            object_logits, z_i = self.segment(per_frame[i], memory_key, memory_value)
            logits.append(aggregate(object_logits.sigmoid() * selector))
            z.append(z_i)
            predicted = logits[-1].softmax(1)[:, 1:] * selector
            masks = predicted.detach() if self.detach_feedback else predicted
            if given_masks:
                known = one_hot(clip.masks[:, i], clip.present.shape[1]) * selector
                masks = torch.where(clip.masks[:, i, None] == IGNORED, masks, known)
        return StepOutput(torch.stack(logits, 1), torch.stack(z, 1))

    def propagator(
        self,
        *,
        memory: MemoryRule | None = None,
        mem_every: int | None = None,
        include_last: bool | None = None,
        top_k: int | None = TOP_K,
        queue: int | Literal["all"] | None = None,
        graph: bool = False,
    ) -> SpaceTimePropagator | GraphPropagator:
        """Return a propagator, which runs the model on one video.

        memory: None for the model's own. An option left None takes the value of that rule, except
        top_k. mem_every (at least 1): every so many frames one enters the memory; include_last: the
        memory also holds the latest frame, until the next; top_k (at least 1): entries read per
        query, None reads all; queue (at least 1, or "all"): frames in the memory, the first of
        which stays; graph: run steps as a CUDA graph, for a model on a CUDA device whose memory
        does not grow. Raises ValueError on an option out of range.
        """
        rule = memory or self.memory
        queue = rule.frames if queue is None else None if queue == "all" else queue
        mem_every = rule.every if mem_every is None else mem_every
        limits = (("mem_every", mem_every, 1), ("top_k", top_k, 1), ("queue", queue, 1))
        for option, value, least in limits:
            if value is not None and value < least:
                raise ValueError(f"{option}={value}: at least {least}")
        if graph and not self.mean.is_cuda:
            raise ValueError(f"graph=True on {self.mean.device}: put the model on a CUDA device")
        if include_last is None:
            include_last = rule.last and rule.every > 1
        propagator = SpaceTimePropagator(
            self,
            mem_every=mem_every,
            include_last=include_last,
            top_k=top_k,
            queue=queue,
        )
        return GraphPropagator(propagator) if graph else propagator
