"""Test which dilated taps are called dead, against the gradients that they get."""

import pytest
import torch
from torch import nn

from orchestrator.config import SweepConfig
from orchestrator.planning.taps import dead_taps
from vosmodels.spacetime.decoder import ASPP


def sweep(crop, **changes):
    student = {"name": "mobilevos_mobilenetv2", **changes.pop("student", {})}
    own = {"train": {"crop": crop}, "student": student, **changes}
    grid = {"parameters": {"loss.omega": [0.0, 1.0]}}
    return SweepConfig.model_validate({"name": "any", "sweep": grid, **own})


def rates_without_gradient(rates, positions):
    """Rates whose outer taps no output of a map of so many positions a side depends on."""
    pool = ASPP(4, 4, rates)
    pool(torch.randn(2, 4, positions, positions)).square().sum().backward()
    dead = []
    convolutions = [part for part in pool.branches.modules() if isinstance(part, nn.Conv2d)]
    for rate, convolution in zip(rates, convolutions[1:], strict=True):
        assert convolution.weight.grad is not None
        taps = convolution.weight.grad.abs().sum((0, 1))
        taps[1, 1] = 0
        if not taps.any():
            dead.append(rate)
    return dead


@pytest.mark.parametrize("crop", [96, 160, 192, 208, 256, 304, 384])
def test_the_rates_that_are_named_are_those_without_a_gradient(crop):
    rates = (6, 12, 18)
    dead = rates_without_gradient(rates, crop // 16)
    lines = dead_taps(sweep(crop))
    named = ", ".join(map(str, dead))
    assert [f"aspp_rates {named}: a crop of {crop} px" in line for line in lines] == [True] * bool(
        dead
    )


def test_a_stage_or_a_stem_of_large_crops_makes_a_rate_act():
    assert dead_taps(sweep(128))
    assert not dead_taps(sweep(128, stem={"crop": 384}))
    assert dead_taps(sweep(128, stem={"crop": 384, "steps": 0}))


def test_a_model_without_these_taps_or_with_smaller_rates_is_not_named():
    assert not dead_taps(sweep(128, student={"name": "mobilevos_mobilenetv2_noaspp"}))
    assert not dead_taps(sweep(128, student={"options": {"aspp_rates": [2, 4, 6]}}))
