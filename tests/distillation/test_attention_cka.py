"""Test centred kernel alignment against its definition with n x n Gram matrices in float64."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from vosmodels.distillation import linear_cka
from vosmodels.distillation.attention_cka import cheaper

ROUTES = ("features", "grams")


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(a, b):
    """CKA by its definition: HSIC of Gram matrices with a centring matrix on both sides."""
    n = len(a)
    centring = torch.eye(n, dtype=a.dtype) - torch.ones(n, n, dtype=a.dtype) / n
    k, l = (centring @ (x @ x.T) @ centring for x in (a, b))  # noqa: E741

    def hsic(x, y):
        return torch.trace(x @ y) / (n - 1) ** 2

    return hsic(k, l) / (hsic(k, k) * hsic(l, l)).sqrt()


def value_and_gradient(score, a, b):
    x = a.clone().requires_grad_()
    value = score(x, b)
    value.backward()
    assert x.grad is not None
    return value.item(), x.grad.double()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("n", [2, 5, 64, 196])
@pytest.mark.parametrize("widths", [(1, 3), (24, 40), (100, 7)])
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_both_routes_give_the_dense_score_and_its_gradient(route, n, widths, mean):
    a, b = (features(n, d, seed=s) + mean for s, d in enumerate(widths))
    a, b = a.float(), (b + 0.3 * a[:, :1].double()).float()
    exact, slope = value_and_gradient(dense, a.double(), b.double())
    same, same_slope = value_and_gradient(
        lambda x, y: linear_cka(x, y, route), a.double(), b.double()
    )
    assert same == pytest.approx(exact, rel=1e-10)
    torch.testing.assert_close(
        same_slope, slope, rtol=1e-8, atol=1e-9 * float(slope.norm()) + 1e-15
    )
    single, single_slope = value_and_gradient(lambda x, y: linear_cka(x, y, route), a, b)
    assert single == pytest.approx(exact, rel=1e-5)
    if exact < 0.999:  # where the score is at its largest, it has no slope
        assert cosine_similarity(single_slope.flatten(), slope.flatten(), 0).item() >= 1 - 1e-6
        assert float(single_slope.norm()) == pytest.approx(float(slope.norm()), rel=1e-4)


@pytest.mark.parametrize("route", ROUTES)
def test_a_batch_is_every_pair_alone(route):
    a, b = features(2, 3, 20, 4), features(2, 3, 20, 6, seed=1)
    scores = linear_cka(a, b, route)
    assert scores.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert scores[i, j].item() == pytest.approx(dense(a[i, j], b[i, j]).item(), rel=1e-10)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_rotated_scaled_and_shifted_copy_scores_one(route, scale):
    a = features(50, 8)
    rotation = torch.linalg.qr(features(8, 8, seed=2))[0]
    assert not torch.allclose(a, a @ rotation)
    copy = (scale * (3.0 * a @ rotation + features(1, 8, seed=3))).float()
    assert linear_cka(a.float(), copy, route).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("route", ROUTES)
def test_the_score_of_others_is_symmetric_and_between_zero_and_one(route):
    for seed in range(10):
        a, b = features(30, 5, seed=seed).float(), features(30, 9, seed=seed + 50).float()
        score = linear_cka(a, b, route).item()
        assert 0 < score < 0.9
        assert linear_cka(b, a, route).item() == pytest.approx(score, rel=1e-5)
    left, right = torch.zeros(40, 3), torch.zeros(40, 2)
    left[:20:2], left[1:20:2], right[20::2], right[21::2] = 1, -1, 1, -1
    assert linear_cka(left, right, route).item() == pytest.approx(0, abs=1e-6)
    assert linear_cka(left, left, route).item() <= 1


@pytest.mark.parametrize("route", ROUTES)
def test_rounding_lifts_no_score_above_one(route):
    rotation = torch.linalg.qr(features(5, 5, seed=9))[0].float()
    for seed in range(60):
        a = features(16, 5, seed=seed).float()
        assert 1 - 1e-5 < linear_cka(a, a @ rotation, route).item() <= 1


@pytest.mark.parametrize("route", ROUTES)
def test_a_linear_map_that_is_no_rotation_changes_the_score(route):
    a = features(50, 8)
    assert linear_cka(a, a * torch.arange(1.0, 9.0), route).item() < 0.99


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e20])
def test_features_without_variation_score_zero_with_no_gradient(route, constant):
    row = constant * features(1, 16).float()  # its sum over positions is rounded
    flat = row.expand(900, 16).clone().requires_grad_()
    other = features(900, 8).float().requires_grad_()
    scores = [linear_cka(flat, other, route), linear_cka(flat, flat, route)]
    assert [score.item() for score in scores] == [0, 0]
    torch.stack(scores).sum().backward()
    for x in (flat, other):
        assert x.grad is not None
        assert (x.grad == 0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_of_positions_scores_zero(n):
    a = features(n, 3).requires_grad_()
    score = linear_cka(a, features(n, 4))
    score.backward()
    assert score.item() == 0
    assert a.grad is not None
    assert (a.grad == 0).all()


def test_half_features_are_summed_in_float32_under_autocast():
    a, b = features(400, 32).bfloat16(), features(400, 32, seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score = linear_cka(a, b)
    assert score.dtype == torch.float32
    assert score.item() == pytest.approx(dense(a.double(), b.double()).item(), rel=1e-5)


def test_the_gradient_is_that_of_differences():
    a, b = features(6, 3).requires_grad_(), features(6, 4, seed=1).requires_grad_()
    for route in ROUTES:
        assert torch.autograd.gradcheck(lambda x, y, r=route: linear_cka(x, y, r), (a, b))


def test_the_route_is_the_one_with_fewer_multiplications():
    assert cheaper(900, 64, 64) == "features"
    assert cheaper(900, 64, 2000) == "grams"
    assert cheaper(10, 64, 64) == "grams"


def test_positions_that_do_not_match_are_refused_with_their_shapes():
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(4, 2\)"):
        linear_cka(features(3, 2), features(4, 2))
