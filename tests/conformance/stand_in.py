"""A model of another family than STCN's, as small as can be, for what must hold of any family."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel
from vosmodels.registry import Entry
from vosmodels.types import Clip, Prediction, StepOutput, Watched

NAME = "stand_in"
SLOTS = 4  # objects that its embedding of identities knows
SIDE = 16


class StandInConfig(BaseModel, frozen=True, extra="forbid"):
    """Options of the stand-in."""

    channels: int = 8
    drop: float = 0.1
    layers: int = 1  # attentions, one after the other


def watchable(config: StandInConfig) -> tuple[str, ...]:
    """Names of the intermediates that the model of a config can return."""
    parts = ("visual", "id", "output", "weights")
    return tuple(f"self.{part}.{n + 1}" for n in range(config.layers) for part in parts)


class Attention(nn.Module):
    """Self-attention with one matrix of weights for two streams: colours and identities."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key = nn.Linear(channels, channels)
        self.visual = nn.Linear(channels, channels)
        self.id = nn.Linear(SLOTS, channels)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """x (B, HW, C), ids (B, HW, SLOTS) -> the parts by name, (B, HW, ...)."""
        key = self.key(x)
        weights = (key @ key.mT / key.shape[-1] ** 0.5).softmax(-1)
        parts = {"visual": weights @ self.visual(x), "id": weights @ self.id(ids)}
        return {**parts, "output": torch.cat(list(parts.values()), -1), "weights": weights}


