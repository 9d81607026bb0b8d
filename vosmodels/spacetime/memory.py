"""Read STCN's space-time memory and aggregate objects softly; pure functions.

Axis letters as in types.py; h, w = H/16, W/16; a memory of T frames has THW = T*h*w entries.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PROBABILITY_FLOOR = 1e-7
TOP_K = 20  # memory entries read per query at inference, as in STCN's public code
QUERY_CHUNK = 256  # queries whose scores are held at once


def similarity(memory_key: Tensor, query_key: Tensor) -> Tensor:
    """S[q, m] = (2 k_q.k_m - |k_m|^2) / sqrt(C)

    Source: STCN, arXiv:2106.05210, eq. 4 and section 3.3. S is -|k_q - k_m|^2 / sqrt(C) without
    the term |k_q|^2, which is constant over m and thus cancelled by every softmax over m. Queries
    are rows (columns in the paper), so that the softmax runs over the last, contiguous axis.
    memory_key (B, C, T, h, w), query_key (B, C, h, w) -> (B, hw, THW).
    """
    mk = memory_key.flatten(2)  # (B, C, THW)
    qk = query_key.flatten(2).transpose(1, 2)  # (B, hw, C)
    scale = memory_key.shape[1] ** -0.5
    squares = mk.square().sum(1, keepdim=True)  # (B, 1, THW)
    return torch.baddbmm(squares, qk, mk, beta=-scale, alpha=2 * scale)


def affinity(memory_key: Tensor, query_key: Tensor, top_k: int | None = None) -> Tensor:
    """A[q, m] = softmax_m(S[q, m])

    With `top_k` the softmax is over the top_k largest scores of a row, and A is 0 elsewhere.
    Unlike STCN's public code the row maximum is subtracted with top_k too, and a memory of fewer
    than top_k entries is read whole. Arguments as `similarity`; returns (B, hw, THW), whose rows
    sum to 1.
    """
    scores = similarity(memory_key, query_key)
    if top_k is None or top_k >= scores.shape[2]:
        return scores.softmax(2)
    best, index = scores.topk(top_k, dim=2)
    return torch.zeros_like(scores).scatter_(2, index, best.softmax(2))


def readout(weights: Tensor, memory_value: Tensor) -> Tensor:
    """V[c, q] = sum_m A[q, m] v[c, m]

    One affinity serves all objects. weights A (B, hw, THW), memory_value v (B, N, C, T, h, w)
    -> (B, N, C, h, w).
    """
    b, n, c, _, h, w = memory_value.shape
    values = memory_value.reshape(b, n * c, -1)  # (B, NC, THW)
    return torch.bmm(values, weights.transpose(1, 2)).view(b, n, c, h, w)


def read_memory(
    query: Tensor, keys: Tensor, squares: Tensor, values: Tensor, top_k: int | None = None
) -> Tensor:
    """Compute `readout(affinity(...))` at inference without the whole matrix.

    query (Q, C), keys (M, C), squares (M,) = |k_m|^2, values (M, V) -> (Q, V), one row per entry.
    With `top_k` only the top_k entries of a query are gathered, so that no zero is multiplied:
    about three times cheaper at 480p on a CPU. A memory of fewer than top_k entries is read whole.
    """
    scale = keys.shape[1] ** -0.5
    bias = squares * -scale
    everything = top_k is None or top_k >= len(keys)
    if everything and query.is_cuda:  # fused on CUDA; on a CPU the call builds the whole matrix
        q, k, v = (x.to(values.dtype)[None, None] for x in (query, keys, values))
        mask = bias.to(values.dtype).expand(1, 1, len(query), len(keys))
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=2 * scale)
        return read[0, 0]
    out = values.new_empty(len(query), values.shape[1])
    for start in range(0, len(query), QUERY_CHUNK):
        rows = slice(start, start + QUERY_CHUNK)
        scores = torch.addmm(bias, query[rows], keys.T, alpha=2 * scale)  # (chunk, M)
        if top_k is None or everything:
            out[rows] = scores.softmax(1).to(values.dtype) @ values
        else:
            best, index = scores.topk(top_k, dim=1, sorted=False)
            weights = best.softmax(1).to(values.dtype)
            out[rows] = functional.embedding_bag(
                index, values, mode="sum", per_sample_weights=weights
            )
    return out


def one_hot(ids: Tensor, objects: int) -> Tensor:
    """Convert ids (B, H, W) -> (B, objects, H, W) float32, leaving out the background."""
    slots = torch.arange(1, objects + 1, device=ids.device).view(1, -1, 1, 1)
    return (ids.unsqueeze(1) == slots).float()


def aggregate(probabilities: Tensor) -> Tensor:
    """Aggregate independent object maps softly into N+1 competing logits.

        p_0 = prod_i (1 - p_i);   l_i = log(p_i / (1 - p_i)),  p clamped to [1e-7, 1 - 1e-7]
                                        STM, arXiv:1904.00607, eq. 2-3, as in STCN's public code

    The softmax of the logits over channels gives probabilities. The clamp bounds every logit to
    +-16.2. Computed in float32 for every input type (1 - 1e-7 is 1 in half precision).
    probabilities (B, N, H, W) -> logits (B, N+1, H, W), channel 0 is background.
    """
    p = probabilities.float()
    background = (1 - p).prod(1, keepdim=True)
    p = torch.cat([background, p], 1).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return torch.log(p / (1 - p))


def compete(probabilities: Tensor) -> Tensor:
    """Compute the softmax of `aggregate`'s logits as odds p / (1 - p), normalised.

    For inference alone: half the passes over a full-size map, and no gradient.
    probabilities (B, N, H, W) -> (B, N+1, H, W) float32 that sum to 1 over channels.
    """
    b, n, h, w = probabilities.shape
    odds = probabilities.new_empty(b, n + 1, h, w, dtype=torch.float32)
    odds[:, 1:] = probabilities
    absent = 1 - odds[:, 1:]
    odds[:, 0] = absent[:, 0] if n == 1 else absent.prod(1)
    odds.clamp_(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    odds.div_(1 - odds)
    return odds.div_(odds.sum(1, keepdim=True))


def kept_frames(count: int, queue: int | None) -> list[int]:
    """Return the indices, of `count` frames oldest first, that a queue keeps.

    MobileVOS, arXiv:2303.07815, section 4: a queue of two holds the first and the latest frame. So
    the first frame is pinned, the others are a FIFO, and a queue of one holds the first frame
    alone. queue None keeps all frames.
    """
    if queue is None or count <= queue:
        return list(range(count))
    return [0, *range(count - queue + 1, count)]
