"""Encode images by ResNet-18/50 or MobileNetV2 up to stride 16; load weights.

BatchNorm is frozen in training, by `SpaceTimeNetwork.train`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn

from vosmodels.errors import InputError
from vosmodels.support.digests import check_file, check_sha256
from vosmodels.support.tensors import read_weights_file
from vosmodels.types import Features

logger = logging.getLogger(__name__)

RESNET_CHANNELS = {"resnet18": (64, 128, 256), "resnet50": (256, 512, 1024)}
MOBILENET_CHANNELS = (24, 32, 96)
MOBILENET_TAPS = (3, 6, 13)  # outputs of torchvision's `features` at strides 4, 8 and 16
RGB = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_AS_SAVED = "give weights as torchvision saves them"


class Encoder(nn.Module):
    """A truncated torchvision network; `architecture` is torchvision's name."""

    architecture: str

    def torchvision_name(self, key: str) -> str | None:
        """Return torchvision's name of our state-dict key; None if it has none."""
        return key


class KeyEncoder(Encoder):
    """An encoder of normalised frames (M, 3, H, W) to Features.

    channels: the widths of (s4, s8, s16).
    """

    channels: tuple[int, int, int]


class ValueEncoder(Encoder):
    """An encoder of masks to memory values.

    Maps ([frame,] mask[, others]) (M, 2 to 5, H, W) and key features s16 (M, C, h, w) to
    (M, C_v, h, w). sees_frame, sees_others: the input holds the frame, the other objects' mask.
    """

    sees_frame: bool
    sees_others: bool
    fuser: nn.Module


class ResNetEncoder(KeyEncoder):
    """torchvision's ResNet through layer3; `layer1` is named `res2`, as in STCN."""

    def __init__(self, architecture: Literal["resnet18", "resnet50"]) -> None:
        super().__init__()
        self.architecture = architecture
        self.channels = RESNET_CHANNELS[architecture]
        net = torchvision.models.get_model(architecture, weights=None)
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.relu, self.maxpool = net.relu, net.maxpool
        self.res2, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3

    def forward(self, frames: Tensor) -> Features:
        """Encode normalised frames (M, 3, H, W)."""
        s4 = self.res2(self.maxpool(self.relu(self.bn1(self.conv1(frames)))))
        s8 = self.layer2(s4)
        return Features(s4, s8, self.layer3(s8))

    def torchvision_name(self, key: str) -> str | None:
        return "layer1." + key.removeprefix("res2.") if key.startswith("res2.") else key


class MobileNetV2Encoder(KeyEncoder):
    """torchvision's MobileNetV2 `features[0:14]`: up to stride 16, without dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.architecture = "mobilenet_v2"
        self.channels = MOBILENET_CHANNELS
        self.features = _mobilenet_features()

    def forward(self, frames: Tensor) -> Features:
        """Encode normalised frames (M, 3, H, W)."""
        first, second, third = (tap + 1 for tap in MOBILENET_TAPS)
        s4 = self.features[:first](frames)
        s8 = self.features[first:second](s4)
        return Features(s4, s8, self.features[second:third](s8))


class ResNet18ValueEncoder(ValueEncoder):
    """STCN's value encoder: ResNet-18 through layer3, then `fuser`.

    Every convolution has a bias. The input has 5 channels with the frame, the object's and the
    other objects' mask; 4 without the others' mask.
    """

    channels = RESNET_CHANNELS["resnet18"][2]

    def __init__(self, fuser: nn.Module, *, sees_others: bool = True) -> None:
        super().__init__()
        self.architecture = "resnet18"
        self.sees_frame = True
        self.sees_others = sees_others
        net = torchvision.models.resnet18(weights=None)
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
        self.conv1 = _mask_stem(net.conv1.weight, True, sees_others, bias=True)
        self.bn1, self.relu, self.maxpool = net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3
        self.fuser = fuser

    def forward(self, x: Tensor, key_s16: Tensor) -> Tensor:
        """Encode x (M, 4 or 5, H, W) and key_s16 (M, C_16, h, w) -> (M, C_v, h, w)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        value: Tensor = self.fuser(self.layer3(self.layer2(self.layer1(x))), key_s16)
        return value

    def torchvision_name(self, key: str) -> str | None:
        module, _, leaf = key.rpartition(".")
        biased_here_only = leaf == "bias" and isinstance(self.get_submodule(module), nn.Conv2d)
        return None if biased_here_only or key.startswith("fuser.") else key


class MobileNetV2ValueEncoder(ValueEncoder):
    """A value encoder of MobileNetV2 `features[0:14]`, then `fuser`.

    The students' encoder does not see the frame: MobileVOS, arXiv:2303.07815, section 4.
    """

    channels = MOBILENET_CHANNELS[2]

    def __init__(self, fuser: nn.Module, *, sees_frame: bool, sees_others: bool = True) -> None:
        super().__init__()
        self.architecture = "mobilenet_v2"
        self.sees_frame = sees_frame
        self.sees_others = sees_others
        self.features = _mobilenet_features()
        rgb = self.features.get_parameter("0.0.weight")
        self.features.set_submodule("0.0", _mask_stem(rgb, sees_frame, sees_others))
        self.fuser = fuser

    def forward(self, x: Tensor, key_s16: Tensor) -> Tensor:
        """Encode x (M, 2 to 5, H, W) and key_s16 (M, C_16, h, w) -> (M, C_v, h, w)."""
        value: Tensor = self.fuser(self.features(x), key_s16)
        return value

    def torchvision_name(self, key: str) -> str | None:
        # A stem that sees masks alone has no counterpart in weights learned from photos.
        mask_stem = key.startswith("features.0.") and not self.sees_frame
        return None if mask_stem or key.startswith("fuser.") else key


