"""Average weights by rules that search nothing, which a soup is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from soups.average import average


def wise_ft(
    stem: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """theta = (1 - alpha) theta_stem + alpha theta_tuned      WiSE-FT, arXiv:2109.01903

    alpha 0 is the stem, 1 the model trained from it, to the bit. Computed in float64 and cast back;
    integers must agree. Raises ValueError as `average`.
    """
    average([stem, tuned], ["the stem", "the checkpoint"])  # refuses what is not one architecture
    return {
        key: _between(base, tuned[key], alpha) if base.is_floating_point() else base.clone()
        for key, base in stem.items()
    }


def model_stock(
    stem: Mapping[str, Tensor], models: Sequence[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """theta = t mean_i(theta_i) + (1 - t) theta_stem,  t = N cos / (1 + (N - 1) cos)

    Model Stock, arXiv:2403.19522: the point nearest to the centre of the models
    on the plane through them and the stem, layer by layer. N models, from 2 on; cos is the mean
    over pairs of the cosine between theta_i - theta_stem and theta_j - theta_stem of a layer, and
    a layer is a tensor here. Below 0, where the formula leaves the plane, cos is 0, and the layer
    the stem's; a tensor that a model did not change has no angle, and does not count. Integers must
    agree. Raises ValueError for fewer than two models, and as `average`.
    """
    if len(models) < 2:
        raise ValueError(f"{len(models)} models: Model Stock takes the angle between two or more")
    names = ["the stem", *(f"model {number}" for number in range(len(models)))]
    average([stem, *models], names)
    mean = average(models)
    return {
        key: _between(base, mean[key], stock_ratio(base, [model[key] for model in models]))
        if base.is_floating_point()
        else base.clone()
        for key, base in stem.items()
    }


def stock_ratio(stem: Tensor, models: Sequence[Tensor]) -> float:
    """Return t of `model_stock` for one tensor, in [0, 1]."""
    ways = [(model.double() - stem.double()).flatten() for model in models]
    lengths = [float(way.norm()) for way in ways]
    cosines = [
        float(ways[i] @ ways[j]) / (lengths[i] * lengths[j])
        for i, j in itertools.combinations(range(len(ways)), 2)
        if lengths[i] and lengths[j]
    ]
    if not cosines:
        return 1.0  # at most one model changed it
    cosine = min(1.0, max(0.0, math.fsum(cosines) / len(cosines)))
    return len(ways) * cosine / (1 + (len(ways) - 1) * cosine)


def _between(start: Tensor, end: Tensor, share: float) -> Tensor:
    value: Tensor = (1 - share) * start.double() + share * end.double()
    return torch.as_tensor(value).to(start.dtype)
