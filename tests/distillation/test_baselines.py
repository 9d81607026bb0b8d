"""Test the losses that CKA is compared with, against numpy and closed forms."""

import numpy as np
import pytest
import torch

from vosmodels.distillation.baselines import (
    ProjectorEnsemble,
    channels_kl,
    direction_loss,
    rows_kl,
    seeded_linear,
)


def features(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def kl(p, q):
    """KL(p || q) of two distributions, one entry at a time."""
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def test_rows_kl_is_the_mean_divergence_of_rows_from_the_teachers():
    s, t = features(2, 5, 4).softmax(-1), features(2, 5, 4, seed=1).softmax(-1)
    values = rows_kl(s, t)
    for i in range(2):
        rows = zip(s[i].numpy(), t[i].numpy(), strict=True)
        assert values[i].item() == pytest.approx(np.mean([kl(b, a) for a, b in rows]))
    assert rows_kl(s, s).abs().max() < 1e-12


def test_weights_of_zero_keep_the_divergence_finite():
    s, t = torch.eye(3).requires_grad_(), torch.eye(3).flip(0)
    value = rows_kl(s, t)
    value.backward()
    assert value.item() == pytest.approx(2 / 3 * -np.log(torch.finfo(torch.float32).tiny), rel=1e-6)
    assert s.grad is not None
    assert s.grad.isfinite().all()
    assert rows_kl(torch.eye(3), torch.eye(3)).item() == 0


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_channels_kl_is_that_of_the_softmax_over_channels(tau):
    s, t = features(6, 5), features(6, 5, seed=1)
    expected = rows_kl((s / tau).softmax(-1), (t / tau).softmax(-1))
    torch.testing.assert_close(channels_kl(s, t, tau), expected)
    torch.testing.assert_close(channels_kl(s + 3, t, tau), expected)  # blind to a shift


def test_direction_loss_is_one_minus_the_mean_cosine():
    s, t = features(7, 3), features(7, 3, seed=1)
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(s, t, strict=True)]
    assert direction_loss(s, t).item() == pytest.approx(1 - np.mean(cosines))
    assert direction_loss(5 * t, t).item() == pytest.approx(0, abs=1e-12)
    zeros = torch.zeros(4, 3, requires_grad=True)
    value = direction_loss(zeros, t[:4].float())
    value.backward()
    assert value.item() == 1
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


def test_the_teacher_gets_no_gradient():
    for loss in (rows_kl, channels_kl, direction_loss):
        s, t = features(4, 3).softmax(-1), features(4, 3, seed=1).softmax(-1).requires_grad_()
        s.requires_grad_()
        loss(s, t).backward()
        assert t.grad is None
        assert s.grad is not None
        assert s.grad.abs().max() > 0


def test_half_features_are_summed_in_float32_under_autocast():
    s, t = features(50, 8).softmax(-1).bfloat16(), features(50, 8, seed=1).softmax(-1).bfloat16()
    for loss in (rows_kl, channels_kl, direction_loss):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(s, t)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(loss(s.double(), t.double()).item(), rel=1e-5)


def test_widths_that_differ_are_refused_with_their_shapes():
    for loss in (rows_kl, channels_kl, direction_loss):
        with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
            loss(features(3, 2), features(3, 4))
    with pytest.raises(ValueError, match="tau 0"):
        channels_kl(features(3, 2), features(3, 2), tau=0)


def test_an_ensemble_is_the_mean_of_projectors_behind_a_relu():
    ensemble, x = ProjectorEnsemble(4, 6, count=3, seed=1), features(5, 4).float()
    named = dict(ensemble.named_parameters())
    weights = [named[f"each.{k}.weight"] for k in range(3)]
    parts = [(x @ weights[k].T + named[f"each.{k}.bias"]).clamp_min(0) for k in range(3)]
    torch.testing.assert_close(ensemble(x), (parts[0] + parts[1] + parts[2]) / 3)
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert ensemble(features(2, 3, 5, 4).float()).shape == (2, 3, 5, 6)


def test_projectors_depend_on_their_seed_alone():
    def weights(seed):
        return torch.cat([p.flatten() for p in ProjectorEnsemble(4, 6, 2, seed).parameters()])

    torch.manual_seed(1)
    first, state = weights(3), torch.random.get_rng_state()
    torch.rand(3)
    assert torch.equal(weights(3), first)
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(weights(4), first)
    assert not torch.equal(seeded_linear(4, 6, 1).weight, seeded_linear(4, 6, 2).weight)
