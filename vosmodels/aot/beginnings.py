"""Draw the weights that a model is trained from scratch with, so that it reads identities at once.

With the weights that public code begins with, the identities of the memory hardly change the
logits: the bank's bias is larger than its signal, attention is nearly uniform, the depth-wise
kernels are near zero, and the decoder's shortcuts from an ImageNet encoder are several times its
tokens. A short training then finds the foreground alone. Loaded weights replace both beginnings.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from vosmodels.aot.attention import Gated
from vosmodels.aot.decoder import FPNDecoder
from vosmodels.aot.propagation import LSTT, GPMLayer, LSTTLayer

SHARPER = 4.0  # of queries and keys, so of scores 16
SHORTCUT = 0.1  # of the decoder's maps of encoder features
LOUDER = 3.0  # of AOT's embeddings, which are added to features; DeAOT normalises its own


@torch.no_grad()
def read_identities(layers: nn.Module, decoder: FPNDecoder, bank: nn.Conv2d) -> None:
    """Change weights as public code draws them, where they hide the identities.

    The bank gives a patch of one identity an embedding of variance 1 and no bias, of AOT LOUDER
    times as large; queries and keys are SHARPER times as large, depth-wise convolutions behind
    attentions the identity, shortcuts SHORTCUT times as large.
    """
    added = isinstance(layers, LSTT)
    nn.init.orthogonal_(bank.weight.flatten(1), math.sqrt(bank.in_channels))
    if added:
        bank.weight *= LOUDER
        decoder.conv_in.conv.weight[:, : bank.out_channels] *= SHORTCUT  # the encoder's projection
    assert bank.bias is not None
    nn.init.zeros_(bank.bias)
    for layer in layers.modules():
        if isinstance(layer, GPMLayer):
            layer.linear_QV.weight[: layer.split[0]] *= SHARPER
        elif isinstance(layer, LSTTLayer):
            layer.linear_Q.weight *= SHARPER
        elif isinstance(layer, Gated):
            nn.init.dirac_(layer.dw_conv.conv.weight, groups=layer.dw_conv.conv.groups)
    for adapter in (decoder.adapter_16x, decoder.adapter_8x, decoder.adapter_4x):
        adapter.weight *= SHORTCUT
