"""What a student learns from a teacher: the correlation loss on z, the KL on logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Method = Literal["auto", "dense"]


def correlation_loss(
    z_student: Tensor,
    z_teacher: Tensor,
    labels: Tensor,
    omega: float,
    method: Method = "auto",
    norm: Literal["n", "none"] = "n",
) -> Tensor:
    """Contrastive and distillation loss of one item (one frame, one object).

        L = (log2 |C_s|^2 - log2 |C_s * R|^2) / n,    R = omega C_t + (1 - omega) Y Y^T

    MobileVOS, arXiv:2303.07815, eq. 2, 6 and Algorithm 1, with C = Z Z^T of unit rows, |.| the
    Frobenius norm, * element by element, Y one-hot. omega = 1 distils the teacher's correlations,
    omega = 0 is supervised contrastive. Entries of R are at most 1, so L >= 0.
    The paper divides by |C_s| in eq. 2 and by len(z_s) = n in Algorithm 1: n here ("none": by 1).

    z_student (n, d_s), z_teacher (n, d_t): any length of row, normalised here; the widths may
    differ. labels (n,) class ids from 0, or (n, K) class weights. -> scalar, in float32 or wider.
    n = 0 gives 0 with a zero gradient; so does n = 1, where there is no pair. A row of zeros
    correlates with nothing.
    """
    if z_student.ndim != 2 or z_teacher.ndim != 2 or len(z_student) != len(z_teacher):
        raise ValueError(
            f"z_student {tuple(z_student.shape)} and z_teacher {tuple(z_teacher.shape)} "
            "must be (n, d_s) and (n, d_t) with one n"
        )
    if len(labels) != len(z_student):
        raise ValueError(f"labels {tuple(labels.shape)} for {len(z_student)} rows")
    if not 0 <= omega <= 1:
        raise ValueError(f"omega {omega}; must be in [0, 1]")
    if len(z_student) == 0:
        return z_student.sum() * 0
    with torch.autocast(z_student.device.type, enabled=False):
        student = F.normalize(_wide(z_student), dim=1)
        teacher = F.normalize(_wide(z_teacher.detach()), dim=1).to(student.dtype)
        value = _dense(student, teacher, _weights(labels, student.dtype), omega)
    return value / len(student) if norm == "n" else value


def _wide(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def _weights(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Class weights Y (n, K); ids become one-hot rows."""
    if labels.ndim == 2:
        return labels.to(dtype)
    return F.one_hot(labels.long()).to(dtype)


def _dense(student: Tensor, teacher: Tensor, y: Tensor, omega: float) -> Tensor:
    """The formula as it stands, with every n x n matrix in memory: the reference."""
    correlation = student @ student.T  # (n, n)
    target = omega * (teacher @ teacher.T) + (1 - omega) * (y @ y.T)  # (n, n)
    tiny = torch.finfo(student.dtype).tiny  # rows that are all zero
    full = correlation.square().sum().clamp_min(tiny)
    matched = (correlation * target).square().sum().clamp_min(tiny)
    return torch.log2(full) - torch.log2(matched)


def logit_loss(
    student: Tensor,
    teacher: Tensor,
    pixels: Tensor,
    tau: float,
    direction: Literal["forward", "reverse"] = "forward",
) -> Tensor:
    """KL(p_T || p_S) of softmax(logits / tau), mean over an item's pixels      MobileVOS eq. 9

    The paper's eq. 9 has the student first and its Algorithm 1 the teacher; "forward" is the
    conventional KL(p_T || p_S), "reverse" is KL(p_S || p_T). No tau^2 factor, as in the paper:
    logits are the aggregated ones, bounded by +-16.1, so tau = 0.1 sharpens.
    student, teacher (M, C, H, W) logits, -inf marks a class that is absent in both;
    pixels (M, H, W) bool. -> (M,) float32; an item without pixels gives 0 with a zero gradient.
    """
    if student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher logits {shapes}; must be of one shape")
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
        return (divergence * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1)
