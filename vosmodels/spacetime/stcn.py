"""Build STCN (arXiv:2106.05210), the teachers.

Its memory is unbounded and its value encoder sees the frame.
"""

from __future__ import annotations

from torch import nn

from vosmodels.backbones import (
    KeyEncoder,
    MobileNetV2Encoder,
    MobileNetV2ValueEncoder,
    ResNet18ValueEncoder,
    ResNetEncoder,
    ValueEncoder,
)
from vosmodels.spacetime.configs import STCNConfig
from vosmodels.spacetime.decoder import Decoder, Fuser
from vosmodels.spacetime.network import KeyProjection, SpaceTimeNetwork


class STCN(SpaceTimeNetwork):
    """The network of an STCNConfig, its encoders with torchvision's random weights."""

    def __init__(self, config: STCNConfig) -> None:
        key_encoder: KeyEncoder
        value_encoder: ValueEncoder
        if config.backbone == "resnet50":
            key_encoder = ResNetEncoder("resnet50")
        else:
            key_encoder = MobileNetV2Encoder()
        s4, s8, s16 = key_encoder.channels
        if config.value_backbone == "resnet18":
            fuser = Fuser(ResNet18ValueEncoder.channels + s16, config.value_channels)
            value_encoder = ResNet18ValueEncoder(fuser, sees_others=not config.single_object)
        else:
            fuser = Fuser(MobileNetV2ValueEncoder.channels + s16, config.value_channels)
            value_encoder = MobileNetV2ValueEncoder(
                fuser, sees_frame=True, sees_others=not config.single_object
            )
        super().__init__(
            key_encoder=key_encoder,
            key_proj=KeyProjection(s16, config.key_channels, config.key_gain),
            key_comp=nn.Conv2d(s16, config.value_channels, 3, padding=1),
            value_encoder=value_encoder,
            decoder=Decoder(
                2 * config.value_channels, (s4, s8), config.decoder_channels, pred_kernel=3
            ),
            memory=config.rule,
            detach_feedback=config.detach_feedback,
            config=config,
        )
