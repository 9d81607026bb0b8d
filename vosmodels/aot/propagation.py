"""Propagate masks from memory to a frame, layer by layer: AOT's LSTT and DeAOT's GPM.

A layer takes and returns two streams of tokens (B, HW, C): the visual one and, in DeAOT, that of
identities, which begins with the first layer. h, w = H/16, W/16; HW = h w.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from vosmodels.aot.attention import (
    Attended,
    Depthwise,
    GatedLongTerm,
    GatedSelf,
    GatedShortTerm,
    MultiheadLongTerm,
    MultiheadSelf,
    MultiheadShortTerm,
    Offsets,
    Size,
    to_map,
    to_tokens,
)
from vosmodels.aot.configs import AOTConfig, DeAOTConfig

FFN_GROUPS = 32  # of the GroupNorm in AOT's feed-forward network
TEMPERATURE = 10000.0  # of the sine positions


@dataclass(frozen=True)
class LayerMemory:
    """The memory that one layer has of T frames: key (B, T HW, C_k) and value (B, T HW, C_v).

    bias (T HW,): added to the scores of long-term attention, None for 0. A memory of fixed size,
    which an exported graph reads, hides so the places that hold no frame yet.
    """

    key: Tensor
    value: Tensor
    bias: Tensor | None = None

    def then(self, later: LayerMemory) -> LayerMemory:
        """Return a memory of these tokens, followed by those of `later`."""
        return LayerMemory(
            torch.cat([self.key, later.key], 1), torch.cat([self.value, later.value], 1)
        )

    def first(self, tokens: int) -> LayerMemory:
        """Return the first so many tokens."""
        return LayerMemory(self.key[:, :tokens], self.value[:, :tokens])

    def after(self, tokens: int) -> LayerMemory:
        """Return what follows the first so many tokens."""
        return LayerMemory(self.key[:, tokens:], self.value[:, tokens:])


@dataclass(frozen=True)
class Unfused:
    """The memory that one layer would have of a frame, before the identities are known.

    key (B, HW, C_k), value (B, HW, C_v); identity (B, HW, C): DeAOT's second stream as the layer
    met it, None in the first layer and in AOT.
    """

    key: Tensor
    value: Tensor
    identity: Tensor | None = None


@dataclass(frozen=True)
class Propagated:
    """The result of a frame.

    logits (B, 1 + ids, H/4, W/4); z (B, C, H/4, W/4): the map that they are computed from; frames:
    what each layer would remember.
    """

    logits: Tensor
    z: Tensor
    frames: list[Unfused]


@dataclass
class Watch:
    """Collect the intermediates of a frame that a caller asked for by name.

    A name is ATTENTION.PART.LAYER, such as `self.id.1`; see `configs.watchable`.
    """

    names: Collection[str] = ()
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def wants_weights(self, attention: str, layer: int) -> bool:
        """Return whether an attention's softmax weights are asked for."""
        return f"{attention}.weights.{layer}" in self.names

    def note(self, attention: str, layer: int, attended: Attended, *, branches: bool) -> None:
        """Keep what is asked for of an attention; branches: values are of two streams."""
        parts: dict[str, Tensor | None] = {"output": attended.values, "weights": attended.weights}
        if attended.offsets is not None:  # (B, HW, 2 S): x, y of each group
            parts["offsets"] = to_tokens(attended.offsets.flatten(1, 2))
        if branches:
            parts["visual"], parts["id"] = attended.values.chunk(2, 2)
        for part, tensor in parts.items():
            name = f"{attention}.{part}.{layer}"
            if name in self.names and tensor is not None:
                self.tensors[name] = tensor


Streams = tuple[Tensor, Tensor | None]


