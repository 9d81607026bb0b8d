"""Run AOT or DeAOT on one video by the memory rules of the public code.

The long-term memory holds reference frames, whose masks were given, and every `mem_every`-th later
one; the short-term memory holds the latest frame. More objects than the identity bank has are
segmented by several passes, whose probabilities are merged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vosmodels.aot.configs import AOTConfig, DeAOTConfig, check_reads_latest
from vosmodels.aot.decoder import resized
from vosmodels.aot.encoder import Encoded
from vosmodels.aot.propagation import LayerMemory, Propagated, Unfused, Watch
from vosmodels.memory_rule import MemoryRule
from vosmodels.support.channels import best
from vosmodels.types import Prediction, Watched

STRIDE = 16
LEAST = 1e-5  # probability to which those of several passes are clamped


class IdentityNetwork(Protocol):
    """The part of `AOTNetwork` that the propagator uses."""

    config: AOTConfig | DeAOTConfig
    mean: Tensor

    def encode(self, frames: Tensor) -> Encoded:
        """Encode frames (B, 3, H, W) in [0, 1], sides 16 k + 1."""
        ...

    def embed(self, masks: Tensor) -> Tensor:
        """Embed one-hot masks (B, 1 + ids, H, W) to tokens (B, hw, C)."""
        ...

    def identities(self, ids: Tensor, places: Tensor) -> Tensor:
        """Convert ids (B, H, W) to one-hot masks (B, 1 + ids, H, W)."""
        ...

    def propagate(
        self,
        encoded: Encoded,
        long: Sequence[LayerMemory] | None = None,
        short: Sequence[LayerMemory] | None = None,
        *,
        embedding: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Propagated:
        """Segment a frame from its memories, or with `embedding` as a reference from itself."""
        ...

    def remember(self, frames: Sequence[Unfused], embedding: Tensor) -> tuple[LayerMemory, ...]:
        """Fuse what each layer met of a frame with its identities' embedding (B, hw, C)."""
        ...


@dataclass(frozen=True)
class Pass:
    """The memory of up to as many objects as the identity bank has.

    long: per layer, reference frames first; short: per layer, the latest frame; objects: how many;
    references: reference frames in `long`; age: frames since the latest write to `long`; held:
    numbers of the frames in `long`.
    """

    long: tuple[LayerMemory, ...]
    short: tuple[LayerMemory, ...]
    objects: int
    references: int
    age: int
    held: tuple[int, ...]


@dataclass(frozen=True)
class AOTState:
    """The state of a video: its passes in the order of objects, and its size (H, W).

    frames: how many it has had, which is the number of the next.
    """

    passes: tuple[Pass, ...]
    size: tuple[int, int]
    frames: int = 0

    @property
    def objects(self) -> int:
        """Count the objects of all passes."""
        return sum(part.objects for part in self.passes)


@dataclass(frozen=True)
class FrameResult:
    """The results of a predicted frame that `commit` reuses.

    frames: of each pass, what its layers would remember; logits (1, K+1, H, W).
    """

    frames: tuple[list[Unfused], ...]
    logits: Tensor


