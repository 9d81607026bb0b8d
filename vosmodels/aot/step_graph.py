"""State one frame of AOT and DeAOT as two functions of tensors of fixed shape.

`BeginGraph` encodes a frame whose masks are given, `StepGraph` segments a frame and encodes it with
what it found. The memory is the caller's and shared by all objects, each of which has an identity
of the bank: it holds T frames in any order, and in its last place the latest one. `memory_bias`
hides places that hold none, so that one graph serves an empty, a filling and a full memory.

Letters: L layers, N objects, T places of the memory, P = hw positions of a frame; C_k and C_v the
widths of keys and values.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.aot.decoder import resized
from vosmodels.aot.encoder import Encoded
from vosmodels.aot.propagation import LayerMemory
from vosmodels.aot.propagator import network_size
from vosmodels.support.channels import softmax_of_channels
from vosmodels.types import HIDDEN

if TYPE_CHECKING:
    from vosmodels.aot.network import AOTNetwork


class FrameGraph(nn.Module):
    """Encode a frame of one size, and the identities on it: what both graphs share.

    network: of `narrowed`, for inference without stripes. Frames and masks are resized to sides of
    16 k + 1 as `AOTPropagator` does it. inputs, outputs: the names of `forward`'s.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rows: Tensor
    columns: Tensor

    def __init__(self, network: AOTNetwork, *, height: int, width: int) -> None:
        super().__init__()
        self.network = network
        self.height, self.width = height, width
        self.size = network_size(height, width, network.config.long_edge)
        self.register_buffer("rows", nearest(height, self.size[0]), persistent=False)
        self.register_buffer("columns", nearest(width, self.size[1]), persistent=False)

    def encoded(self, frame: Tensor) -> Encoded:
        """Resize a frame (1, 3, H, W) and encode it."""
        if self.size != (self.height, self.width):
            frame = functional.interpolate(frame, size=self.size, mode="bicubic")
        return self.network.encode(frame)

    def seen(self, maps: Tensor) -> Tensor:
        """Take the nearest of maps (B, C, H, W) for every pixel that the network sees."""
        if self.size == (self.height, self.width):
            return maps
        return maps.index_select(2, self.rows).index_select(3, self.columns)


class BeginGraph(FrameGraph):
    """Encode a frame with given masks.

    frame (1, 3, H, W) RGB in [0, 1], masks (1, N, H, W) of 0 and 1, no pixel in two of them
    -> key (L, P, C_k), value (L, P, C_v).
    """

    inputs = ("frame", "masks")
    outputs = ("key", "value")

    def forward(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the memory takes."""
        background = 1 - masks.sum(1, keepdim=True)
        embedding = self.network.embed(self.seen(torch.cat([background, masks], 1)))
        result = self.network.propagate(self.encoded(frame), embedding=embedding)
        return stacked(self.network.remember(result.frames, embedding))


class StepGraph(FrameGraph):
    """Segment a frame, and encode it with the identities found.

    frame (1, 3, H, W); memory_key (L, T, P, C_k), memory_value (L, T, P, C_v), whose last place
    short-term attention reads and long-term attention the others; memory_bias (T - 1,): 0 where a
    place holds a frame, HIDDEN where it does not; present (N,): 1 for an identity with an object,
    else 0 -> probabilities (N+1, H, W), background first, which sum to 1; key (L, P, C_k), value
    (L, P, C_v).
    """

    inputs = ("frame", "memory_key", "memory_value", "memory_bias", "present")
    outputs = ("probabilities", "key", "value")

    def forward(
        self,
        frame: Tensor,
        memory_key: Tensor,
        memory_value: Tensor,
        memory_bias: Tensor,
        present: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities, and what the memory takes if the frame is due."""
        layers = list(zip(memory_key, memory_value, strict=True))
        bias = memory_bias.unsqueeze(1).expand(-1, memory_key.shape[2]).flatten()  # ((T - 1) P,)
        long = [
            LayerMemory(key[:-1].flatten(0, 1)[None], value[:-1].flatten(0, 1)[None], bias)
            for key, value in layers
        ]
        short = [LayerMemory(key[-1:], value[-1:]) for key, value in layers]
        result = self.network.propagate(self.encoded(frame), long, short)
        logits = resized(result.logits.float(), (self.height, self.width))
        shown = functional.pad(present, (1, 0), value=1.0).view(1, -1, 1, 1)
        probabilities = softmax_of_channels(logits + HIDDEN * (1 - shown))
        ids = self.seen(probabilities).argmax(1)
        identities = torch.arange(probabilities.shape[1], device=ids.device)
        embedding = self.network.embed(ids.unsqueeze(1) == identities[:, None, None])
        return probabilities[0], *stacked(self.network.remember(result.frames, embedding))


def narrowed(network: AOTNetwork, objects: int) -> AOTNetwork:
    """Return a copy of a network that knows the first `objects` identities of its bank alone.

    What is left out is added as zeros where no object has such an identity. Raises ValueError on
    more objects than the bank has.
    """
    if not 1 <= objects <= network.config.objects:
        raise ValueError(f"{objects} objects; the bank has {network.config.objects} identities")
    narrow = copy.deepcopy(network)
    narrow.config = network.config.model_copy(update={"objects": objects})
    bank, out = narrow.patch_wise_id_bank, narrow.decoder.conv_out
    bank.in_channels = out.out_channels = objects + 1
    bank.weight = _frozen(bank.weight[:, : objects + 1])
    out.weight = _frozen(out.weight[: objects + 1])
    out.bias = None if out.bias is None else _frozen(out.bias[: objects + 1])
    return narrow


def _frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone(), requires_grad=False)


def stacked(memories: Sequence[LayerMemory]) -> tuple[Tensor, Tensor]:
    """Stack what each layer remembers of a frame: key (L, P, C_k), value (L, P, C_v)."""
    key = torch.cat([memory.key for memory in memories])
    return key.float(), torch.cat([memory.value for memory in memories]).float()


def nearest(length: int, wanted: int) -> Tensor:
    """Return which of `length` pixels each of `wanted` takes, as the propagator resizes ids."""
    line = torch.arange(length, dtype=torch.float32).view(1, 1, -1)
    return functional.interpolate(line, size=wanted)[0, 0].long()
