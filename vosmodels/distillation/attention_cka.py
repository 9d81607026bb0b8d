"""Compare two attentions of the same positions by centred kernel alignment (CKA)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Route = Literal["auto", "features", "grams"]
ROUNDING = 8  # a matrix whose centred norm is below so many roundings of its norm is constant


def linear_cka(a: Tensor, b: Tensor, route: Route = "auto") -> Tensor:
    """Compute the linear CKA of features of the same positions in two networks.

        CKA(A, B) = H(A, B) / sqrt(H(A, A) H(B, B)),   H(A, B) = <A_c A_c^T, B_c B_c^T>

    Kornblith et al., arXiv:1905.00414, with a linear kernel and the biased HSIC, whose factor
    1 / (n - 1)^2 cancels; A_c has the mean row taken off. Truong et al. ("Self-supervised Video
    Object Segmentation with Distillation Learning of Deformable Attention") print H(A, B) twice
    under the root of their equation 8, which would make every score 1.
    H is also |A_c^T B_c|^2 (Frobenius), the route "features": O(n d^2) for value and gradient,
    where "grams" takes O(n^2 d); "auto" takes the cheaper one.

    a (..., n, d_a), b (..., n, d_b): row i of both is the same position; the widths may differ.
    -> (...) in [0, 1], in float32 or wider under any autocast. It is 1 for features that are equal
    up to a rotation and a scale. Without variation, n = 0 and n = 1 included, it is 0 with a zero
    gradient. Raises ValueError on shapes that do not match.
    """
    if a.ndim < 2 or a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            f"a {tuple(a.shape)} and b {tuple(b.shape)} must be (..., n, d_a) and (..., n, d_b) "
            "with equal n"
        )
    if route == "auto":
        route = cheaper(a.shape[-2], a.shape[-1], b.shape[-1])
    with torch.autocast(a.device.type, enabled=False):
        wide = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        x, y = _unit(a.to(wide)), _unit(b.to(wide))
        if route == "grams":
            x, y = x @ x.mT, y @ y.mT  # (..., n, n)
            cross, own = (x * y).sum((-2, -1)), x.square().sum((-2, -1)) * y.square().sum((-2, -1))
        else:
            cross = _square(x.mT @ y)  # (..., d_a, d_b)
            own = _square(x.mT @ x) * _square(y.mT @ y)
        varies = own > 0
        score = cross / torch.where(varies, own, 1.0).sqrt()
        return score.clamp_max(1.0)


def cheaper(n: int, d_a: int, d_b: int) -> Literal["features", "grams"]:
    """Return the route of `linear_cka` with the fewer multiplications."""
    features = d_a * d_b + d_a**2 + d_b**2
    return "features" if features <= n * (d_a + d_b) else "grams"


def _square(x: Tensor) -> Tensor:
    return x.square().sum((-2, -1))


def _unit(x: Tensor) -> Tensor:
    """Take the mean row off and divide by the norm; zeros where nothing is left but rounding.

    The score does not depend on the scale, so the norm is a constant of the gradient, and the
    squares of a product neither overflow nor vanish.
    """
    if x.numel() == 0:
        return x
    with torch.no_grad():
        largest = x.abs().amax((-2, -1), keepdim=True)
    x = x / torch.where(largest > 0, largest, 1.0)
    centred = x - x.mean(-2, keepdim=True)
    with torch.no_grad():
        norm = centred.square().sum((-2, -1), keepdim=True).sqrt()
        all_of_it = x.square().sum((-2, -1), keepdim=True).sqrt()
        varies = norm > ROUNDING * torch.finfo(x.dtype).eps * all_of_it
        factor = torch.where(varies, 1 / torch.where(varies, norm, 1.0), 0.0)
    return centred * factor
