"""Test supervised losses against closed forms."""

import math

import pytest
import torch

from vosmodels.losses import (
    class_jaccard,
    hardest_mean,
    keep_fraction,
    mask_absent,
    poly_cross_entropy,
    soft_cross_entropy,
    soft_jaccard,
)
from vosmodels.types import IGNORED


def test_poly_cross_entropy_is_the_formula_written_out():
    logits = torch.tensor([[[[2.0]], [[0.5]], [[-1.0]]]])
    p = math.exp(0.5) / (math.exp(2.0) + math.exp(0.5) + math.exp(-1.0))
    value = poly_cross_entropy(logits, torch.tensor([[[1]]]), epsilon=2.0)
    assert value.item() == pytest.approx(-math.log(p) + 2 * (1 - p), rel=1e-6)


def test_the_poly_term_has_a_gradient():
    logits = torch.tensor([[[[0.3]], [[0.1]]]], requires_grad=True)
    target = torch.tensor([[[0]]])
    plain, poly = (
        torch.autograd.grad(poly_cross_entropy(logits, target, e).sum(), logits)[0]
        for e in (0.0, 1.0)
    )
    p = 1 / (1 + math.exp(-0.2))
    assert (poly - plain)[0, 0].item() == pytest.approx(-p * (1 - p), rel=1e-5)


def test_hardest_mean_is_the_mean_of_the_sorted_tail():
    values = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    expected = values.flatten(1).sort(1, descending=True).values[:, :12].mean(1)
    torch.testing.assert_close(hardest_mean(values, 0.3), expected)
    torch.testing.assert_close(hardest_mean(values, 1.0), values.mean((1, 2)))


@pytest.mark.parametrize(
    ("iteration", "kept"), [(0, 1.0), (20_000, 1.0), (45_000, 0.575), (70_000, 0.15), (3e5, 0.15)]
)
def test_keep_fraction_is_stcns_schedule_as_fractions_of_300k(iteration, kept):
    assert keep_fraction(iteration / 300_000) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("step", "kept"), [(0, 1.0), (20_000, 0.66), (50_000, 0.15), (90_000, 0.15)]
)
def test_keep_fraction_from_the_first_step_to_half_of_them_is_aots(step, kept):
    assert keep_fraction(step / 100_000, start=0, end=0.5) == pytest.approx(kept)


def test_an_ignored_pixel_has_no_loss_and_no_gradient_and_counts_as_a_pixel():
    logits = torch.zeros(1, 3, 1, 4, requires_grad=True)
    target = torch.tensor([[[0, 1, 2, IGNORED]]])
    loss = hardest_mean(poly_cross_entropy(logits, target, epsilon=0), 1.0)
    assert loss.item() == pytest.approx(3 * math.log(3) / 4)
    loss.sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(1).tolist() == [[[True, True, True, False]]]


def test_label_255_is_a_class_like_any_other():
    target = torch.full((1, 1, 1), 255)
    loss = poly_cross_entropy(torch.zeros(1, 256, 1, 1), target, epsilon=0)
    assert loss.item() == pytest.approx(math.log(256))


def test_class_jaccard_is_the_mean_over_the_classes_that_are_there():
    """Half of 4 known pixels are class 0, half class 2; class 1 and an ignored pixel count not."""
    p = torch.tensor([0.5, 0.25, 0.25])[None, :, None, None].expand(1, 3, 1, 5)
    target = torch.tensor([[[0, 0, 2, 2, IGNORED]]])
    first = 1 - 2 * 0.5 / (4 * 0.5 + 2 - 2 * 0.5)
    third = 1 - 2 * 0.25 / (4 * 0.25 + 2 - 2 * 0.25)
    assert class_jaccard(p, target).item() == pytest.approx((first + third) / 2, rel=1e-5)


def test_class_jaccard_is_0_for_the_truth_itself_and_for_nothing_known():
    target = torch.tensor([[[0, 1], [2, 0]], [[IGNORED] * 2] * 2])
    truth = torch.stack([(target == c).float() for c in range(3)], 1)
    assert class_jaccard(truth, target).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_soft_jaccard_of_a_hard_mask_is_one_minus_iou():
    p = torch.zeros(1, 10, 10)
    y = torch.zeros(1, 10, 10, dtype=torch.bool)
    p[0, :6] = 1
    y[0, 3:] = True
    assert soft_jaccard(p, y).item() == pytest.approx(1 - (30 + 1) / (100 + 1))
    assert soft_jaccard(y.float(), y).item() == 0


