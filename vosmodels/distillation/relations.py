"""Compare how student and teacher rank objects at a pixel, and pixels of an object (DIST)."""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-8  # keeps a row or column without variation at correlation 0


def relation_losses(
    student: Tensor,
    teacher: Tensor,
    *,
    columns: int | None = None,
    present: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute DIST's two relation losses of pixels times objects.

        inter = mean_i (1 - r(S[i, :], T[i, :])),   intra = mean_j (1 - r(S[:, j], T[:, j]))

    DIST, Huang et al., arXiv:2205.10536, with Pearson's r = <a, b> / (|a| |b| + 1e-8) of
    mean-centred a and b; rows are pixels and columns objects, background included.

    student, teacher (..., n, K): probabilities. columns: rows have so many entries, of which those
    beyond K are 0 in both: with K = 2 alone r would be +1 or -1, without a gradient. present
    (..., K) bool: columns that intra averages; all by default. -> inter, intra, each (...), in
    float32 or wider. A row or column that does not vary has r = 0, so its loss
    is 1 with no gradient. The teacher gets no gradient.
    Raises ValueError on unequal shapes or columns below K.
    """
    return inter_loss(student, teacher, columns=columns), intra_loss(student, teacher, present)


def inter_loss(student: Tensor, teacher: Tensor, *, columns: int | None = None) -> Tensor:
    """Compute the first of `relation_losses`, between the objects of a pixel."""
    _check(student, teacher)
    k = student.shape[-1]
    if columns is not None and columns < k:
        raise ValueError(f"columns {columns} for probabilities of {k} columns; give {k} or more")
    r = pearson(_wide(student), _wide(teacher.detach()), dim=-1, length=columns)
    return 1 - r.mean(-1)


def intra_loss(student: Tensor, teacher: Tensor, present: Tensor | None = None) -> Tensor:
    """Compute the second of `relation_losses`, between the pixels of an object."""
    _check(student, teacher)
    distance = 1 - pearson(_wide(student), _wide(teacher.detach()), dim=-2)  # (..., K)
    if present is None:
        return distance.mean(-1)
    chosen = present.to(distance.dtype)
    return (distance * chosen).sum(-1) / chosen.sum(-1).clamp_min(1)


def _check(student: Tensor, teacher: Tensor) -> None:
    if student.ndim < 2 or student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher {shapes}; must have equal shapes (..., n, K)")


def pearson(a: Tensor, b: Tensor, dim: int, length: int | None = None) -> Tensor:
    """Return Pearson's r of a and b along `dim`; 0 where one does not vary.

    length: a and b are continued by zeros up to so many entries, without making them.
    """
    n = a.shape[dim]
    length = n if length is None else length
    mean_a, mean_b = (x.sum(dim, keepdim=True) / length for x in (a, b))
    a, b = a - mean_a, b - mean_b
    mean_a, mean_b = mean_a.squeeze(dim), mean_b.squeeze(dim)
    rest = length - n  # entries 0, at -mean once centred

    def norm(x: Tensor, mean: Tensor) -> Tensor:
        square = x.square().sum(dim) + rest * mean.square()
        varies = square > 0  # the root has no slope at 0
        return torch.where(varies, torch.where(varies, square, 1.0).sqrt(), 0.0)

    cross = (a * b).sum(dim) + rest * mean_a * mean_b
    return cross / (norm(a, mean_a) * norm(b, mean_b) + EPS)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
