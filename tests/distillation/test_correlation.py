"""Test correlation and logit losses against independent forms."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import normalize

from vosmodels.distillation import correlation
from vosmodels.distillation.correlation import correlation_loss, pick
from vosmodels.distillation.logits import logit_loss


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
@pytest.mark.parametrize(
    ("method", "omega"), [("dense", 0.5), ("tiled", 0.5), ("tiled", 1.0), ("classwise", 0.0)]
)
def test_no_pair_gives_zero_loss_and_zero_gradient(n, method, omega):
    s = features(n, 3).requires_grad_()
    loss = correlation_loss(s, features(n, 3), ids(n), omega, method=method)
    loss.backward()
    assert abs(loss.item()) < 1e-12
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


SIZES = [2, 3, 64, 575, 1024, pytest.param(4096, marks=pytest.mark.slow)]


def bits_and_gradient(method, s, t, y, omega, **options):
    """log2 A - log2 B and its gradient at s, in float64."""
    z = s.clone().requires_grad_()
    bits = correlation_loss(z, t, y, omega, method=method, norm="none", **options)
    bits.backward()
    assert z.grad is not None
    return bits.item(), z.grad.double()


def assert_equal_to_dense(method, n, omega, *, y, d_s=24, d_t=40):
    s, t = features(n, d_s), features(n, d_t, seed=1)
    exact, slope = bits_and_gradient("dense", s, t, y, omega)
    same, same_slope = bits_and_gradient(method, s, t, y, omega)
    assert same == pytest.approx(exact, rel=1e-9, abs=1e-10)
    torch.testing.assert_close(same_slope, slope, rtol=1e-9, atol=1e-9 * float(slope.norm()))
    single, single_slope = bits_and_gradient(method, s.float(), t.float(), y, omega)
    assert single == pytest.approx(exact, rel=1e-5, abs=1e-6)
    if float(slope.norm()) > 1e-6:  # two pixels of one class: nothing to learn
        cosine = torch.nn.functional.cosine_similarity(single_slope.flatten(), slope.flatten(), 0)
        assert cosine.item() >= 1 - 1e-6
        assert float(single_slope.norm()) == pytest.approx(float(slope.norm()), rel=1e-5)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("omega", [0.0, 0.2, 0.5, 0.95, 1.0])
def test_tiles_give_the_dense_loss_and_its_gradient(n, omega):
    assert_equal_to_dense("tiled", n, omega, y=ids(n))


@pytest.mark.parametrize("n", SIZES)
def test_class_grams_give_the_dense_loss_and_its_gradient(n):
    assert_equal_to_dense("classwise", n, 0.0, y=ids(n))


@pytest.mark.parametrize("method", ["tiled", "classwise"])
def test_soft_labels_one_class_and_duplicates_are_as_dense(method):
    n = 130
    soft = torch.rand(n, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert_equal_to_dense(method, n, 0.0, y=soft / soft.sum(1, keepdim=True))
    s, t = features(5, 6).repeat(26, 1), features(n, 7, seed=1)
    for y in (torch.zeros(n, dtype=torch.int64), ids(n)):
        for omega in (0.0, 0.5, 1.0) if method == "tiled" else (0.0,):
            expected, slope = bits_and_gradient("dense", s, t, y, omega)
            found, found_slope = bits_and_gradient(method, s, t, y, omega)
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-10)
            torch.testing.assert_close(found_slope, slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("method", "omega"), [("tiled", 0.5), ("classwise", 0.0)])
def test_a_row_of_zeros_among_others_is_as_in_dense_and_gets_no_gradient(method, omega):
    s, t = features(70, 6), features(70, 7, seed=1)
    s[3] = t[5] = 0
    expected, slope = bits_and_gradient("dense", s, t, ids(70), omega)
    found, found_slope = bits_and_gradient(method, s, t, ids(70), omega)
    assert found == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(found_slope, slope, rtol=1e-9, atol=1e-12)
    assert (found_slope[3] == 0).all()


@pytest.mark.parametrize(("method", "omega"), [("tiled", 0.5), ("classwise", 0.0)])
@pytest.mark.parametrize("soft", [False, True])
def test_a_value_nobody_learns_from_is_the_same_without_the_work_of_a_gradient(
    method, omega, soft, monkeypatch
):
    monkeypatch.setitem(correlation.TILE, "cpu", 16)
    s, t = features(50, 4).requires_grad_(), features(50, 6, seed=1)
    y = torch.nn.functional.one_hot(ids(50)) * 0.7 + 0.1 if soft else ids(50)
    learnt = correlation_loss(s, t, y, omega, method=method)
    assert learnt.requires_grad
    monkeypatch.setattr(correlation._ClosedForm, "apply", None)
    for z in (s.detach(), s):
        with torch.no_grad():
            value = correlation_loss(z, t, y, omega, method=method)
        assert not value.requires_grad
        torch.testing.assert_close(value, learnt.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", ["dense", "tiled", "classwise"])
def test_a_class_that_no_pixel_has_changes_nothing(method):
    s, t, y = features(20, 4), features(20, 6, seed=1), torch.zeros(20, dtype=torch.int64)
    counted = correlation_loss(s, t, y, 0.0, method=method)
    torch.testing.assert_close(correlation_loss(s, t, y, 0.0, method=method, classes=3), counted)


@pytest.mark.parametrize("method", ["dense", "tiled", "classwise"])
def test_all_zero_rows_one_pixel_and_none_are_finite(method):
    for n in (0, 1, 4):
        s = torch.zeros(n, 3, requires_grad=True)
        loss = correlation_loss(s, torch.zeros(n, 3), ids(n), 0.0, method=method)
        loss.backward()
        assert loss.item() == 0
        assert s.grad is not None
        assert s.grad.isfinite().all()


@pytest.mark.parametrize(("method", "omega"), [("tiled", 0.3), ("classwise", 0.0)])
def test_closed_gradients_pass_gradcheck(method, omega):
    s, t = features(9, 3).requires_grad_(), features(9, 5, seed=1)
    assert torch.autograd.gradcheck(
        lambda x: correlation_loss(x, t, ids(9), omega, method=method), s
    )


def test_tiles_of_any_size_agree(monkeypatch):
    s, t = features(50, 4), features(50, 6, seed=1)
    whole = bits_and_gradient("tiled", s, t, ids(50), 0.4)
    monkeypatch.setitem(correlation.TILE, "cpu", 7)
    parts = bits_and_gradient("tiled", s, t, ids(50), 0.4)
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)
    torch.testing.assert_close(parts[1], whole[1])


def test_rounding_the_inputs_to_bfloat16_moves_the_loss_a_little():
    s, t = features(600, 32, dtype=torch.float32), features(600, 48, 1, dtype=torch.float32)
    exact, slope = bits_and_gradient("tiled", s, t, ids(600), 0.5)
    rounded, rounded_slope = bits_and_gradient("tiled", s, t, ids(600), 0.5, inputs=torch.bfloat16)
    assert 0 < abs(rounded - exact) < 5e-3
    assert float((rounded_slope - slope).norm() / slope.norm()) < 3e-2


@pytest.mark.parametrize(("method", "omega"), [("dense", 0.5), ("tiled", 0.5), ("classwise", 0.0)])
def test_the_loss_leaves_autocast(method, omega):
    s, t = features(300, 16, dtype=torch.float32), features(300, 16, 1, dtype=torch.float32)
    s.requires_grad_()
    plain = correlation_loss(s, t, ids(300), omega, method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = correlation_loss(s, t, ids(300), omega, method=method)
    assert torch.equal(inside, plain)
    assert torch.equal(*(torch.autograd.grad(loss, s)[0] for loss in (inside, plain)))


def test_half_precision_in_is_float32_out():
    s, t = features(40, 4), features(40, 3, seed=1)
    for method in ("dense", "tiled"):
        loss = correlation_loss(s.bfloat16(), t.bfloat16(), ids(40), 0.5, method=method)
        exact = correlation_loss(s.bfloat16().double(), t.bfloat16().double(), ids(40), 0.5)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        divergence = logit_loss(plane(s.float()), plane(s.flip(0).float()), everywhere(40), 0.1)
    assert divergence.dtype == torch.float32
    assert torch.equal(
        divergence, logit_loss(plane(s.float()), plane(s.flip(0).float()), everywhere(40), 0.1)
    )


def test_omega_zero_is_supervised_contrastive_with_squared_similarities():
    """-log of the share that pairs of one class have in all squared similarities, by loops."""
    n = 11
    z, y = normalize(features(n, 4), dim=1), ids(n)
    pairs = list(itertools.product(range(n), repeat=2))
    same = sum(float(z[i] @ z[j]) ** 2 for i, j in pairs if y[i] == y[j])
    every = sum(float(z[i] @ z[j]) ** 2 for i, j in pairs)
    for method in ("dense", "tiled", "classwise"):
        loss = correlation_loss(features(n, 4), features(n, 9), y, 0.0, method=method)
        assert loss.item() * n == pytest.approx(-math.log2(same / every), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "omega", "device", "expected"),
    [
        (100, 0.5, "cpu", "dense"),
        (1000, 0.5, "cpu", "tiled"),
        (1000, 0.0, "cpu", "classwise"),
        (1000, 0.5, "cuda", "dense"),
        (9216, 0.95, "cuda", "tiled"),
    ],
)
def test_auto_picks_by_size_omega_and_device(n, omega, device, expected):
    assert pick(n, omega, device) == expected


def test_classwise_is_refused_where_it_is_not_exact():
    with pytest.raises(ValueError, match=r"classwise with omega 0\.5"):
        correlation_loss(features(3, 2), features(3, 2), ids(3), 0.5, method="classwise")


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


def test_tau_squared_keeps_the_gradient_of_a_high_temperature():
    """Hinton et al.: for a large tau tau^2 KL tends to half the mean square of the logits' gap."""
    s, t = features(1, 4, dtype=torch.float32), features(1, 4, seed=1, dtype=torch.float32)
    gap = (s - s.mean()) - (t - t.mean())
    found = logit_loss(plane(s), plane(t), everywhere(1), 100.0, tau_squared=True)
    assert found.item() == pytest.approx(gap.square().mean().item() / 2, rel=2e-2)


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
