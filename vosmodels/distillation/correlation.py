"""Compute MobileVOS's correlation loss between student and teacher features z.

The loss compares all pairs of n pixels. `dense` writes out the formula and is the reference;
`tiled` and `classwise` give the same value and gradient without an n x n matrix in memory.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vosmodels.types import CorrelationMethod, CorrelationNorm

TILE = {"cpu": 512, "cuda": 4096}  # rows of a tile, which fits a core's cache or fills a GPU
DENSE_UP_TO = {"cpu": 192, "cuda": 1024}  # pixels up to which tiles save no time


def correlation_loss(
    z_student: Tensor,
    z_teacher: Tensor,
    labels: Tensor,
    omega: float,
    method: CorrelationMethod = "auto",
    norm: CorrelationNorm = "n",
    inputs: torch.dtype | None = None,
    classes: int | None = None,
) -> Tensor:
    """Compute the correlation loss of one item (one frame, one object).

        L = (log2 |C_s|^2 - log2 |C_s * R|^2) / n,    R = omega C_t + (1 - omega) Y Y^T

    MobileVOS, arXiv:2303.07815, eq. 2, 6 and Algorithm 1, with C = Z Z^T of unit rows, |.| the
    Frobenius norm, * element by element, Y one-hot. omega = 1 distils the teacher's correlations,
    omega = 0 is the supervised contrastive loss. Entries of R are at most 1, so L >= 0.
    The paper divides by |C_s| in eq. 2 and by len(z_s) = n in Algorithm 1; here by n (norm "n") or
    by 1 (norm "none").

    z_student (n, d_s), z_teacher (n, d_t): rows of any length, normalised here; the widths may
    differ. labels (n,) class ids from 0, or (n, K) class weights. -> scalar, in float32 or wider.
    n = 0 gives 0 with a zero gradient, and so does n = 1, which has no pair. A row of zeros has
    correlation 0 with every row.

    method: dense holds n x n matrices; tiled visits them tile by tile in O(n d) memory; classwise
    is exact for omega = 0 alone, in O(n d^2) time without n x n matrices; auto calls `pick`.
    inputs: type to which tiled rounds the factors of its products (bfloat16); sums are in float32
    or wider. classes: number of ids K; None counts the ids, for which the host waits for a GPU.
    Raises ValueError on shapes that do not match, omega outside [0, 1], or classwise with omega >
    0.
    """
    if z_student.ndim != 2 or z_teacher.ndim != 2 or len(z_student) != len(z_teacher):
        raise ValueError(
            f"z_student {tuple(z_student.shape)} and z_teacher {tuple(z_teacher.shape)} "
            "must be (n, d_s) and (n, d_t) with equal n"
        )
    if len(labels) != len(z_student):
        raise ValueError(f"labels {tuple(labels.shape)} for {len(z_student)} rows")
    if not 0 <= omega <= 1:
        raise ValueError(f"omega {omega}; must be in [0, 1]")
    if method == "classwise" and omega != 0:
        raise ValueError(
            f"method classwise with omega {omega}; classwise is exact for omega 0 only"
        )
    if method == "auto":
        method = pick(len(z_student), omega, z_student.device.type)
    if len(z_student) == 0:
        return z_student.sum() * 0
    with torch.autocast(z_student.device.type, enabled=False):
        student = F.normalize(_wide(z_student), dim=1)
        teacher = F.normalize(_wide(z_teacher.detach()), dim=1).to(student.dtype)
        y = _weights(labels, student.dtype, classes)
        learns = torch.is_grad_enabled() and student.requires_grad
        value: Tensor
        if method == "classwise":
            parts = _classwise(student.detach(), y, labels.ndim == 2, learns)
            value = _closed(student, *parts)
        elif method == "tiled":
            mixed = torch.cat([omega**0.5 * teacher, (1 - omega) ** 0.5 * y], 1)  # R = m m^T
            value = _closed(student, *_tiled(student.detach(), mixed, inputs, learns))
        else:
            value = _dense(student, teacher, y, omega)
    return value / len(student) if norm == "n" else value


def pick(n: int, omega: float, device: str) -> CorrelationMethod:
    """Return the fastest exact method for n pixels on a device type (cpu, cuda)."""
    if n <= DENSE_UP_TO["cuda" if device == "cuda" else "cpu"]:
        return "dense"
    return "classwise" if omega == 0 else "tiled"


def _wide(z: Tensor) -> Tensor:
    return z if z.dtype == torch.float64 else z.float()


def _weights(labels: Tensor, dtype: torch.dtype, classes: int | None) -> Tensor:
    """Return class weights Y (n, K); ids (n,) become one-hot rows."""
    if labels.ndim == 2:
        return labels.to(dtype)
    return F.one_hot(labels.long(), classes or -1).to(dtype)


def _dense(student: Tensor, teacher: Tensor, y: Tensor, omega: float) -> Tensor:
    """Compute n L by the formula, with all n x n matrices in memory: the reference."""
    correlation = student @ student.T  # (n, n)
    target = omega * (teacher @ teacher.T) + (1 - omega) * (y @ y.T)  # (n, n)
    tiny = torch.finfo(student.dtype).tiny  # keeps log2 finite if all rows are zero
    full = correlation.square().sum().clamp_min(tiny)
    matched = (correlation * target).square().sum().clamp_min(tiny)
    return torch.log2(full) - torch.log2(matched)


class _ClosedForm(torch.autograd.Function):
    """A scalar with a precomputed gradient: backward is one multiplication."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.to(student.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0], None, None


