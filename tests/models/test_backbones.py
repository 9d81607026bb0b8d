import dataclasses
import hashlib
import shutil
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from tests.model_tools import SHARED, network, textured_frames
from vosmodels.backbones import (
    KeyEncoder,
    MobileNetV2Encoder,
    ResNetEncoder,
    check_imagenet,
    load_backbone,
)
from vosmodels.errors import InputError
from vosmodels.support.tensors import read_weights_file


@pytest.fixture(scope="module")
def mobilenet() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = torchvision.models.mobilenet_v2(weights=None).state_dict()
    return {key: v + 0.5 if v.is_floating_point() else v for key, v in state.items()}


@pytest.fixture
def weights(tmp_path: Path, mobilenet: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "mobilenet.safetensors"
    safetensors.torch.save_file(mobilenet, path)
    return path


def _load_from_torchvision(encoder: KeyEncoder, net: nn.Module) -> None:
    theirs = net.state_dict()
    names = {key: encoder.torchvision_name(key) for key in encoder.state_dict()}
    encoder.load_state_dict({key: theirs[name] for key, name in names.items() if name})


@pytest.mark.parametrize(
    ("architecture", "taps"),
    [
        ("resnet18", ["layer1", "layer2", "layer3"]),
        ("resnet50", ["layer1", "layer2", "layer3"]),
        ("mobilenet_v2", ["features.3", "features.6", "features.13"]),
    ],
)
def test_encoders_give_torchvisions_features_at_strides_4_8_16(architecture: Any, taps: list[str]):
    torch.manual_seed(0)
    net = torchvision.models.get_model(architecture, weights=None).eval()
    encoder: KeyEncoder = MobileNetV2Encoder()
    if architecture != "mobilenet_v2":
        encoder = ResNetEncoder(architecture)
    _load_from_torchvision(encoder.eval(), net)
    frames = textured_frames(1, 64, 96)
    with torch.no_grad():
        found = encoder(frames)
        expected = list(create_feature_extractor(net, taps)(frames).values())
    for stride, mine, theirs, channels in zip(
        (4, 8, 16), (found.s4, found.s8, found.s16), expected, encoder.channels, strict=True
    ):
        assert mine.shape == (1, channels, 64 // stride, 96 // stride)
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_load_backbone_fills_the_key_encoder_from_torchvisions_names(
    tmp_path: Path, mobilenet: dict[str, torch.Tensor], suffix: str
):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(mobilenet, path)
    else:
        safetensors.torch.save_file(mobilenet, path)
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    assert load_backbone(model, path) == (model.key_encoder,)
    for key, value in model.key_encoder.state_dict().items():
        torch.testing.assert_close(value, mobilenet[key])


def test_load_backbone_leaves_the_mask_stem_and_the_rest_of_the_model_alone(weights: Path):
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_backbone(model, weights)
    changed = {key for key, v in model.state_dict().items() if not torch.equal(v, before[key])}
    assert "value_encoder.features.1.conv.0.0.weight" in changed
    assert "value_encoder.features.13.conv.3.bias" in changed
    assert {key for key in changed if key.startswith("value_encoder.features.0.")} == set()
    assert all(key.startswith(("key_encoder.", "value_encoder.features.")) for key in changed)


def test_load_backbone_fills_the_frame_channels_of_a_stem_that_sees_the_frame(
    weights: Path, mobilenet: dict[str, torch.Tensor]
):
    model = network("stcn_mobilenetv2", seed=0)
    masks = model.value_encoder.get_parameter("features.0.0.weight")[:, 3:].clone()
    load_backbone(model, weights)
    stem = model.value_encoder.get_parameter("features.0.0.weight")
    torch.testing.assert_close(stem[:, :3].detach(), mobilenet["features.0.0.weight"])
    torch.testing.assert_close(stem[:, 3:], masks)


def test_load_backbone_leaves_a_value_encoder_of_another_architecture_alone(tmp_path: Path):
    model = network("mobilevos_resnet18", seed=0)
    torch.manual_seed(3)
    path = tmp_path / "resnet18.safetensors"
    net = torchvision.models.resnet18(weights=None)
    safetensors.torch.save_file(net.state_dict(), path)
    before = {key: value.clone() for key, value in model.value_encoder.state_dict().items()}
    load_backbone(model, path)
    assert torch.equal(
        model.key_encoder.get_parameter("res2.0.conv1.weight"), net.layer1[0].conv1.weight
    )
    assert all(torch.equal(v, before[key]) for key, v in model.value_encoder.state_dict().items())


def test_mask_channels_of_a_stem_start_orthogonal():
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    stem = model.value_encoder.get_parameter("features.0.0.weight").detach().flatten(1)  # (32, 18)
    torch.testing.assert_close(stem.T @ stem, torch.eye(18), atol=1e-5, rtol=0)


def test_load_backbone_names_the_missing_key_and_changes_nothing(
    tmp_path: Path, mobilenet: dict[str, torch.Tensor]
):
    path = tmp_path / "short.safetensors"
    short = {k: v for k, v in mobilenet.items() if k != "features.13.conv.3.bias"}
    safetensors.torch.save_file(short, path)
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"short\.safetensors.*features\.13\.conv\.3\.bias"):
        load_backbone(model, path)
    assert all(torch.equal(v, before[key]) for key, v in model.state_dict().items())


def test_load_backbone_names_the_shape_found_and_wanted(
    tmp_path: Path, mobilenet: dict[str, torch.Tensor]
):
    path = tmp_path / "wide.safetensors"
    safetensors.torch.save_file({**mobilenet, "features.0.1.bias": torch.zeros(48)}, path)
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    with pytest.raises(InputError, match=r"features\.0\.1\.bias.*\(48,\).*\(32,\)"):
        load_backbone(model, path)


def test_imagenet_without_network_names_the_address_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    with pytest.raises(InputError, match=r"https://.*mobilenet_v2.*no route.*backbone: FILE"):
        load_backbone(model, "imagenet")


def _imagenet_cache(
    monkeypatch: pytest.MonkeyPatch, folder: Path, states: Mapping[str, dict[str, torch.Tensor]]
) -> dict[str, Path]:
    """Fill torch's cache with files named by the first digits of their sha256; return them."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    cache = folder / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    paths = {}
    for name, state in states.items():
        torch.save(state, cache / "new.pth")
        digest = hashlib.sha256((cache / "new.pth").read_bytes()).hexdigest()[:8]
        paths[name] = (cache / "new.pth").rename(cache / f"{name}-{digest}.pth")
        weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
        url = f"https://weights.invalid/models/{paths[name].name}"
        monkeypatch.setattr(weights, "_value_", dataclasses.replace(weights.value, url=url))
    return paths


def test_imagenet_fills_both_encoders_by_architecture_from_torchs_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mobilenet: dict[str, torch.Tensor]
):
    resnet = torchvision.models.resnet18(weights=None).state_dict()
    _imagenet_cache(monkeypatch, tmp_path, {"mobilenet_v2": mobilenet, "resnet18": resnet})
    model = network("mobilevos_resnet18", seed=0)
    load_backbone(model, "imagenet")
    check_imagenet(model)
    filled = model.value_encoder.get_parameter("features.1.conv.0.0.weight")
    torch.testing.assert_close(filled.detach(), mobilenet["features.1.conv.0.0.weight"])
    filled = model.key_encoder.get_parameter("res2.0.conv1.weight")
    torch.testing.assert_close(filled.detach(), resnet["layer1.0.conv1.weight"])


def test_imagenet_weights_that_are_fetched_are_kept_in_torchs_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mobilenet: dict[str, torch.Tensor]
):
    path = _imagenet_cache(monkeypatch, tmp_path, {"mobilenet_v2": mobilenet})["mobilenet_v2"]
    elsewhere = path.rename(tmp_path / "served.pth")
    asked: list[str] = []

    def serve(url: str, target: str, **_: Any) -> None:
        asked.append(url)
        shutil.copy(elsewhere, target)

    monkeypatch.setattr("torch.hub.download_url_to_file", serve)
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    check_imagenet(model)
    assert not path.exists()
    load_backbone(model, "imagenet")
    assert asked == [f"https://weights.invalid/models/{path.name}"]
    assert path.read_bytes() == elsewhere.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_file_in_torchs_cache_is_named_and_nothing_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mobilenet: dict[str, torch.Tensor],
    damage: str,
):
    path = _imagenet_cache(monkeypatch, tmp_path, {"mobilenet_v2": mobilenet})["mobilenet_v2"]
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        flipped = bytes([*data[:90000], data[90000] ^ 1, *data[90001:]])
        path.write_bytes({"cut": data[:5000], "flipped": flipped, "empty": b""}[damage])
    model = network("mobilevos_mobilenetv2_noaspp", seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    says = {"empty": "empty, 0 bytes", "folder": "is a folder"}.get(damage, "delete it, and the")
    for check in (lambda: load_backbone(model, "imagenet"), lambda: check_imagenet(model)):
        with pytest.raises(InputError, match=rf"{path}: .*{says}"):
            check()
    assert all(torch.equal(v, before[key]) for key, v in model.state_dict().items())


def test_load_backbone_refuses_integers_where_it_wants_floats(
    tmp_path: Path, mobilenet: dict[str, torch.Tensor]
):
    for odd, says in (
        (torch.ones(32, dtype=torch.int8), "is int8"),
        (torch.full((32,), torch.nan), r"has NaN \(32 of 32\)"),
    ):
        path = tmp_path / "odd.safetensors"
        safetensors.torch.save_file({**mobilenet, "features.0.1.bias": odd}, path)
        with pytest.raises(InputError, match=rf"'features\.0\.1\.bias' {says}"):
            load_backbone(network("mobilevos_mobilenetv2_noaspp", seed=0), path)


def test_read_weights_file_names_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"absent\.pth: no such file"):
        read_weights_file(tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth", "empty.pth"])
def test_read_weights_file_names_a_corrupt_file(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"PK\x03\x04 not weights")
    with pytest.raises(InputError, match=name):
        read_weights_file(tmp_path / name)


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_read_weights_file_refuses_a_pickle_with_code_and_never_runs_it(tmp_path: Path):
    torch.save({"weight": _Bomb(tmp_path / "ran")}, tmp_path / "bomb.pth")
    with pytest.raises(InputError, match=r"bomb\.pth: refused.*safetensors"):
        read_weights_file(tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_read_weights_file_takes_weights_saved_beside_an_optimizer_and_wrapped_names(
    tmp_path: Path, key: str
):
    weights = {"module.a.weight": torch.arange(3.0), "module.b": torch.ones(2)}
    saved = {key: weights, "optimizer": {"state": {0: {"step": 3}}}, "epoch": 7}
    torch.save(saved, tmp_path / "run.pth")
    tensors = read_weights_file(tmp_path / "run.pth")
    assert list(tensors) == ["a.weight", "b"]
    assert torch.equal(tensors["a.weight"], torch.arange(3.0))


def test_read_weights_file_keeps_a_module_that_is_only_some_names_own(tmp_path: Path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "run.pth")
    assert list(read_weights_file(tmp_path / "run.pth")) == ["module.a", "b"]


def test_read_weights_file_says_what_a_file_of_something_else_holds(tmp_path: Path):
    torch.save({"step": 3, "weights": {"a": torch.zeros(1)}}, tmp_path / "run.pth")
    with pytest.raises(InputError, match=r"run\.pth: holds a dict"):
        read_weights_file(tmp_path / "run.pth")


def test_load_backbone_reads_the_shared_imagenet_weights():
    path = SHARED / "data" / "weights" / "mobilenet_v2_imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path.name} in a folder 'shared' beside the checkout")
    model = network("stcn_mobilenetv2", seed=0)
    load_backbone(model, path)
    with torch.no_grad():
        s16 = model.encode_key(textured_frames(1, 64, 64)).features.s16
    assert s16.dtype == torch.float32
    assert 0.5 < s16.std() < 10


def test_read_weights_file_skips_a_state_dict_that_is_empty(tmp_path: Path):
    file = {"state_dict": {}, "model": {"a": torch.ones(2)}}
    torch.save(file, tmp_path / "run.pth")
    assert list(read_weights_file(tmp_path / "run.pth")) == ["a"]


@pytest.mark.parametrize(
    "end", [b".", b"h\x07."], ids=["an empty stack", "a memo that is not there"]
)
def test_read_weights_file_names_a_damaged_pickle(tmp_path: Path, end: bytes):
    path = tmp_path / "old.pth"
    path.write_bytes(b"\x80\x02" + end)
    with pytest.raises(InputError, match=r"old\.pth"):
        read_weights_file(path)