def _mobilenet_features() -> nn.Sequential:
    features: nn.Sequential = torchvision.models.mobilenet_v2(weights=None).features
    return features[: MOBILENET_TAPS[-1] + 1]


def _mask_stem(
    rgb: Tensor, sees_frame: bool, sees_others: bool, *, bias: bool = False
) -> nn.Conv2d:
    """Build a stem for ([frame,] mask[, others]) from the shape of a stem for frames.

    rgb: the weights of the stem for frames, for their shape alone. The masks' channels start
    orthogonal, as in STCN. The frame's channels start at zero, because random ones would bury the
    mask among features of the frame, which the key provides too; `load_backbone` fills them.
    """
    width, _, kernel, _ = rgb.shape
    mask_channels = 1 + sees_others
    channels = RGB * sees_frame + mask_channels
    stem = nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2, bias=bias)
    with torch.no_grad():
        masks = nn.init.orthogonal_(torch.empty(width, mask_channels, kernel, kernel))
        stem.weight.copy_(torch.cat([torch.zeros_like(rgb), masks], 1) if sees_frame else masks)
        if stem.bias is not None:
            stem.bias.zero_()
    return stem


def load_backbone(model: nn.Module, source: Path | Literal["imagenet"]) -> tuple[nn.Module, ...]:
    """Load ImageNet weights into a model's encoders; return modules not to calibrate.

    source: a file with torchvision's names (safetensors or .pth), or "imagenet" for torchvision's
    own weights. The key encoder is loaded entirely. The value encoder is loaded too if the weights
    are of its architecture ("imagenet": always), except for its mask channels. Returned are
    the `settled_parts`, for `calibration.calibrate(loaded=...)`.
    Raises InputError on a model without such encoders, an unreadable file, a missing key, a shape
    mismatch or no network; the model is then unchanged.
    """
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    settled = settled_parts(model)
    if not settled:
        raise InputError(
            f"{source}: {type(model).__name__} has no encoder that these weights could start; "
            "leave `backbone` out, or give whole weights as `weights`"
        )
    key_encoder = settled[0]
    if isinstance(source, Path):
        tensors = read_weights_file(source)
        encoders = [e for e in encoders if e.architecture == key_encoder.architecture]
        fills = [_fitting(e, tensors, str(source)) for e in encoders]
    else:
        fills = [_fitting(e, _imagenet(e.architecture), e.architecture) for e in encoders]
    for encoder, state in zip(encoders, fills, strict=True):
        encoder.load_state_dict(state, strict=False)
    logger.info("backbone source=%s architecture=%s", source, key_encoder.architecture)
    return settled


def settled_parts(model: nn.Module) -> tuple[KeyEncoder, ...]:
    """Return the parts of a model whose BatchNorm statistics `load_backbone` brings along.

    Those of the value encoder are of frames, not of frames and masks, and do not count.
    """
    return tuple(module for module in model.modules() if isinstance(module, KeyEncoder))


def _fitting(encoder: Encoder, tensors: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """Return the part of the encoder's state that `tensors` hold.

    tensors: by torchvision's names; place: their file, for messages."""
    filled: dict[str, Tensor] = {}
    for key, own in encoder.state_dict().items():
        name = encoder.torchvision_name(key)
        if name is None or (key.endswith("num_batches_tracked") and name not in tensors):
            continue
        if name not in tensors:
            raise InputError(
                f"{place}: no weights for {name!r}, so this is not a {encoder.architecture} with "
                f"torchvision's names (it starts with {sorted(tensors)[:3]}); give such a file"
            )
        value, shape = tensors[name], own.shape
        if own.ndim == 4 and own.shape[1] in (RGB + 1, RGB + 2):  # a stem of frame and masks
            shape = torch.Size([own.shape[0], RGB, *own.shape[2:]])
        if value.shape != shape:
            raise InputError(
                f"{place}: {name!r} has shape {tuple(value.shape)}, {encoder.architecture} wants "
                f"{tuple(shape)}; give weights of that architecture"
            )
        if value.is_floating_point() != own.is_floating_point():
            raise InputError(f"{place}: {name!r} is {value.dtype}, wanted {own.dtype}; {_AS_SAVED}")
        value = value.to(own)
        filled[key] = value if shape == own.shape else torch.cat([value, own[:, RGB:]], 1)
    return filled


def check_imagenet(model: nn.Module) -> None:
    """Raise InputError where torchvision's cached weights for a model's encoders are corrupt.

    Weights that are not cached yet are left to `load_backbone`, which fetches them.
    """
    for module in model.modules():
        if isinstance(module, Encoder):
            _, path = _imagenet_file(module.architecture)
            if path.exists():
                _check_imagenet(path)


def _imagenet(architecture: str) -> Mapping[str, Tensor]:
    url, path = _imagenet_file(architecture)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, EOFError) as error:  # URLError and its kin are OSErrors
            raise InputError(
                f"{url}: cannot be fetched ({error}); without network give the same weights "
                f"as a file: backbone: FILE"
            ) from error
    _check_imagenet(path)
    return read_weights_file(path)


def _imagenet_file(architecture: str) -> tuple[str, Path]:
    """Return the address of torchvision's weights and the file that torch keeps them in."""
    url: str = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1.url
    return url, Path(torch.hub.get_dir()).expanduser() / "checkpoints" / url.rpartition("/")[2]


def _check_imagenet(path: Path) -> None:
    """Compare a cached file with the first digits of its sha256, which end its name."""
    expected = path.stem.rpartition("-")[2]
    remedy = "delete it, and the next run fetches it again"
    check_file(path, remedy)
    check_sha256(path, expected, remedy, named_in="the one that its name ends in")