class PropagationLayer(nn.Module, ABC):
    """A layer that reads the long-term and the short-term memory and attends to itself.

    index: the layer's number, from 1.
    """

    index: int

    @abstractmethod
    def forward(
        self,
        streams: Streams,
        long: LayerMemory | None,
        short: LayerMemory | None,
        embedding: Tensor | None,
        size: Size,
        watch: Watch,
    ) -> tuple[Streams, Unfused]:
        """Propagate to a frame.

        embedding (B, HW, width): of the frame's given identities; the frame is then a reference,
        whose memories are its own. Without it both memories are needed.
        """

    @abstractmethod
    def remember(self, frame: Unfused, embedding: Tensor) -> LayerMemory:
        """Fuse a frame with the embedding (B, HW, width) of its identities."""

    def memories(
        self,
        frame: Unfused,
        long: LayerMemory | None,
        short: LayerMemory | None,
        embedding: Tensor | None,
    ) -> tuple[LayerMemory, LayerMemory]:
        """Return the memories that the frame reads: given ones, or its own."""
        if embedding is not None:
            own = self.remember(frame, embedding)
            return own, own
        assert long is not None
        assert short is not None
        return long, short


def _offsets(config: AOTConfig | DeAOTConfig, in_channels: int, scores: int) -> Offsets | None:
    """Build the offsets of a deformable attention; None where attention is not deformable.

    in_channels: of X; scores: channels of the attention's queries, which serve where they are as
    many as offsets are computed from.
    """
    if not config.deformable:
        return None
    own = scores == config.offset_channels
    return Offsets(None if own else in_channels, config.offset_channels, config.offset_groups)