def test_an_absent_slot_takes_no_probability_and_no_gradient():
    logits = torch.zeros(1, 1, 3, 2, 2, requires_grad=True)
    masked = mask_absent(logits, torch.tensor([[True, False]]))
    loss = poly_cross_entropy(masked[:, 0], torch.zeros(1, 2, 2, dtype=torch.int64))
    assert loss[0, 0, 0].item() == pytest.approx(math.log(2) + 0.5)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, :, 2] == 0).all()


def cut_out(values, known):
    """The values of the known pixels alone, item by item, as pictures of one row."""
    return [values[i][known[i]][None, None] for i in range(len(values))]


def half_known():
    rng = torch.Generator().manual_seed(1)
    known = torch.rand(3, 6, 7, generator=rng) < 0.6
    known[1] = False  # an item without a label
    known[2, 0] = True
    return known, rng


def test_ignored_pixels_have_no_loss_and_no_gradient():
    known, rng = half_known()
    logits = torch.randn(3, 4, 6, 7, generator=rng, requires_grad=True)
    truth = torch.randint(0, 4, (3, 6, 7), generator=rng)
    target = torch.where(known, truth, IGNORED)
    per_pixel = poly_cross_entropy(logits, target)
    assert torch.equal(per_pixel[known], poly_cross_entropy(logits, truth)[known])
    assert not per_pixel[~known].any()
    (gradient,) = torch.autograd.grad(hardest_mean(per_pixel, 0.7, known).sum(), logits)
    assert torch.isfinite(gradient).all()
    assert not gradient.permute(0, 2, 3, 1)[~known].any()
    assert gradient.permute(0, 2, 3, 1)[known].any()


@pytest.mark.parametrize("keep", [1.0, 0.7, 0.29, 1e-6])
def test_the_hardest_of_the_known_pixels_are_those_of_a_picture_that_is_cut_out(keep):
    known, rng = half_known()
    values = torch.rand(3, 6, 7, generator=rng)
    found = hardest_mean(values, keep, known)
    for item, cut in zip(found, cut_out(values, known), strict=True):
        expected = hardest_mean(cut, keep)[0] if cut.numel() else torch.tensor(0.0)
        torch.testing.assert_close(item, expected)


def test_soft_jaccard_of_the_known_pixels_is_that_of_a_picture_that_is_cut_out():
    known, rng = half_known()
    p, y = torch.rand(3, 6, 7, generator=rng), torch.rand(3, 6, 7, generator=rng) < 0.5
    found = soft_jaccard(p, y, known)
    cuts = zip(cut_out(p, known), cut_out(y, known), strict=True)
    for item, (of_p, of_y) in zip(found, cuts, strict=True):
        expected = soft_jaccard(of_p, of_y)[0] if of_p.numel() else torch.tensor(0.0)
        torch.testing.assert_close(item, expected)


def test_soft_cross_entropy_of_certain_targets_is_that_of_ids():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=rng)
    logits[:, 3] = float("-inf")  # an absent slot
    ids = torch.randint(0, 3, (2, 5, 6), generator=rng)
    certain = torch.nn.functional.one_hot(ids, 4).movedim(-1, 1).float()
    soft = soft_cross_entropy(logits.requires_grad_(), certain, epsilon=2.0)
    torch.testing.assert_close(soft, poly_cross_entropy(logits, ids, epsilon=2.0))
    (gradient,) = torch.autograd.grad(soft.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_soft_cross_entropy_is_the_formula_written_out():
    logits = torch.tensor([[[[2.0]], [[0.5]], [[-1.0]]]])
    q = (0.2, 0.7, 0.1)
    total = math.exp(2.0) + math.exp(0.5) + math.exp(-1.0)
    p = [math.exp(z) / total for z in (2.0, 0.5, -1.0)]
    entropy = -sum(a * math.log(b) for a, b in zip(q, p, strict=True))
    overlap = sum(a * b for a, b in zip(q, p, strict=True))
    value = soft_cross_entropy(logits, torch.tensor(q).view(1, 3, 1, 1), epsilon=0.5)
    assert value.item() == pytest.approx(entropy + 0.5 * (1 - overlap), rel=1e-6)
