"""Test which steps compute in a half type, and how a model is arranged for it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import Trainee
from orchestrator.training.precision import arrange, autocast, half_type
from orchestrator.training.state import TrainingState
from tests.tiny import TinyModel
from vosmodels.training_kernels import Thinned

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("amp", "device", "dtype"),
    [
        ("auto", CPU, None),
        ("auto", GPU, torch.bfloat16),
        ("off", GPU, None),
        ("bfloat16", CPU, torch.bfloat16),
        ("bfloat16", GPU, torch.bfloat16),
    ],
)
def test_half_type_is_what_amp_says_on_that_device(amp, device, dtype):
    assert half_type(TrainConfig(amp=amp), device) is dtype


@pytest.mark.parametrize(("amp", "dtype"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_autocast_rounds_products_only_where_there_is_a_half_type(amp, dtype):
    with autocast(TrainConfig(amp=amp), CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype


def test_arrange_moves_weights_and_moments_and_changes_no_value():
    model = TinyModel()
    state = TrainingState(Trainee(model), TrainConfig())
    for parameter in state.trainee.parameters():
        parameter.grad = torch.rand_like(parameter)
    state.optimizer.step()
    weight = model.z.weight
    before = [weight.clone(), *(m.clone() for m in state.optimizer.state[weight].values())]
    assert not weight.is_contiguous(memory_format=torch.channels_last)
    arrange(state.trainee, state.optimizer)
    after = [weight, *state.optimizer.state[weight].values()]
    assert model.z.weight is weight
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new.detach(), old.detach(), rtol=0, atol=0)
        assert new.ndim == 0 or new.is_contiguous(memory_format=torch.channels_last)


def test_a_thinned_convolution_answers_and_learns_as_the_strided_one():
    torch.manual_seed(0)
    plain: Any = nn.Sequential(nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)).double()
    plain.to(memory_format=torch.channels_last)
    thinned: Any = copy.deepcopy(plain)
    arrange(thinned, torch.optim.Adam(thinned.parameters()))
    assert type(thinned[0]) is Thinned
    assert list(thinned.state_dict()) == list(plain.state_dict())
    for size in (8, 9):
        one, other = (torch.rand(2, 6, size, size + 3).double() for _ in range(2))
        other.copy_(one)
        answers = [plain(one.requires_grad_()), thinned(other.requires_grad_())]
        upstream = torch.rand_like(answers[0])
        torch.testing.assert_close(answers[1], answers[0])
        for answer in answers:
            answer.backward(upstream)
        torch.testing.assert_close(other.grad, one.grad)
        torch.testing.assert_close(thinned[0].weight.grad, plain[0].weight.grad)
        torch.testing.assert_close(
            thinned[0].get_parameter("bias").grad, plain[0].get_parameter("bias").grad
        )


def test_a_thinned_convolution_runs_strided_where_no_gradient_is_wanted(monkeypatch):
    strides = []

    def asked(x, weight, bias, stride, *rest):
        strides.append(stride)
        return conv2d(x, weight, bias, stride, *rest)

    conv2d = functional.conv2d
    monkeypatch.setattr(functional, "conv2d", asked)
    thinned = nn.Sequential(nn.Conv2d(6, 6, 3, stride=2, groups=6))
    arrange(thinned, torch.optim.Adam(thinned.parameters()))
    thinned(torch.rand(1, 6, 9, 9))
    with torch.no_grad():
        thinned(torch.rand(1, 6, 9, 9))
    assert strides == [1, (2, 2)]


def test_arrange_leaves_dense_and_unstrided_convolutions_alone():
    layers = nn.Sequential(nn.Conv2d(6, 6, 3, stride=2), nn.Conv2d(6, 6, 3, groups=6))
    arrange(layers, torch.optim.Adam(layers.parameters()))
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.Conv2d]
