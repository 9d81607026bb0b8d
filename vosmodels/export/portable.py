"""Prepare a student's network so that every format takes its graphs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vosmodels.inference.fold import for_inference
from vosmodels.spacetime.decoder import ASPP
from vosmodels.spacetime.network import SpaceTimeNetwork


def portable(model: SpaceTimeNetwork) -> SpaceTimeNetwork:
    """Return a copy of a model whose graphs every format takes, equal up to rounding."""
    network = for_inference(model, stripes=False)
    if isinstance(network.decoder.aspp, ASPP):
        network.decoder.aspp = BiasedASPP(network.decoder.aspp)
    # litert-torch 0.10 tells weights apart by their address, and takes that of a short-lived copy
    # where one is not laid out in its order: several then get the values of another.
    return network.to(memory_format=torch.contiguous_format)


class BiasedASPP(nn.Module):
    """A folded `ASPP` whose image mean is no map: its share of the projection is a bias.

    The projection is linear: W [near, mean] + b = W_near near + (W_mean mean + b). LiteRT cannot
    allocate a graph in which the mean is repeated over a map.
    """

    def __init__(self, aspp: ASPP) -> None:
        super().__init__()
        self.branches, self.pool = aspp.branches, aspp.pool
        pool, project = aspp.pool[0], aspp.project[0]
        assert isinstance(pool, nn.Conv2d) and isinstance(project, nn.Conv2d)
        width, out = pool.out_channels, project.out_channels
        self.near = nn.Conv2d(project.in_channels - width, out, 1, bias=False)
        self.mean = nn.Conv2d(width, out, 1)
        self.requires_grad_(False)
        near, mean = project.weight.split([project.in_channels - width, width], 1)
        self.near.weight.copy_(near)
        self.mean.load_state_dict({"weight": mean, "bias": project.bias})

    def forward(self, x: Tensor) -> Tensor:
        """Pool (M, C, h, w) -> (M, C, h, w), as `ASPP`."""
        near = self.near(torch.cat([branch(x) for branch in self.branches], 1))
        bias = self.mean(self.pool(x.mean((2, 3), keepdim=True)))  # (M, C, 1, 1)
        return functional.relu(near + bias)
