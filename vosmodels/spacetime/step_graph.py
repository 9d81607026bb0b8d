"""State one frame of a space-time network as two functions of tensors of fixed shape.

`BeginGraph` encodes a frame whose masks are given, `StepGraph` segments a frame and encodes it. The
memory is the caller's: which frames it holds, and for which object, is told by `memory_bias`, so
that one graph serves an empty, a filling and a full memory, and objects that begin late. Exports
write both to files; `cuda_graph.py` captures the step.

Letters: N object slots, T frames of a slot's memory, P = (H/16)(W/16) positions of a frame, of H
and W rounded up; C_k and C_v the widths of keys and values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.spacetime.memory import PROBABILITY_FLOOR, TOP_K
from vosmodels.spacetime.propagator import STRIDE, KeyFeatures, MemoryNetwork, padding
from vosmodels.support.channels import softmax_of_channels

LIMIT = math.log((1 - PROBABILITY_FLOOR) / PROBABILITY_FLOOR)  # largest logit, 16.1


class FrameGraph(nn.Module):
    """Encode a frame of one size, and the masks of its objects: what both graphs share.

    network: a module, prepared by `for_inference`, for an export without stripes. inputs, outputs:
    the names of `forward`'s; positions: P.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, network: MemoryNetwork, *, height: int, width: int) -> None:
        super().__init__()
        self.network = network
        self.height, self.width = height, width
        self.padding = padding(height, width)
        self.positions = -(-height // STRIDE) * -(-width // STRIDE)

    def encoded(self, frame: Tensor) -> tuple[Tensor, KeyFeatures]:
        """Pad a frame with the mean colour and encode it."""
        mean = self.network.mean
        padded = self.padded(frame - mean, 0) + mean if any(self.padding) else frame
        return padded, self.network.encode_key(padded)

    def padded(self, maps: Tensor, value: float) -> Tensor:
        """Pad maps (1, C, H, W) to multiples of 16."""
        return functional.pad(maps, self.padding, value=value) if any(self.padding) else maps

    def value(self, frame: Tensor, masks: Tensor, keys: KeyFeatures) -> Tensor:
        """Encode soft masks (1, N, H', W') of a padded frame to value rows (N, P, C_v)."""
        return rows_of(self.network.encode_value(frame, masks, keys.features.s16)[0])


class BeginGraph(FrameGraph):
    """Encode a frame with given masks.

    frame (1, 3, H, W) RGB in [0, 1], masks (1, N, H, W) of 0 and 1, no pixel in two of them
    -> key (P, C_k), value (N, P, C_v).
    """

    inputs = ("frame", "masks")
    outputs = ("key", "value")

    def forward(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that the memory takes."""
        padded, keys = self.encoded(frame)
        soft = competing(self.padded((2 * masks - 1) * LIMIT, -LIMIT))[:, 1:]
        return rows_of(keys.key)[0].float(), self.value(padded, soft, keys)


class StepGraph(FrameGraph):
    """Segment a frame, and encode it with the masks found.

    frame (1, 3, H, W); memory_key (N, T, P, C_k), memory_value (N, T, P, C_v); memory_bias (N, T):
    0 where the slot may read the frame of memory, HIDDEN where it may not; present (N,): 1 for a
    slot with an object, else 0 -> probabilities (N+1, H, W), background first, which sum to 1; key
    (P, C_k), value (N, P, C_v). Value and memory_value have the type of the weights, the others are
    float32.

    A query reads `top_k` entries of a slot's memory, as `VideoSegmenter` does: a student that was
    scored so loses where it reads all. A slot that may read nothing reads everything alike; its
    result is hidden by present.
    """

    inputs = ("frame", "memory_key", "memory_value", "memory_bias", "present")
    outputs = ("probabilities", "key", "value")

    def __init__(
        self, network: MemoryNetwork, *, height: int, width: int, top_k: int | None = TOP_K
    ) -> None:
        super().__init__(network, height=height, width=width)
        self.top_k = top_k

    def forward(
        self,
        frame: Tensor,
        memory_key: Tensor,
        memory_value: Tensor,
        memory_bias: Tensor,
        present: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities, and the rows that the memory takes if the frame is due."""
        padded, keys = self.encoded(frame)
        query = rows_of(keys.key)[0].float()
        read = read_slots(query, memory_key, memory_value, memory_bias, self.top_k)  # (N, P, C_v)
        h16, w16 = keys.key.shape[2:]
        maps = read.transpose(1, 2).unflatten(2, (h16, w16)).unsqueeze(0)
        logits, _ = self.network.decode(keys, maps)
        shown = present.view(1, -1, 1, 1)
        probabilities = competing(logits.float() * shown - LIMIT * (1 - shown))
        x0, _, y0, _ = self.padding
        seen = probabilities[0, :, y0 : y0 + self.height, x0 : x0 + self.width]
        return seen, query, self.value(padded, probabilities[:, 1:], keys)


def rows_of(maps: Tensor) -> Tensor:
    """Turn maps (B, C, h, w) into rows (B, hw, C)."""
    return maps.flatten(2).transpose(1, 2)


def read_slots(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, top_k: int | None = None
) -> Tensor:
    """Read each slot's own memory: `memory.read_memory` plus a bias per frame.

    With top_k the softmax is over the top_k largest scores of a query, whose values are gathered.
    query (P, C_k), keys (N, T, P, C_k), values (N, T, P, C_v), bias (N, T) -> (N, P, C_v).
    """
    n, t, p, width = keys.shape
    scale = width**-0.5
    flat = keys.flatten(1, 2)  # (N, TP, C_k)
    # The factor stands before the product: litert-torch 0.10 loses the transposition of a query
    # that enters it as it is, where there is one slot.
    dots = torch.matmul(query * (2 * scale), flat.transpose(1, 2))  # (N, P, TP)
    scores = dots - flat.square().sum(2).unsqueeze(1) * scale
    heard = (scores.view(n, p, t, p) + bias.view(n, 1, t, 1)).view(n, p, t * p)
    if top_k is None or top_k >= t * p:
        return torch.matmul(heard.softmax(2).to(values.dtype), values.flatten(1, 2))
    best, index = heard.topk(top_k, dim=2)  # (N, P, top_k)
    starts = (torch.arange(n, device=index.device) * (t * p)).view(n, 1, 1)
    picked = values.flatten(0, 2)[index + starts]  # (N, P, top_k, C_v)
    return torch.matmul(best.softmax(2).to(values.dtype).unsqueeze(2), picked).squeeze(2)


def competing(logits: Tensor) -> Tensor:
    """Compute `memory.compete` of sigmoids from their logits, no number beyond what halves hold.

    With l clamped to +-LIMIT and s = sum_i log(1 + exp(l_i)), the background's log-odds are
    -log(exp(s) - 1); the probabilities are the softmax over channels. logits (1, N, H, W)
    -> (1, N+1, H, W).
    """
    own = logits.clamp(-LIMIT, LIMIT)
    if own.shape[1] == 1:  # the background's are -l
        object_map = (2 * own).sigmoid()
        return torch.cat([1 - object_map, object_map], 1)
    s = functional.softplus(own).sum(1, keepdim=True)
    background = -(s + torch.log1p(-torch.exp(-s.clamp_min(PROBABILITY_FLOOR))))
    all_of_them = torch.cat([background.clamp(-LIMIT, LIMIT), own], 1)
    return softmax_of_channels(all_of_them)