class FrozenNorm(nn.Module):
    """A BatchNorm of buffers alone, as detection networks freeze theirs."""

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((channels, 1, 1), 1.5))
        self.register_buffer("shift", torch.full((channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


@dataclass(frozen=True)
class StandInState:
    """The masks of the frame before, (1, N, H, W), and the size of the video."""

    masks: Tensor
    objects: int
    size: tuple[int, int]


class StandIn(VideoModel):
    """Predicts a frame from its colours and the masks before it, all objects at once.

    Pads to sides of 16 k + 1, has no feature map per object, attentions at stride 16, a parameter
    that nothing reads, dropout, and a norm without parameters.
    """

    mean: Tensor

    def __init__(self, config: StandInConfig) -> None:
        super().__init__()
        self.config = config
        self.name = NAME
        self.memory = MemoryRule()
        self.options = config
        self.stem = nn.Conv2d(3 + SLOTS, config.channels, 3, padding=1)
        self.norm = FrozenNorm(config.channels)
        self.dropout = nn.Dropout(config.drop)
        self.attentions = nn.ModuleList(Attention(config.channels) for _ in range(config.layers))
        self.head = nn.Conv2d(config.channels, SLOTS + 1, 3, padding=1)
        self.unread = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.full((3, 1, 1), 0.45), persistent=False)

    @property
    def skips_parameters(self) -> bool:
        return True

    @property
    def watchable(self) -> tuple[str, ...]:
        return watchable(self.options)

    def logits(self, frame: Tensor, masks: Tensor) -> Tensor:
        """frame (B, 3, H, W), masks (B, N, H, W) -> (B, N+1, H, W)."""
        return self.step(frame, masks)[0]

    def step(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Do as `logits`; return the intermediates by name too, (B, HW, ...)."""
        n = masks.shape[1]
        slots = functional.pad(masks, (0, 0, 0, 0, 0, SLOTS - n))
        # Inputs come as float32; a copy for inference may hold another type.
        x = torch.cat([frame - self.mean, slots], 1).to(self.stem.weight.dtype)
        hidden = self.dropout(functional.relu(self.norm(self.stem(x))))
        tokens, ids = (y[..., ::SIDE, ::SIDE].flatten(2).mT for y in (hidden, slots.to(x)))
        seen: dict[str, Tensor] = {}
        for layer, attention in enumerate(self.attentions):
            parts = attention(tokens, ids)
            tokens = tokens + parts["visual"] + parts["id"]
            seen |= {f"self.{part}.{layer + 1}": value for part, value in parts.items()}
        coarse = tokens.mT.unflatten(2, hidden[..., ::SIDE, ::SIDE].shape[2:])
        out: Tensor = self.head(hidden + functional.interpolate(coarse, hidden.shape[2:])).float()
        return out[:, : n + 1], seen

    def forward(self, clip: Clip, *, watch: Collection[str] = ()) -> StepOutput:
        return self.roll(clip, given_masks=False, watch=watch)

    def roll(self, clip: Clip, *, given_masks: bool, watch: Collection[str] = ()) -> StepOutput:
        self.check_watched(watch)
        if any(side % SIDE != 1 for side in clip.frames.shape[-2:]):
            raise ValueError(f"a clip of {tuple(clip.frames.shape)}: sides are 16 k + 1")
        n = clip.present.shape[1]
        masks, logits, seen = _planes(clip.masks[:, 0], n), [], []
        for t in range(1, clip.frames.shape[1]):
            predicted, parts = self.step(clip.frames[:, t], masks)
            logits.append(predicted)
            seen.append(parts)
            masks = logits[-1].softmax(1)[:, 1:]
            if given_masks:
                masks = _planes(clip.masks[:, t], n)
        named = {name: torch.stack([parts[name] for parts in seen], 1) for name in watch}
        return StepOutput(torch.stack(logits, 1), None, named)

    def propagator(self, *args: Any, **options: Any) -> StandInPropagator:
        if args or options:
            raise ValueError(f"{NAME} has no options, got {args} {options}")
        return StandInPropagator(self)


class StandInPropagator:
    """types.Propagator of the stand-in: remembers the latest masks alone."""

    def __init__(self, model: StandIn) -> None:
        self.model = model

    def begin(self, frame: Tensor, ids: Tensor) -> StandInState:
        empty = StandInState(torch.zeros(1, 0, *ids.shape), 0, (ids.shape[0], ids.shape[1]))
        return self.add(empty, frame, ids)

    def predict(
        self, state: StandInState, frame: Tensor, *, watch: Collection[str] = ()
    ) -> Prediction:
        h, w = state.size
        if frame.shape != (3, h, w):
            raise ValueError(f"frame of shape {tuple(frame.shape)}; this video's are (3, {h}, {w})")
        pad = (0, (1 - w) % SIDE, 0, (1 - h) % SIDE)
        padded = functional.pad(frame, pad)[None]
        logits, parts = self.model.step(padded, functional.pad(state.masks.to(frame), pad))
        named = {name: parts[name][0] for name in watch}
        size = (-(-padded.shape[2] // SIDE), -(-padded.shape[3] // SIDE))
        watched = Watched(named, size, range(1, state.objects + 1), ())
        return Prediction(logits.softmax(1)[0, :, :h, :w], None, [watched] if watch else ())

    def commit(
        self, state: StandInState, prediction: Prediction, mask: Tensor | None = None
    ) -> StandInState:
        h, w = state.size
        if mask is None:
            return replace(state, masks=prediction.probabilities[None, 1:])
        if mask.shape not in ((h, w), (state.objects + 1, h, w)):
            raise ValueError(f"mask of shape {tuple(mask.shape)}; this video's are ({h}, {w})")
        soft = mask[None, 1:].float() if mask.ndim == 3 else _planes(mask[None], state.objects)
        return replace(state, masks=soft)

    def add(self, state: StandInState, frame: Tensor, ids: Tensor) -> StandInState:
        objects = max(int(ids.max()), state.objects)
        if objects == 0:
            raise ValueError("ids hold no object: every pixel is 0")
        return StandInState(_planes(ids[None], objects), objects, state.size)


def _planes(ids: Tensor, objects: int) -> Tensor:
    """ids (B, H, W) -> (B, N, H, W) of 0 and 1."""
    return torch.stack([(ids == i).float() for i in range(1, objects + 1)], 1)


ENTRY = Entry(StandInConfig, {}, StandIn, side=1, features=False, watchable=watchable)