class FeedForward(nn.Module):
    """GroupNorm, GELU and a depth-wise 5x5 convolution: the activation of AOT's FFN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(FFN_GROUPS, channels)
        self.conv = Depthwise(channels, 0.0).conv

    def forward(self, tokens: Tensor, size: Size) -> Tensor:
        """Transform tokens (B, HW, C)."""
        return to_tokens(self.conv(functional.gelu(self.gn(to_map(tokens, size)))))


class LSTTLayer(PropagationLayer):
    """A long short-term transformer layer      AOT, arXiv:2106.02638, section 3.3

    x += SelfAttn(LN(x)); x += LongTerm(Q, K, V) + ShortTerm(Q, K, V); x += FFN(LN(x))
    with Q = K = W_q LN(x), and in memory V = W_v (LN(x) + embedding of identities).
    """

    def __init__(self, config: AOTConfig, index: int) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.index = index
        self.norm1 = nn.LayerNorm(width)
        self.linear_Q = nn.Linear(width, width)
        self.linear_V = nn.Linear(width, width)
        self.long_term_attn = MultiheadLongTerm(width, heads, _offsets(config, width, width))
        self.short_term_attn = MultiheadShortTerm(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.self_attn = MultiheadSelf(width, heads, _offsets(config, width, width))
        self.norm3 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.ffn_channels)
        self.activation = FeedForward(config.ffn_channels)
        self.linear2 = nn.Linear(config.ffn_channels, width)
        self.droppath = StochasticDepth(config.droppath, "row")

    def forward(
        self,
        streams: Streams,
        long: LayerMemory | None,
        short: LayerMemory | None,
        embedding: Tensor | None,
        size: Size,
        watch: Watch,
    ) -> tuple[Streams, Unfused]:
        x = streams[0]
        positions = sine_positions(size, x.shape[2], x.device).to(x.dtype)
        attended = self.self_attn(
            self.norm1(x), positions, size, want_weights=watch.wants_weights("self", self.index)
        )
        watch.note("self", self.index, attended, branches=False)
        x = x + self.droppath(attended.projected)
        y = self.norm2(x)
        query = self.linear_Q(y)
        frame = Unfused(query, y)
        long, short = self.memories(frame, long, short, embedding)
        attended = self.long_term_attn(
            query,
            long.key,
            long.value,
            y,
            size,
            bias=long.bias,
            want_weights=watch.wants_weights("long", self.index),
        )
        watch.note("long", self.index, attended, branches=False)
        x = x + attended.projected + self.short_term_attn(query, short.key, short.value, size)
        hidden = self.activation(self.linear1(self.norm3(x)), size)
        return (x + self.droppath(self.linear2(hidden)), None), frame

    def remember(self, frame: Unfused, embedding: Tensor) -> LayerMemory:
        return LayerMemory(frame.key, self.linear_V(frame.value + embedding))


class GPMLayer(PropagationLayer):
    """A gated propagation module      DeAOT, arXiv:2210.09782, section 4

    One matrix of attention weights moves the values of both streams, and a gate of each token
    weighs what arrives. In the first layer the stream of identities is empty.
    """

    def __init__(self, config: DeAOTConfig, index: int) -> None:
        super().__init__()
        width, scores = config.width, config.score_channels
        wide = 2 * width  # channels of a branch's values
        self.index = index
        self.split = (scores, wide)
        self.norm1 = nn.LayerNorm(width)
        self.linear_QV = nn.Linear(width, scores + wide)
        self.linear_U = nn.Linear(width, wide)
        if index == 1:
            self.linear_ID_V = nn.Linear(width, wide)
        else:
            self.id_norm1 = nn.LayerNorm(width)
            self.linear_ID_V = nn.Linear(wide, wide)
            self.linear_ID_U = nn.Linear(width, wide)
        self.long_term_attn = GatedLongTerm(
            2 * wide, wide, config.dropout, _offsets(config, width, scores)
        )
        self.short_term_attn = GatedShortTerm(scores, 2 * wide, wide, config.dropout)
        self.norm2 = nn.LayerNorm(width)
        self.id_norm2 = nn.LayerNorm(width)
        self.self_attn = GatedSelf(width, scores, config.dropout, _offsets(config, wide, scores))
        self.droppath = StochasticDepth(config.droppath, "row")

    def forward(
        self,
        streams: Streams,
        long: LayerMemory | None,
        short: LayerMemory | None,
        embedding: Tensor | None,
        size: Size,
        watch: Watch,
    ) -> tuple[Streams, Unfused]:
        x, y = streams
        visual = self.norm1(x)
        query, value = self.linear_QV(visual).split(self.split, 2)
        gate = functional.silu(self.linear_U(visual))
        if y is None:
            frame = Unfused(query, functional.silu(value))
            gate = torch.cat([gate, torch.ones_like(gate)], 2)
            y = torch.zeros_like(x)
        else:
            identity = self.id_norm1(y)
            frame = Unfused(query, functional.silu(value), identity)
            gate = torch.cat([gate, functional.silu(self.linear_ID_U(identity))], 2)
        long, short = self.memories(frame, long, short, embedding)
        attended = self.long_term_attn(
            query,
            long.key,
            long.value,
            gate,
            visual,
            size,
            bias=long.bias,
            want_weights=watch.wants_weights("long", self.index),
        )
        watch.note("long", self.index, attended, branches=True)
        nearby = self.short_term_attn(query, short.key, short.value, gate, size)
        more, more_id = (attended.projected + nearby).chunk(2, 2)
        x, y = x + more, y + more_id
        attended = self.self_attn(
            self.norm2(x),
            self.id_norm2(y),
            size,
            want_weights=watch.wants_weights("self", self.index),
        )
        watch.note("self", self.index, attended, branches=True)
        more, more_id = self.droppath(attended.projected).chunk(2, 2)
        return (x + more, y + more_id), frame

    def remember(self, frame: Unfused, embedding: Tensor) -> LayerMemory:
        known = embedding if frame.identity is None else torch.cat([frame.identity, embedding], 2)
        identity = functional.silu(self.linear_ID_V(known))
        return LayerMemory(frame.key, torch.cat([frame.value, identity], 2))


class TokenGroupNorm(nn.Module):
    """GroupNorm over the channels of a group and all tokens of a frame."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise tokens (B, HW, C)."""
        normed: Tensor = self.gn(tokens.transpose(1, 2))
        return normed.transpose(1, 2)


