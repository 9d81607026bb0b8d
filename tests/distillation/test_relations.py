"""Test the relation losses against numpy's correlation coefficients."""

import numpy as np
import pytest
import torch

from vosmodels.distillation import relation_losses
from vosmodels.distillation.relations import pearson

ALL = 11  # channels of a model of ten objects


def probabilities(n, k, seed=0, dtype=torch.float64):
    drawn = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return drawn.softmax(1)


def by_numpy(s, t):
    """Mean of 1 - r over rows, by np.corrcoef."""
    pairs = zip(s.detach().numpy(), t.numpy(), strict=True)
    return float(np.mean([1 - np.corrcoef(one, other)[0, 1] for one, other in pairs]))


@pytest.mark.parametrize("k", [3, 11])
def test_inter_is_over_rows_and_intra_over_columns(k):
    s, t = probabilities(30, k), probabilities(30, k, seed=1)
    inter, intra = relation_losses(s, t)
    assert inter.item() == pytest.approx(by_numpy(s, t), rel=1e-6)
    assert intra.item() == pytest.approx(by_numpy(s.T, t.T), rel=1e-6)


def test_rows_are_continued_by_channels_of_probability_zero():
    s, t = probabilities(20, 3), probabilities(20, 3, seed=1)
    padded = [torch.nn.functional.pad(x, (0, ALL - 3)) for x in (s, t)]
    inter, intra = relation_losses(s, t, columns=ALL)
    assert inter.item() == pytest.approx(by_numpy(*padded), rel=1e-6)
    assert intra.item() == pytest.approx(by_numpy(s.T, t.T), rel=1e-6)  # of the columns that vary
    assert inter.item() != pytest.approx(relation_losses(s, t)[0].item(), rel=1e-2)


def test_two_classes_alone_teach_nothing_between_objects_and_eleven_do():
    """p and 1 - p correlate by +1 or -1, whatever they are."""
    logits = torch.randn(40, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits.requires_grad_()
    t = probabilities(40, 2, seed=1)
    s = logits.softmax(1)
    agree = (s.argmax(1) == t.argmax(1)).double()
    assert 0 < agree.mean() < 1
    inter, _ = relation_losses(s, t)
    assert inter.item() == pytest.approx(2 * (1 - agree.mean().item()), abs=1e-5)
    (slope,) = torch.autograd.grad(inter, logits, retain_graph=True)
    assert slope.abs().max() < 1e-4  # of the 1e-8 in the denominator
    (slope,) = torch.autograd.grad(relation_losses(s, t, columns=ALL)[0], logits)
    assert slope.abs().max() > 1e-3


def test_present_columns_alone_count_between_pixels():
    s, t = probabilities(25, 4), probabilities(25, 4, seed=1)
    present = torch.tensor([True, False, True, True])
    _, intra = relation_losses(s, t, present=present)
    assert intra.item() == pytest.approx(by_numpy(s.T[present], t.T[present]), rel=1e-6)
    assert relation_losses(s, t, present=torch.zeros(4, dtype=torch.bool))[1].item() == 0


def test_a_batch_is_every_item_alone():
    s, t = (torch.stack([probabilities(9, 3, seed=i + k) for i in range(4)]) for k in (0, 10))
    present = torch.tensor([[True, True, False]] * 2 + [[True, True, True]] * 2)
    inter, intra = relation_losses(s, t, columns=5, present=present)
    assert inter.shape == intra.shape == (4,)
    for i in range(4):
        alone = relation_losses(s[i], t[i], columns=5, present=present[i])
        torch.testing.assert_close((inter[i], intra[i]), alone)


def test_equal_predictions_cost_nothing_and_opposite_ones_two():
    s = probabilities(30, 5)
    torch.testing.assert_close(torch.stack(relation_losses(s, s)), torch.zeros(2).double())
    opposite = 2 / 5 - s
    torch.testing.assert_close(
        torch.stack(relation_losses(s, opposite)), torch.full((2,), 2.0).double()
    )


def test_the_correlation_is_blind_to_scale_and_shift():
    s, t = probabilities(30, 5), probabilities(30, 5, seed=1)
    torch.testing.assert_close(
        torch.stack(relation_losses(0.3 * s + 0.1, t)), torch.stack(relation_losses(s, t))
    )


def test_a_column_without_variation_costs_one_and_stays_finite():
    s = torch.full((10, 3), 1 / 3).requires_grad_()
    losses = torch.stack(relation_losses(s, probabilities(10, 3, dtype=torch.float32)))
    losses.sum().backward()
    torch.testing.assert_close(losses, torch.ones(2))
    assert s.grad is not None
    assert s.grad.isfinite().all()


def test_many_pixels_are_as_exact_in_float32_as_in_float64():
    s, t = probabilities(200_000, 3), probabilities(200_000, 3, seed=1)
    t = 0.5 * s + 0.5 * t
    exact = torch.stack(relation_losses(s, t, columns=ALL))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = torch.stack(relation_losses(s.float(), t.float(), columns=ALL))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)


def test_the_gradient_is_that_of_differences_and_the_teacher_gets_none():
    s, t = probabilities(6, 3).requires_grad_(), probabilities(6, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: torch.stack(relation_losses(x, t, columns=ALL)), s)
    torch.stack(relation_losses(s, t)).sum().backward()
    assert t.grad is None


def test_what_does_not_match_is_refused_with_its_shapes():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 4\)"):
        relation_losses(probabilities(3, 2), probabilities(3, 4))
    with pytest.raises(ValueError, match="columns 2 for probabilities of 3 columns"):
        relation_losses(probabilities(4, 3), probabilities(4, 3), columns=2)


def test_pearson_is_numpys_coefficient_along_any_axis():
    a, b = probabilities(7, 4), probabilities(7, 4, seed=1)
    for dim in (0, 1):
        rows = [x.movedim(dim, -1).numpy() for x in (a, b)]
        expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(*rows, strict=True)]
        np.testing.assert_allclose(pearson(a, b, dim).numpy(), expected, rtol=1e-6)
