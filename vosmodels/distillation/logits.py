"""Compare student and teacher logits by their KL divergence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vosmodels.types import Direction


def logit_loss(
    student: Tensor,
    teacher: Tensor,
    pixels: Tensor,
    tau: float,
    direction: Direction = "forward",
    *,
    tau_squared: bool = False,
) -> Tensor:
    """KL(p_T || p_S), p = softmax(logits / tau), mean over pixels      MobileVOS eq. 9

    The paper's eq. 9 has the student first and its Algorithm 1 the teacher; "forward" is the
    conventional KL(p_T || p_S), "reverse" is KL(p_S || p_T). tau_squared: multiply by tau^2 (Hinton
    et al., arXiv:1503.02531, section 2), which the paper does not mention. The logits are those of
    `aggregate`, bounded by +-16.1, so tau = 0.1 sharpens.
    student, teacher (M, C, H, W) logits, where -inf marks a class that is absent in both;
    pixels (M, H, W) bool. -> (M,) float32; an item without pixels gives 0 with a zero gradient.
    Raises ValueError on unequal shapes or tau <= 0.
    """
    if student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher logits {shapes}; must have equal shapes")
    if tau <= 0:
        raise ValueError(f"tau {tau}; must be above 0")
    with torch.autocast(student.device.type, enabled=False):
        log_s = F.log_softmax(student.float() / tau, dim=1)
        log_t = F.log_softmax(teacher.detach().float() / tau, dim=1)
        if direction == "reverse":
            log_s, log_t = log_t, log_s
        present = torch.isfinite(log_t)
        gap = torch.where(present, log_t, 0.0) - torch.where(present, log_s, 0.0)
        divergence = (log_t.exp() * gap).sum(1)  # (M, H, W)
        weight = pixels.float()
        mean = (divergence * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1)
        return tau**2 * mean if tau_squared else mean