class Propagation(nn.Module, ABC):
    """The stack of layers, named LSTT in public weights."""

    layers: nn.ModuleList
    decoder_norms: nn.ModuleList
    out_channels: int  # of all maps for the decoder together, without the encoder's

    def forward(
        self,
        x: Tensor,
        long: Sequence[LayerMemory] | None,
        short: Sequence[LayerMemory] | None,
        embedding: Tensor | None,
        size: Size,
        watch: Watch,
    ) -> tuple[list[Tensor], list[Unfused]]:
        """Propagate to a frame's tokens x (B, HW, width); arguments as of PropagationLayer.

        Returns the tokens for the decoder and what each layer would remember.
        """
        streams: Streams = (x, None)
        outputs: list[Streams] = []
        frames: list[Unfused] = []
        for i, layer in enumerate(self.layers):
            streams, frame = layer(
                streams,
                long[i] if long else None,
                short[i] if short else None,
                embedding,
                size,
                watch,
            )
            outputs.append(streams)
            frames.append(frame)
        return self.normed(outputs), frames

    @abstractmethod
    def normed(self, outputs: list[Streams]) -> list[Tensor]:
        """Normalise the layers' streams as the decoder takes them."""

    def remember(self, frames: Sequence[Unfused], embedding: Tensor) -> tuple[LayerMemory, ...]:
        """Fuse what each layer met of a frame with the embedding of its identities."""
        memories = []
        for layer, frame in zip(self.layers, frames, strict=True):
            assert isinstance(layer, PropagationLayer)
            memories.append(layer.remember(frame, embedding))
        return tuple(memories)


class LSTT(Propagation):
    """AOT's layers; the decoder reads all of them, each normalised."""

    def __init__(self, config: AOTConfig) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(1, 1, config.width))  # in public weights, unread
        self.layers = nn.ModuleList(LSTTLayer(config, i) for i in range(1, config.layers + 1))
        self.decoder_norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in self.layers)
        self.out_channels = config.layers * config.width
        _initialise(self)

    def normed(self, outputs: list[Streams]) -> list[Tensor]:
        pairs = zip(self.decoder_norms, outputs, strict=True)
        return [norm(streams[0]) for norm, streams in pairs]


class GPM(Propagation):
    """DeAOT's layers; the decoder reads both streams of the last one, normalised together."""

    def __init__(self, config: DeAOTConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GPMLayer(config, i) for i in range(1, config.layers + 1))
        self.decoder_norms = nn.ModuleList([TokenGroupNorm(2, 2 * config.width)])
        self.out_channels = 2 * config.width
        _initialise(self)

    def normed(self, outputs: list[Streams]) -> list[Tensor]:
        x, y = outputs[-1]
        assert y is not None
        return [self.decoder_norms[0](torch.cat([x, y], 2))]


def _initialise(layers: nn.Module) -> None:
    """Draw matrices as Xavier, but leave what starts at a value of its own: offsets of zero."""
    own = {p for m in layers.modules() if isinstance(m, Offsets) for p in m.network.parameters()}
    for name, parameter in layers.named_parameters():
        if parameter.ndim > 1 and parameter not in own and not name.endswith("relative_emb_v"):
            nn.init.xavier_uniform_(parameter)


def sine_positions(size: Size, channels: int, device: torch.device) -> Tensor:
    """Encode positions by sines: (1, HW, C), the first half of the channels by row      DETR

    p = 2 pi row / (h - 1 + 1e-6), from row 0 on; channels 2i and 2i + 1 hold sin and cos of
    p / 10000^(2i / (C / 2)). Columns likewise.
    """
    half = channels // 2
    even = torch.arange(half, device=device) // 2 * 2
    divisor = TEMPERATURE ** (even / half)
    axes = []
    for length in size:
        place = torch.arange(length, device=device) / (length - 1 + 1e-6) * 2 * torch.pi
        angle = place[:, None] / divisor  # (length, C / 2)
        axes.append(torch.stack([angle[:, ::2].sin(), angle[:, 1::2].cos()], 2).flatten(1))
    rows, columns = axes
    grid = (rows[:, None].expand(*size, half), columns[None].expand(*size, half))
    return torch.cat(grid, 2).flatten(0, 1).unsqueeze(0)
