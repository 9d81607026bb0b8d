"""Label the clips of a step by the teacher that runs on them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vosmodels.data.clips import soft_targets
from vosmodels.losses import mask_absent
from vosmodels.types import IGNORED, Clip


def with_labels(clip: Clip, logits: Tensor, threshold: float, *, soft: bool = False) -> Clip:
    """Give every IGNORED pixel of a clip the teacher's most probable id, if it is probable enough.

    logits (B, T-1, N+1, H, W): the teacher's for frames 1..T-1. A pixel whose id has a probability
    below `threshold` (0 to 1) stays IGNORED; pixels that have a label keep it. soft: the clip gets
    the teacher's probabilities too, as targets of those pixels.
    """
    probability = mask_absent(logits.float(), clip.present).softmax(2)
    confidence, ids = probability.max(2)
    if threshold > 0:
        ids = torch.where(confidence < threshold, IGNORED, ids)
    later = clip.masks[:, 1:]
    masks = torch.cat([clip.masks[:, :1], torch.where(later == IGNORED, ids, later)], 1)
    labelled = replace(clip, masks=masks, labelled=clip.labelled or threshold == 0)
    if not soft:
        return labelled
    targets = torch.where((later == IGNORED)[:, :, None], probability, soft_targets(labelled))
    return replace(labelled, soft=targets)