class AOTPropagator:
    """A types.Propagator with the memory rules of public AOT code.

    mem_every: every so many frames one stays in the long-term memory, None for reference frames
    alone; queue: most frames in it, of which reference frames always stay; None for no end.
    Predicted masks enter the memory as ids, not as probabilities. Frames are resized to sides of
    16 k + 1, the nearest that are, and at most `long_edge`.
    """

    def __init__(self, model: IdentityNetwork, *, mem_every: int | None, queue: int | None) -> None:
        self.model = model
        self.bank = model.config.objects
        self.mem_every = mem_every
        self.queue = queue

    @classmethod
    def of(
        cls,
        model: IdentityNetwork,
        *,
        memory: MemoryRule | None = None,
        mem_every: int | Literal["never"] | None = None,
        queue: int | Literal["all"] | None = None,
    ) -> AOTPropagator:
        """Build a propagator; an option left None is that of the rule, a rule the model's own.

        Raises ValueError on an option out of range.
        """
        rule = memory or model.config.rule
        check_reads_latest(rule)
        for option, given in (("mem_every", mem_every), ("queue", queue)):
            if isinstance(given, int) and given < 1:
                raise ValueError(f"{option}={given}: at least 1")
        every = rule.every if rule.older != 0 else None
        most = rule.older + 1 if rule.older else None
        return cls(
            model,
            mem_every=every if mem_every is None else None if mem_every == "never" else mem_every,
            queue=most if queue is None else None if queue == "all" else queue,
        )

    def begin(self, frame: Tensor, ids: Tensor) -> AOTState:
        """Start a video with its first frame and mask.

        frame (3, H, W) in [0, 1], ids (H, W) int64 with objects 1..K. Raises ValueError if ids hold
        no object.
        """
        return self.add(AOTState((), (frame.shape[1], frame.shape[2])), frame, ids)

    def predict(self, state: AOTState, frame: Tensor, *, watch: Collection[str] = ()) -> Prediction:
        """Predict the probabilities (K+1, H, W) of `frame` (3, H, W) in [0, 1].

        watch: names of attentions' intermediates, returned in `Prediction.watched`.
        """
        encoded = self.model.encode(self._resized_frame(state, frame))
        watches = [Watch(watch) for _ in state.passes]
        results = [
            self.model.propagate(encoded, part.long, part.short, watch=seen)
            for part, seen in zip(state.passes, watches, strict=True)
        ]
        logits = merged(
            [
                resized(result.logits[:, : 1 + part.objects].float(), state.size)
                for result, part in zip(results, state.passes, strict=True)
            ]
        )
        features = FrameResult(tuple(result.frames for result in results), logits)
        watched = [
            Watched(
                {name: tensor[0] for name, tensor in seen.tensors.items()},
                encoded.size,
                range(1 + index * self.bank, 1 + index * self.bank + part.objects),
                part.held,
            )
            for index, (part, seen) in enumerate(zip(state.passes, watches, strict=True))
        ]
        return Prediction(logits.softmax(1)[0], features, watched if watch else ())

    def commit(
        self, state: AOTState, prediction: Prediction, mask: Tensor | None = None
    ) -> AOTState:
        """Write the predicted frame to the memory; see types.Propagator."""
        coded: FrameResult = prediction.features
        h, w = state.size
        if mask is None:
            mask = prediction.probabilities
        elif mask.shape not in ((h, w), (state.objects + 1, h, w)):
            raise ValueError(
                f"mask of shape {tuple(mask.shape)}; ids are ({h}, {w}), soft masks "
                f"({state.objects + 1}, {h}, {w})"
            )
        ids = self._resized_ids(mask if mask.ndim == 2 else best(mask))
        passes = [
            self._followed(part, frames, self._embedding(ids, index), state.frames)
            for index, (part, frames) in enumerate(zip(state.passes, coded.frames, strict=True))
        ]
        return replace(state, passes=tuple(passes), frames=state.frames + 1)

    def add(self, state: AOTState, frame: Tensor, ids: Tensor) -> AOTState:
        """Make `frame` a reference frame of the objects of `ids` (H, W), new ones included.

        A pass that gets no new object takes the mask as its latest frame alone where another pass
        does get one, as in the public code. Raises ValueError if ids hold no object.
        """
        objects = max(int(ids.max()), state.objects)
        if objects == 0:
            raise ValueError("ids hold no object: every pixel is 0")
        encoded = self.model.encode(self._resized_frame(state, frame))
        small = self._resized_ids(ids)
        passes = []
        for index in range(-(-objects // self.bank)):
            count = min(objects - index * self.bank, self.bank)
            embedding = self._embedding(small, index)
            part = state.passes[index] if index < len(state.passes) else None
            if part is not None and part.objects == count and objects > state.objects:
                result = self.model.propagate(encoded, part.long, part.short)
                passes.append(self._followed(part, result.frames, embedding, state.frames))
                continue
            result = self.model.propagate(encoded, embedding=embedding)
            own = self.model.remember(result.frames, embedding)
            passes.append(self._referenced(part, own, count, state.frames))
        return replace(state, passes=tuple(passes), frames=state.frames + 1)

    def _referenced(
        self, part: Pass | None, own: tuple[LayerMemory, ...], objects: int, number: int
    ) -> Pass:
        """Return a pass with a further reference frame, or a new pass that begins with it."""
        if part is None:
            return Pass(own, own, objects, references=1, age=0, held=(number,))
        tokens = own[0].key.shape[1]
        pinned = part.references * tokens
        pairs = zip(part.long, own, strict=True)
        long = [old.first(pinned).then(new).then(old.after(pinned)) for old, new in pairs]
        held = (*part.held[: part.references], number, *part.held[part.references :])
        grown = Pass(tuple(long), own, objects, part.references + 1, age=0, held=held)
        return self._bounded(grown, tokens)

    def _followed(self, part: Pass, frames: list[Unfused], embedding: Tensor, number: int) -> Pass:
        """Return a pass whose latest frame is another, which may also stay for long."""
        short = self.model.remember(frames, embedding)
        age = part.age + 1
        if self.mem_every is None or age < self.mem_every:
            return replace(part, short=short, age=age)
        long = tuple(old.then(new) for old, new in zip(part.long, short, strict=True))
        grown = replace(part, long=long, short=short, age=0, held=(*part.held, number))
        return self._bounded(grown, short[0].key.shape[1])

    def _bounded(self, part: Pass, tokens: int) -> Pass:
        """Forget the oldest frames beyond the queue, but no reference frame."""
        count = len(part.held)
        if self.queue is None or count <= max(self.queue, part.references):
            return part
        start = count - max(self.queue - part.references, 0)
        pinned, latest = part.references * tokens, start * tokens
        return replace(
            part,
            long=tuple(m.first(pinned).then(m.after(latest)) for m in part.long),
            held=part.held[: part.references] + part.held[start:],
        )

    def _embedding(self, ids: Tensor, index: int) -> Tensor:
        """Embed the identities of pass `index` in ids (1, H', W')."""
        low = index * self.bank
        own = torch.where((ids > low) & (ids <= low + self.bank), ids - low, 0)
        places = torch.arange(self.bank + 1, device=ids.device).unsqueeze(0)
        return self.model.embed(self.model.identities(own, places))

    def _resized_frame(self, state: AOTState, frame: Tensor) -> Tensor:
        """Resize a frame (3, H, W) -> (1, 3, H', W') by cubic interpolation."""
        h, w = state.size
        if frame.shape != (3, h, w):
            raise ValueError(f"frame of shape {tuple(frame.shape)}; this video's are (3, {h}, {w})")
        size = network_size(h, w, self.model.config.long_edge)
        if size == (h, w):
            return frame.unsqueeze(0)
        return functional.interpolate(frame.unsqueeze(0), size=size, mode="bicubic")

    def _resized_ids(self, ids: Tensor) -> Tensor:
        """Resize ids (H, W) -> (1, H', W') by the nearest pixel."""
        h, w = ids.shape
        size = network_size(h, w, self.model.config.long_edge)
        ids = ids.to(self.model.mean.device).unsqueeze(0)
        if size == (h, w):
            return ids
        return functional.interpolate(ids.unsqueeze(0).float(), size=size)[0].to(ids.dtype)


def network_size(height: int, width: int, long_edge: int) -> tuple[int, int]:
    """Return the sides 16 k + 1 that a frame is resized to, the longer at most about long_edge.

    480 x 854 -> 481 x 849, as in the public code.
    """
    scale = min(1.0, long_edge / max(height, width))
    rows, columns = (
        STRIDE * max(1, round((round(side * scale) - 1) / STRIDE)) + 1 for side in (height, width)
    )
    return rows, columns


def merged(logits: Sequence[Tensor]) -> Tensor:
    """Merge the logits (1, K_i + 1, H, W) of several passes to one (1, K + 1, H, W).

    The background is what every pass calls background: p_0 = prod_i p_i0, clamped to
    [1e-5, 1 - 1e-5] like the objects' probabilities; the result is log(p / (1 - p)).
    """
    if len(logits) == 1:
        return logits[0]
    parts = [x.softmax(1) for x in logits]
    background = torch.stack([p[:, :1] for p in parts]).prod(0)
    together = torch.cat([background, *(p[:, 1:] for p in parts)], 1)
    return together.clamp(LEAST, 1 - LEAST).logit()
