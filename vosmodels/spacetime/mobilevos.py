"""Build MobileVOS (arXiv:2303.07815), the students: small, with a short memory.

The paper gives totals of parameters alone; the widths of the presets in `registry.py` are chosen to
meet these totals.
"""

from __future__ import annotations

from torch import nn

from vosmodels.backbones import (
    KeyEncoder,
    MobileNetV2Encoder,
    MobileNetV2ValueEncoder,
    ResNetEncoder,
)
from vosmodels.spacetime.configs import MobileVOSConfig
from vosmodels.spacetime.decoder import ASPP, Decoder, Fuser
from vosmodels.spacetime.network import KeyProjection, SpaceTimeNetwork


class MobileVOS(SpaceTimeNetwork):
    """The network of a MobileVOSConfig.

    The value encoder is a MobileNetV2 that does not see the frame, and the decoder's prediction is
    1x1.
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
            value_encoder=MobileNetV2ValueEncoder(
                fuser, sees_frame=False, sees_others=not config.single_object
            ),
            decoder=Decoder(width, (s4, s8), config.decoder_channels, pred_kernel=1, aspp=aspp),
            memory=config.rule,
            detach_feedback=config.detach_feedback,
            config=config,
        )
