"""Correlation and logit losses against independent forms."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import normalize

from vosmodels.distillation import correlation_loss, logit_loss


def features(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ids(n):
    return torch.arange(n) % 2


def by_loops(s, t, y, omega):
    """Algorithm 1 of the paper, one pair of pixels at a time."""
    s, t = normalize(s, dim=1), normalize(t, dim=1)
    full = matched = 0.0
    for i, j in itertools.product(range(len(s)), repeat=2):
        c = float(s[i] @ s[j])
        r = omega * float(t[i] @ t[j]) + (1 - omega) * float(y[i] == y[j])
        full += c**2
        matched += (c * r) ** 2
    return (math.log2(full) - math.log2(matched)) / len(s)


@pytest.mark.parametrize("omega", [0.0, 0.2, 0.95, 1.0])
def test_correlation_loss_is_algorithm_1_pair_by_pair(omega):
    s, t, y = features(12, 5), features(12, 7, seed=1), ids(12)
    value = correlation_loss(s, t, y, omega)
    assert value.item() == pytest.approx(by_loops(s, t, y, omega), rel=1e-12)


def test_omega_one_is_the_mutual_information_of_equation_3():
    """n L = H2(T) - I2(S; T), H2(K) = -log2 tr((K/n)^2), joint kernel the normalised product."""
    n = 20
    s, t = normalize(features(n, 6), dim=1), normalize(features(n, 6, seed=1), dim=1)
    entropy = [
        -math.log2((torch.linalg.eigvalsh(k / n) ** 2).sum())
        for k in (s @ s.T, t @ t.T, (s @ s.T) * (t @ t.T))
    ]
    information = entropy[0] + entropy[1] - entropy[2]
    loss = correlation_loss(s, t, ids(n), 1.0).item() * n
    assert loss == pytest.approx(entropy[1] - information, rel=1e-10)


def test_omega_zero_needs_only_the_class_grams():
    s, y = features(30, 4), ids(30)
    z = normalize(s, dim=1)
    same = sum((z[y == c].T @ z[y == c]).square().sum() for c in (0, 1))
    closed = (torch.log2((z.T @ z).square().sum()) - torch.log2(torch.as_tensor(same))) / 30
    torch.testing.assert_close(correlation_loss(s, features(30, 9), y, 0.0), closed)


def test_correlation_loss_is_zero_where_the_target_is_one_and_never_negative():
    s = features(8, 3)
    assert correlation_loss(s, s, torch.zeros(8, dtype=torch.int64), 0.0).item() == pytest.approx(0)
    for seed in range(5):
        assert correlation_loss(features(9, 3, seed), features(9, 4, seed + 9), ids(9), 0.5) >= 0


def test_one_hot_weights_and_ids_agree():
    s, t, y = features(10, 4), features(10, 4, seed=1), ids(10)
    one_hot = torch.stack([y == 0, y == 1], dim=1)
    torch.testing.assert_close(correlation_loss(s, t, one_hot, 0.3), correlation_loss(s, t, y, 0.3))


def test_correlation_loss_passes_gradcheck_and_leaves_the_teacher_alone():
    s, t = features(7, 3).requires_grad_(), features(7, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: correlation_loss(x, t, ids(7), 0.4), s)
    correlation_loss(s, t, ids(7), 0.4).backward()
    assert t.grad is None


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_gives_zero_loss_and_zero_gradient(n):
    s = features(n, 3).requires_grad_()
    loss = correlation_loss(s, features(n, 3), ids(n), 0.5)
    loss.backward()
    assert loss.item() == 0
    assert s.grad is not None
    assert (s.grad.abs() < 1e-12).all()


def test_rows_of_zeros_stay_finite():
    s = torch.zeros(4, 3, requires_grad=True)
    loss = correlation_loss(s, torch.zeros(4, 3), ids(4), 0.5)
    loss.backward()
    assert loss.isfinite()
    assert s.grad is not None
    assert s.grad.isfinite().all()


def test_the_scale_of_a_row_does_not_matter():
    s, t = features(6, 3), features(6, 3, seed=1)
    scaled = s * torch.tensor([[1.0], [10.0], [0.1], [3.0], [7.0], [2.0]])
    torch.testing.assert_close(
        correlation_loss(scaled, t, ids(6), 0.5), correlation_loss(s, t, ids(6), 0.5)
    )


def test_rows_that_do_not_match_are_refused_with_their_shapes():
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(4, 2\)"):
        correlation_loss(features(3, 2), features(4, 2), ids(3), 0.5)
    with pytest.raises(ValueError, match=r"omega 1\.5"):
        correlation_loss(features(3, 2), features(3, 2), ids(3), 1.5)


def plane(rows):
    """Rows (P, C) as one item of P pixels: logits (1, C, 1, P) and all of its pixels."""
    return rows.T[None, :, None]


def everywhere(count):
    return torch.ones(1, 1, count, dtype=torch.bool)


def test_logit_loss_is_the_kl_written_out_both_ways():
    s, t = torch.tensor([[0.3, -0.2]]), torch.tensor([[0.1, 0.4]])
    tau = 0.5
    ps, pt = (torch.softmax(x / tau, 1)[0].tolist() for x in (s, t))
    forward = sum(a * math.log(a / b) for a, b in zip(pt, ps, strict=True))
    reverse = sum(b * math.log(b / a) for a, b in zip(pt, ps, strict=True))
    item = plane(s), plane(t), everywhere(1), tau
    assert logit_loss(*item).item() == pytest.approx(forward, rel=1e-5)
    assert logit_loss(*item, "reverse").item() == pytest.approx(reverse, rel=1e-5)


def test_logit_loss_looks_at_the_chosen_pixels_only():
    s, t = features(6, 2, dtype=torch.float32), features(6, 2, seed=1, dtype=torch.float32)
    pixels = torch.tensor([[[True, False, True, True, False, False]]])
    chosen = logit_loss(plane(s), plane(t), pixels, 0.1)
    kept = pixels[0, 0]
    torch.testing.assert_close(
        chosen, logit_loss(plane(s[kept]), plane(t[kept]), everywhere(3), 0.1)
    )


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_logit_loss_ignores_a_class_that_is_absent_in_both(direction):
    s, t = features(5, 3, dtype=torch.float32), features(5, 3, seed=1, dtype=torch.float32)
    s[:, 2] = t[:, 2] = float("-inf")
    s.requires_grad_()
    loss = logit_loss(plane(s), plane(t), everywhere(5), 0.1, direction)
    two = logit_loss(plane(s[:, :2]), plane(t[:, :2]), everywhere(5), 0.1, direction)
    torch.testing.assert_close(loss, two)
    loss.sum().backward()
    assert s.grad is not None
    assert s.grad.isfinite().all()


def test_logit_loss_of_no_pixels_is_zero():
    s = features(4, 2, dtype=torch.float32)
    assert logit_loss(plane(s), plane(s.flip(0)), ~everywhere(4), 0.1).item() == 0
