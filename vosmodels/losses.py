"""Compute supervised losses: bootstrapped poly cross-entropy and soft Jaccard.

A pixel whose id is IGNORED, or where `known` is False, has no label: it adds nothing to a loss, has
no gradient, and is left out of every mean, as if the picture had been cut out there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vosmodels.types import IGNORED


def mask_absent(logits: Tensor, present: Tensor) -> Tensor:
    """Set the logits of absent object slots to -inf.

    logits (B, T, N+1, H, W), present (B, N) bool -> (B, T, N+1, H, W).
    """
    absent = F.pad(~present, (1, 0))  # background is always present
    return logits.masked_fill(absent[:, None, :, None, None], float("-inf"))


def poly_cross_entropy(logits: Tensor, target: Tensor, epsilon: float = 1.0) -> Tensor:
    """CE + epsilon (1 - p_target), per pixel      Poly-1, arXiv:2204.12511, eq. 6

    MobileVOS names its loss "poly cross entropy" and gives no epsilon; 1 is Poly-1's default.
    logits (M, C, H, W), target (M, H, W) int64 -> (M, H, W), 0 where the target is IGNORED.
    epsilon = 0 is cross-entropy.
    """
    entropy = F.cross_entropy(logits.float(), target, ignore_index=IGNORED, reduction="none")
    return entropy + epsilon * (1 - torch.exp(-entropy))


def soft_cross_entropy(logits: Tensor, target: Tensor, epsilon: float = 1.0) -> Tensor:
    """-sum_c q_c log p_c + epsilon (1 - sum_c q_c p_c), per pixel

    Equals `poly_cross_entropy` where q is 1 for one class. logits (M, C, H, W), -inf for a class
    that is absent and has q = 0; target q (M, C, H, W), summing to 1 -> (M, H, W).
    """
    log_p = F.log_softmax(logits.float(), dim=1)
    finite = torch.where(torch.isfinite(log_p), log_p, 0.0)
    return epsilon * (1 - (target * log_p.exp()).sum(1)) - (target * finite).sum(1)


def hardest_mean(per_pixel: Tensor, keep: float, known: Tensor | None = None) -> Tensor:
    """Average the largest values of each item: bootstrapping, as STCN's LossComputer.

    per_pixel (M, H, W), keep in (0, 1] -> (M,): the mean of the floor(keep * H * W) largest, at
    least one. known (M, H, W) bool: pixels with a label, in place of all H * W; an item without
    any gives 0.
    """
    flat = per_pixel.flatten(1)
    if known is not None:
        return _hardest_known(flat, known.flatten(1), keep)
    if keep >= 1:
        return flat.mean(1)
    count = max(1, int(flat.shape[1] * keep))
    return flat.topk(count, dim=1, sorted=False).values.mean(1)


def _hardest_known(flat: Tensor, known: Tensor, keep: float) -> Tensor:
    """Average the largest of the known values of each row: (M, P), (M, P) bool -> (M,)."""
    pixels = known.sum(1)
    count = (pixels.double() * keep).floor().long().clamp_min(1).minimum(pixels)
    ranked = flat.masked_fill(~known, float("-inf")).sort(1, descending=True).values
    largest = torch.arange(flat.shape[1], device=flat.device) < count[:, None]
    return torch.where(largest, ranked, 0.0).sum(1) / count.clamp_min(1)


def keep_fraction(
    progress: float, final: float = 0.15, *, start: float = 1 / 15, end: float = 7 / 30
) -> float:
    """Return the fraction of pixels that bootstrapping keeps at `progress` of a stage.

    All pixels until `start`, then fewer, linearly, down to `final` at `end`; all three are shares
    of a stage in [0, 1]. STCN keeps all for 20,000 of 300,000 iterations and 15 % from 70,000 on,
    the default; AOT goes from all at its first iteration to 15 % at half of them.
    """
    return 1 - (1 - final) * min(1.0, max(0.0, (progress - start) / (end - start)))


def soft_jaccard(probability: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """1 - (sum p y + 1) / (sum (p + y - p y) + 1), summed over a plane

    This loss is not in the MobileVOS paper. A short run from scratch collapses to empty masks with
    cross-entropy alone; this loss prevents the collapse. probability p (M, H, W) in [0, 1],
    target y (M, H, W) bool or in [0, 1] -> (M,) in [0, 1]. known (M, H, W) bool: the pixels that
    are summed; a plane without any gives 0.
    """
    p, y = probability.float().flatten(1), target.float().flatten(1)
    if known is not None:
        p, y = p * known.flatten(1), y * known.flatten(1)
    overlap = (p * y).sum(1)
    return 1 - (overlap + 1) / (p.sum(1) + y.sum(1) - overlap + 1)


def class_jaccard(probability: Tensor, target: Tensor) -> Tensor:
    """mean over present c of 1 - sum p_c y_c / (sum (p_c + y_c - p_c y_c) + 1e-6)     AOT's code

    The Tversky loss of alpha = beta = 1. A class, background included, is present where the target
    shows it; IGNORED pixels count nowhere. probability p (M, C, H, W) in [0, 1], target
    (M, H, W) int64 with y_c = (target = c) -> (M,) in [0, 1]; 0 for an item without any class.
    """
    classes = probability.shape[1]
    known = (target != IGNORED)[:, None]  # (M, 1, H, W)
    ids = torch.arange(classes, device=target.device)[:, None, None]
    y = (target[:, None] == ids).float()  # (M, C, H, W)
    p = probability.float() * known
    overlap, sizes = (p * y).sum((2, 3)), y.sum((2, 3))  # (M, C)
    loss = 1 - overlap / (p.sum((2, 3)) + sizes - overlap + 1e-6)
    present = sizes > 0
    return (loss * present).sum(1) / present.sum(1).clamp_min(1)
