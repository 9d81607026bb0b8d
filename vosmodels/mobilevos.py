"""MobileVOS, arXiv:2303.07815: the students. STCN made small, with a memory of two frames.

The paper gives parameter totals only; the widths of the presets in `registry.py` meet them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, PositiveFloat, PositiveInt
from torch import nn

from vosmodels.backbones import (
    KeyEncoder,
    MobileNetV2Encoder,
    MobileNetV2ValueEncoder,
    ResNetEncoder,
)
from vosmodels.decoder import ASPP, Decoder, Fuser
from vosmodels.spacetime import KeyProjection, SpaceTimeNetwork


class MobileVOSConfig(BaseModel, frozen=True, extra="forbid"):
    """Defaults are the ResNet-18 student, 8.1 M parameters."""

    backbone: Literal["resnet18", "mobilenet_v2"] = "resnet18"
    key_channels: PositiveInt = 64  # width of the matching space
    value_channels: PositiveInt = 128  # width of what is remembered; a multiple of 16
    decoder_channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (128, 128, 64)  # s16, s8, s4
    aspp_channels: PositiveInt | None = 192  # width of each ASPP branch; null: no ASPP
    aspp_rates: tuple[PositiveInt, ...] = (6, 12, 18)  # dilation of its 3x3 branches
    key_gain: PositiveFloat = 1.0  # of the key projection's orthogonal initialisation
    queue: PositiveInt = 2  # frames remembered: the first and the latest
    detach_feedback: bool = False  # no gradient through the masks fed back in training


class MobileVOS(SpaceTimeNetwork):
    """The network of MobileVOSConfig: MobileNetV2 value encoder without the frame, 1x1 prediction.

    Every frame enters the queue, in training as at inference.
    """

    def __init__(self, config: MobileVOSConfig) -> None:
        key_encoder: KeyEncoder
        if config.backbone == "resnet18":
            key_encoder = ResNetEncoder("resnet18")
        else:
            key_encoder = MobileNetV2Encoder()
        s4, s8, s16 = key_encoder.channels
        width = 2 * config.value_channels
        fuser = Fuser(MobileNetV2ValueEncoder.channels + s16, config.value_channels)
        aspp = None
        if config.aspp_channels is not None:
            aspp = ASPP(width, config.aspp_channels, config.aspp_rates)
        super().__init__(
            key_encoder=key_encoder,
            key_proj=KeyProjection(s16, config.key_channels, config.key_gain),
            key_comp=nn.Conv2d(s16, config.value_channels, 3, padding=1),
            value_encoder=MobileNetV2ValueEncoder(fuser, sees_frame=False),
            decoder=Decoder(width, (s4, s8), config.decoder_channels, pred_kernel=1, aspp=aspp),
            queue=config.queue,
            mem_every=1,
            detach_feedback=config.detach_feedback,
            config=config,
        )
