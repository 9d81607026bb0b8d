"""What a student learns from a teacher: the correlation loss on z, the KL on logits.

The correlation loss compares all pairs of n pixels. `dense` writes that out and is the reference;
`tiled` and `classwise` give the same value and gradient without an n x n matrix in memory.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger(__name__)

Method = Literal["auto", "dense", "tiled", "classwise"]
TILE = {"cpu": 512, "cuda": 4096}  # rows of a tile: it fits a core's cache, or fills a GPU
DENSE_UP_TO = {"cpu": 192, "cuda": 1024}  # pixels below which tiles save nothing


def correlation_loss(
    z_student: Tensor,
    z_teacher: Tensor,
    labels: Tensor,
    omega: float,
    method: Method = "auto",
    norm: Literal["n", "none"] = "n",
    inputs: torch.dtype | None = None,
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

    method: dense has n x n matrices in memory; tiled visits them tile by tile, O(n d) memory;
    classwise needs omega = 0 and none of them, O(n d^2) time; auto picks (`pick`). inputs: type
    that tiled rounds what it multiplies to (bfloat16); sums are in float32 or wider all the same.
    Raises ValueError on shapes that do not match, omega outside [0, 1], classwise with another.
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
    if method == "classwise" and omega != 0:
        raise ValueError(f"method classwise with omega {omega}; it is exact for omega 0 only")
    if method == "auto":
        method = pick(len(z_student), omega, z_student.device.type)
    if len(z_student) == 0:
        return z_student.sum() * 0
    with torch.autocast(z_student.device.type, enabled=False):
        student = F.normalize(_wide(z_student), dim=1)
        teacher = F.normalize(_wide(z_teacher.detach()), dim=1).to(student.dtype)
        y = _weights(labels, student.dtype)
        value: Tensor
        if method == "classwise":
            value = _ClosedForm.apply(student, *_classwise(student.detach(), y, labels.ndim == 2))
        elif method == "tiled":
            mixed = torch.cat([omega**0.5 * teacher, (1 - omega) ** 0.5 * y], 1)  # R = m m^T
            value = _ClosedForm.apply(student, *_tiled(student.detach(), mixed, inputs))
        else:
            value = _dense(student, teacher, y, omega)
    return value / len(student) if norm == "n" else value


def pick(n: int, omega: float, device: str) -> Method:
    """The fastest exact method for n pixels on a device type; each choice is logged once."""
    kind = "cuda" if device == "cuda" else "cpu"
    if n <= DENSE_UP_TO[kind]:
        return _said("dense", kind)
    return _said("classwise" if omega == 0 else "tiled", kind)


@functools.cache
def _said(method: Method, kind: str) -> Method:
    above = f"{DENSE_UP_TO[kind]} pixels on {kind}"
    logger.info(
        "correlation loss: %s for %s %s", method, "up to" if method == "dense" else "above", above
    )
    return method


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


class _ClosedForm(torch.autograd.Function):
    """A scalar whose gradient came with it: backward is one multiplication."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.to(student.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0], None, None


def _closed(student: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """log2 A - log2 B and its gradient, from unit rows S (n, d) and V = (K * R * R) S, K = S S^T.

        A = |K|^2 = |S^T S|^2,   B = |K * R|^2 = <S, V>
        dL/dS = 4 / ln 2 (S S^T S / A - V / B)

    B enters as a number only, so one sweep over the pairs gives value and gradient. Both numbers
    are summed in float64.
    """
    gram = student.T @ student  # (d, d)
    tiny = torch.finfo(student.dtype).tiny
    full = gram.double().square().sum()
    matched = (student.double() * v.double()).sum()
    gradient = (student @ gram) * _slope(full, tiny).to(student.dtype)
    gradient.sub_(v * _slope(matched, tiny).to(student.dtype))
    return torch.log2(full.clamp_min(tiny)) - torch.log2(matched.clamp_min(tiny)), gradient


def _slope(total: Tensor, tiny: float) -> Tensor:
    """4 / (ln 2 total); 0 where rows that are all zero leave nothing to divide by."""
    return torch.where(total > tiny, 4 / math.log(2) / total.clamp_min(tiny), 0.0)


def _tiled(student: Tensor, mixed: Tensor, inputs: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Unit rows (n, d) and rows m (n, e) with R = m m^T. K and R are symmetric: half of the tiles
    is enough, each serves its rows and its columns."""
    tile = TILE["cuda" if student.is_cuda else "cpu"]
    s, m = (x if inputs is None else x.to(inputs) for x in (student, mixed))
    v = torch.zeros_like(student)
    for start in range(0, len(s), tile):
        rows = slice(start, start + tile)
        for other in range(start, len(s), tile):
            columns = slice(other, other + tile)
            weight = _product(m[rows], m[columns].T).square_()
            weight.mul_(_product(s[rows], s[columns].T))  # K * R * R
            v[rows] += _product(weight.to(s.dtype), s[columns])
            if other != start:
                v[columns] += _product(weight.to(s.dtype).T, s[rows])
    return _closed(student, v)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, summed and returned in float32 or wider, whatever type they are stored in."""
    if a.dtype in (torch.float32, torch.float64):
        return a @ b
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


def _classwise(student: Tensor, y: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
    """omega = 0: R = Y Y^T, and V is a sum over pairs of classes c, c' of u S^T diag(u) S with
    u = y_c y_c'. Ids have u = 0 for c != c'."""
    v = torch.zeros_like(student)
    classes = y.shape[1]
    for c in range(classes):
        for other in range(c, classes if soft else c + 1):
            u = (y[:, c] * y[:, other]).unsqueeze(1)  # (n, 1)
            weighed = student * u
            twice = 1 if other == c else 2
            v += twice * (weighed @ (weighed.T @ student))
    return _closed(student, v)


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
