"""Test averaging rules by their formulas, in numpy and by geometry."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soups.average import average
from soups.worth.baselines import model_stock, stock_ratio, wise_ft


def state(seed: int, counter: int = 7) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(3, 2, generator=rng),
        "bias": torch.randn(5, generator=rng),
        "bn.num_batches_tracked": torch.tensor(counter),
    }


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_wise_ft_at_0_and_1_is_either_end_bit_for_bit():
    stem, tuned = state(0), state(1)
    assert same(wise_ft(stem, tuned, 0.0), stem)
    assert same(wise_ft(stem, tuned, 1.0), tuned)


def test_wise_ft_at_one_half_is_the_average():
    stem, tuned = state(0), state(1)
    assert same(wise_ft(stem, tuned, 0.5), average([stem, tuned]))


@given(st.floats(0, 1))
def test_wise_ft_is_on_the_line_that_numpy_draws(alpha: float):
    stem, tuned = state(0), state(1)
    found = wise_ft(stem, tuned, alpha)["bias"]
    assert found.dtype == torch.float32
    ends = stem["bias"].double().numpy(), tuned["bias"].double().numpy()
    line = ends[0] + alpha * (ends[1] - ends[0])
    np.testing.assert_allclose(found.numpy(), line, rtol=1e-6, atol=1e-7)


def test_wise_ft_refuses_what_did_not_start_from_the_stem():
    with pytest.raises(ValueError, match=r"the checkpoint: bn\.num_batches_tracked: integers"):
        wise_ft(state(0), state(1, counter=8), 0.5)
    with pytest.raises(ValueError, match="the checkpoint: bias: missing, but the stem"):
        wise_ft(state(0), {k: v for k, v in state(1).items() if k != "bias"}, 0.5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_model_stock_is_its_formula_layer_by_layer(count: int):
    """The cosine from numpy, over pairs, on weights that went partly the same way."""
    stem, way = state(0), state(50)
    models = []
    for number in range(count):
        own = state(100 + number)
        models.append(
            {k: v + way[k] + own[k] if v.is_floating_point() else v for k, v in stem.items()}
        )
    found = model_stock(stem, models)
    for key in ("conv.weight", "bias"):
        base = stem[key].double().numpy().ravel()
        ways = [model[key].double().numpy().ravel() - base for model in models]
        pairs = itertools.combinations(ways, 2)
        cosine = np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])
        assert cosine > 0
        t = count * cosine / (1 + (count - 1) * cosine)
        expected = t * (base + np.mean(ways, axis=0)) + (1 - t) * base
        np.testing.assert_allclose(found[key].numpy().ravel(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("cosine", [0.2, 0.5, 0.9])
def test_model_stock_is_the_nearest_point_to_the_centre_that_the_models_lie_around(
    count: int, cosine: float
):
    """theta_i = centre + r e_i with the e_i, and the centre, at right angles.

    In the plane of stem and models, their mean moves towards the stem until it is nearest.
    """
    radius, length = 1.0, np.sqrt(cosine / (1 - cosine))  # |centre|^2 / (|centre|^2 + r^2) = cos
    centre = np.zeros(count + 1)
    centre[0] = length
    corners = [centre + radius * np.eye(count + 1)[number + 1] for number in range(count)]
    stem, models = torch.zeros(count + 1), [torch.tensor(c) for c in corners]
    t = stock_ratio(stem, models)
    mean = np.mean(corners, axis=0)
    line = np.linspace(0, 1, 2_001)
    gaps = [np.linalg.norm(share * mean - centre) for share in line]
    assert t == pytest.approx(line[int(np.argmin(gaps))], abs=3e-4)


def test_model_stock_takes_the_mean_where_all_went_one_way_and_the_stem_where_ways_part():
    stem, one = torch.zeros(2), torch.tensor([1.0, 0.0])
    assert stock_ratio(stem, [one, 2 * one, 3 * one]) == pytest.approx(1.0)
    assert stock_ratio(stem, [one, torch.tensor([0.0, 1.0])]) == 0.0
    assert stock_ratio(stem, [one, torch.tensor([-1.0, 0.1])]) == 0.0


def test_model_stock_keeps_what_no_model_changed():
    stem = state(0)
    models = [{**stem, "bias": stem["bias"] + n} for n in (1, 2)]
    assert torch.equal(model_stock(stem, models)["conv.weight"], stem["conv.weight"])


def test_model_stock_wants_two_models():
    with pytest.raises(ValueError, match="1 models: Model Stock takes the angle"):
        model_stock(state(0), [state(1)])
