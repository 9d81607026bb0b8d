from typing import Any

import pytest
import torch
from torch import nn

from tests.model_tools import EVERY_MODEL, any_filled, textured_frames
from vosmodels.inference.fold import NORMS, for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel
from vosmodels.spacetime.network import SpaceTimeNetwork


def _model(name: str) -> SpaceTimeNetwork:
    model = _any(name)
    assert isinstance(model, SpaceTimeNetwork)
    return model


def _any(name: str) -> VideoModel:
    """Regenerated weights, and statistics a fold would notice."""
    model = any_filled(name)
    rng = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2, generator=rng)
            module.running_var.uniform_(0.5, 2.0, generator=rng)
    return model


def _answers(model: VideoModel, **options: Any) -> torch.Tensor:
    frames = textured_frames(3, 34, 50)
    ids = torch.zeros(34, 50, dtype=torch.int64)
    ids[:16, :28], ids[20:, 22:] = 1, 2
    segmenter = VideoSegmenter(model, **options)
    segmenter.step(frames[0], ids)
    answers = []
    for frame in frames[1:]:
        segmenter.step(frame)
        answers.append(segmenter.probabilities)
    return torch.stack(answers)


@pytest.mark.parametrize("name", EVERY_MODEL)
def test_the_folded_network_answers_as_the_trained_one(name: str):
    model = _any(name)
    torch.testing.assert_close(_answers(for_inference(model)), _answers(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mobilevos_mobilenetv2", "deaott"])
def test_no_batch_norm_is_left_and_the_trained_network_keeps_its_own(name: str):
    model = _any(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = for_inference(model)
    assert not any(isinstance(m, NORMS) for m in folded.modules())
    assert not any(p.requires_grad for p in folded.parameters())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_batch_norm_without_a_convolution_is_refused():
    model = _model("mobilevos_mobilenetv2_noaspp")
    model.decoder.aspp = nn.BatchNorm2d(128)
    with pytest.raises(ValueError, match="aspp"):
        for_inference(model)


@pytest.mark.parametrize(
    "name", ["stcn_mobilenetv2", "mobilevos_resnet18", "deaott_deformable", "aott"]
)
def test_bfloat16_answers_nearly_the_same(name: str):
    model = _any(name)
    half = for_inference(model, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    difference = (_answers(half) - _answers(model)).abs()
    assert difference.mean() < 0.02
    assert difference.max() > 0  # and it did run in half precision


def test_weights_that_a_processor_is_slow_with_are_0_and_change_no_bit():
    model = _model("mobilevos_mobilenetv2_noaspp")
    whole = _answers(for_inference(model))
    weight = model.decoder.compress.conv1.weight
    with torch.no_grad():
        weight[:2] = 0
        cleared = _answers(for_inference(model))
        weight[0], weight[1] = 1e-39, -1e-21  # a denormal, and one whose products are
        network = for_inference(model)
    assert not network.decoder.compress.conv1.weight[:2].any()
    assert torch.equal(_answers(network), cleared)
    assert not torch.equal(cleared, whole)
    assert weight[0].all()
