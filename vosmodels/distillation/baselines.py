"""Compute the losses on attentions that CKA is compared with: KL divergence and projectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vosmodels.support.seeding import seed_of


def rows_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute mean_i KL(T[i, :] || S[i, :]) of distributions, such as attention weights.

    student, teacher (..., n, keys), rows >= 0 that sum to 1 -> (...), in float32 or wider. A weight
    of 0 where the teacher's is not counts as the smallest number of the type, so that the value
    stays finite. The teacher gets no gradient. Raises ValueError on unequal shapes.
    """
    _check(student, teacher)
    s, t = _wide(student), _wide(teacher.detach())
    tiny = torch.finfo(s.dtype).tiny
    gap = t.clamp_min(tiny).log() - s.clamp_min(tiny).log()
    return (t * gap).sum(-1).mean(-1)


def channels_kl(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """Compute mean_i KL(p_T || p_S) of p = softmax(x[i, :] / tau) over channels.

    The reading of "KL divergence" for attention outputs, which are no distributions: Hinton et
    al., arXiv:1503.02531, on channels for classes, without the factor tau^2.
    student, teacher (..., n, d) -> (...), in float32 or wider. The teacher gets no gradient. Raises
    ValueError on unequal shapes, or tau <= 0.
    """
    _check(student, teacher)
    if tau <= 0:
        raise ValueError(f"tau {tau}; must be above 0")
    log_s = F.log_softmax(_wide(student) / tau, dim=-1)
    log_t = F.log_softmax(_wide(teacher.detach()) / tau, dim=-1)
    return (log_t.exp() * (log_t - log_s)).sum(-1).mean(-1)


def direction_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute mean_i (1 - cos(S[i, :], T[i, :])), the direction alignment of PEFD.

    student: rows behind a `ProjectorEnsemble`; student, teacher (..., n, d) -> (...), in float32 or
    wider. A row of zeros has cosine 0. The teacher gets no gradient. Raises ValueError on unequal
    shapes.
    """
    _check(student, teacher)
    s, t = (F.normalize(_wide(x), dim=-1) for x in (student, teacher.detach()))
    return 1 - (s * t).sum(-1).mean(-1)


class ProjectorEnsemble(nn.Module):
    """Average several projectors: f(s) = 1/q sum_k ReLU(W_k s + b_k).

    PEFD, Chen et al., "Improved Feature Distillation via Projector Ensemble", NeurIPS 2022.
    Projectors from the student's width to the teacher's, which start from different weights and
    exist in training alone. Without the ReLU the mean of q linear maps would be one linear map.
    The paper projects features that are behind a ReLU; attention outputs have negative entries
    too, which such a mean cannot reach: the loss then has a floor above 0.
    """

    def __init__(self, student_width: int, teacher_width: int, count: int, seed: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            seeded_linear(student_width, teacher_width, seed_of(seed, k)) for k in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_s) -> (..., d_t)."""
        return torch.stack([projector(x).relu() for projector in self.each]).mean(0)


def seeded_linear(student_width: int, teacher_width: int, seed: int) -> nn.Linear:
    """Make a linear map whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(student_width, teacher_width)


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.ndim < 2 or student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher {shapes}; must have equal shapes (..., n, d)")


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