def _closed(student: Tensor, matched: Tensor, v: Tensor | None) -> Tensor:
    """Compute log2 A - log2 B of unit rows S (n, d), with its gradient from V.

        K = S S^T,   V = (K * R * R) S
        A = |K|^2 = |S^T S|^2,   B = |K * R|^2 = <S, V>
        dL/dS = 4 / ln 2 (S S^T S / A - V / B)

    B (`matched`) enters as a number alone, so one pass over the pairs gives value and gradient.
    A and B are summed in float64. Without V (None) the result has no gradient.
    """
    rows = student.detach()
    gram = rows.T @ rows  # (d, d)
    tiny = torch.finfo(rows.dtype).tiny
    full = gram.double().square().sum()
    value = torch.log2(full.clamp_min(tiny)) - torch.log2(matched.clamp_min(tiny))
    if v is None:
        return value.to(rows.dtype)
    gradient = (rows @ gram) * _slope(full, tiny).to(rows.dtype)
    gradient.sub_(v * _slope(matched, tiny).to(rows.dtype))
    attached: Tensor = _ClosedForm.apply(student, value, gradient)
    return attached


def _slope(total: Tensor, tiny: float) -> Tensor:
    """Return 4 / (ln 2 total), or 0 if all rows are zero and total is too."""
    return torch.where(total > tiny, 4 / math.log(2) / total.clamp_min(tiny), 0.0)


def _tiled(
    student: Tensor, mixed: Tensor, inputs: torch.dtype | None, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """Compute B and V of `_closed` tile by tile.

    student: unit rows S (n, d); mixed: rows m (n, e) with R = m m^T; learns: compute V, else V is
    None. K and R are symmetric, so half of the tiles is enough: each tile serves its rows and its
    columns.
    """
    tile = TILE["cuda" if student.is_cuda else "cpu"]
    s, m = (x if inputs is None else x.to(inputs) for x in (student, mixed))
    matched = torch.zeros((), dtype=torch.float64, device=student.device)
    v = torch.zeros_like(student) if learns else None
    for start in range(0, len(s), tile):
        rows = slice(start, start + tile)
        for other in range(start, len(s), tile):
            columns = slice(other, other + tile)
            weight = _product(m[rows], m[columns].T)  # R
            if v is None:
                weight.mul_(_product(s[rows], s[columns].T)).square_()  # (K * R)^2
                matched += (1 if other == start else 2) * weight.sum()
                continue
            weight.square_().mul_(_product(s[rows], s[columns].T))  # K * R * R
            v[rows] += _product(weight.to(s.dtype), s[columns])
            if other != start:
                v[columns] += _product(weight.to(s.dtype).T, s[rows])
    return matched if v is None else (student.double() * v.double()).sum(), v


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b of any stored type, summed and returned in float32 or wider."""
    if a.dtype in (torch.float32, torch.float64):
        return a @ b
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def _classwise(
    student: Tensor, y: Tensor, soft: bool, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """Compute B and V of `_closed` for omega = 0, class by class.

        R = Y Y^T,   u = y_c y_c'
        V = sum_{c,c'} diag(u) S S^T diag(u) S,   B = sum_{c,c'} |S^T diag(u) S|^2

    soft: Y holds weights; ids have u = 0 for c != c', so only c = c' is summed. learns: compute V,
    else V is None.
    """
    matched = torch.zeros((), dtype=torch.float64, device=student.device)
    v = torch.zeros_like(student) if learns else None
    classes = y.shape[1]
    for c in range(classes):
        for other in range(c, classes if soft else c + 1):
            weighed = student * (y[:, c] * y[:, other]).unsqueeze(1)  # (n, d)
            gram = weighed.T @ student  # (d, d)
            twice = 1 if other == c else 2
            matched += twice * gram.double().square().sum()
            if v is not None:
                v += twice * (weighed @ gram)
    return matched, v
