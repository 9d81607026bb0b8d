"""Test the labels that a teacher gives clips in their step."""

from dataclasses import replace

import pytest
import torch

from orchestrator.config.loss import LossConfig
from orchestrator.training.clip_labels import with_labels
from orchestrator.training.distill_step import DistillStep, Trainee, make_embedding
from tests.tiny import SquareClips, TinyModel
from vosmodels.data.clips import batch, collate
from vosmodels.losses import mask_absent, poly_cross_entropy, soft_jaccard
from vosmodels.types import IGNORED

ABOVE = 0.4  # of probabilities of three classes


def unlabelled(clip):
    masks = clip.masks.clone()
    masks[:, 1:] = IGNORED
    return replace(clip, masks=masks, labelled=False)


def mixed():
    """A clip with true labels of two objects, and one without of which a slot is absent."""
    first = SquareClips(objects=2).sample(0)
    second = replace(
        unlabelled(SquareClips(objects=2).sample(1)), present=torch.tensor([[True, False]])
    )
    return collate([first, second])


def logits():
    return 3 * torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("threshold", [0.0, 0.8, 1.0])
def test_a_pixel_without_a_label_gets_the_most_probable_id_if_it_is_probable_enough(threshold):
    clip, z = mixed(), logits()
    made = with_labels(clip, z, threshold)
    assert made.masks[0].equal(clip.masks[0])
    assert made.masks[:, 0].equal(clip.masks[:, 0])
    p = mask_absent(z, clip.present).softmax(2)[1]
    for t in range(2):
        for y, x in ((0, 0), (7, 9), (20, 31), (11, 13), (30, 2)):
            best = max((0, 1), key=lambda i: float(p[t, i, y, x]))  # slot 2 is absent
            expected = best if p[t, best, y, x] >= threshold else IGNORED
            assert made.masks[1, t + 1, y, x] == expected
    assert made.labelled == (threshold == 0)
    share = (made.masks[1, 1:] == IGNORED).float().mean()
    assert {0.0: share == 0, 0.8: 0.1 < share < 0.9, 1.0: share > 0.99}[threshold]


def test_labels_of_the_teacher_are_as_good_as_labels_that_came_with_the_clip():
    """Every term and the pixels it compares are the same, wherever the labels were made."""
    clip, teacher = batch(SquareClips(objects=2), 0, 2), TinyModel(channels=6, seed=9)
    loss = LossConfig(dice=1.0, omega=0.5)
    given = replace(
        unlabelled(clip), masks=with_labels(unlabelled(clip), teacher(clip).logits, ABOVE).masks
    )
    values = []
    for at, label_above in ((given, None), (unlabelled(clip), ABOVE)):
        step = DistillStep(loss, seed=0, label_above=label_above)
        selection, output = step.select(at), step.teach(teacher, at)
        if label_above is not None:
            assert selection is None
            at, selection = step.label(at, output)
        assert (at.masks == IGNORED).any()
        trainee = Trainee(TinyModel(), make_embedding(4, 6, seed=0))
        values.append(
            step.losses(trainee, at, keep=0.5, teacher_output=output, selection=selection)
        )
    assert set(values[0].sums) == {"ce", "dice", "logit", "repr"}
    for name, value in values[0].sums.items():
        assert value != 0
        assert torch.equal(value, values[1].sums[name])
        assert int(values[0].counts[name]) == int(values[1].counts[name])


def test_a_frame_without_labels_is_no_item_of_a_term():
    """Cross-entropy and Jaccard of a batch are those of its labelled clip alone."""
    clip = mixed()
    loss = LossConfig(logit=0, representation=0, dice=1.0)
    made = DistillStep(loss, seed=0).losses(Trainee(TinyModel()), clip, keep=1.0)
    alone = SquareClips(objects=2).sample(0)
    z, truth = TinyModel()(alone).logits.flatten(0, 1), alone.masks[:, 1:].flatten(0, 1)
    ce = poly_cross_entropy(z, truth).mean((1, 2)).sum()
    torch.testing.assert_close(made.sums["ce"], ce)
    assert int(made.counts["ce"]) == 2
    p = z.softmax(1)
    planes = torch.stack([soft_jaccard(p[:, n], truth == n).sum() for n in (1, 2)])
    torch.testing.assert_close(made.sums["dice"], planes.sum())
    assert int(made.counts["dice"]) == 4


def test_a_batch_without_any_label_has_no_item_and_a_gradient_of_zero():
    clip = unlabelled(batch(SquareClips(objects=2), 0, 2))
    model = TinyModel()
    trainee = Trainee(model)
    loss = LossConfig(logit=0, representation=0, dice=1.0)
    made = DistillStep(loss, seed=0).losses(trainee, clip, keep=0.5)
    assert [int(made.counts[name]) for name in ("ce", "dice")] == [0, 0]
    (made.sums["ce"] + made.sums["dice"]).backward()
    gradient = model.logit.weight.grad
    assert gradient is not None
    assert not gradient.any()


def test_soft_labels_of_the_teacher_are_its_probabilities_where_no_label_was():
    clip, z = mixed(), logits()
    made = with_labels(clip, z, 0.8, soft=True)
    assert made.soft is not None
    assert made.masks.equal(with_labels(clip, z, 0.8).masks)
    p = mask_absent(z, clip.present).softmax(2)
    torch.testing.assert_close(made.soft[1], p[1])
    assert made.soft[0].argmax(1).equal(clip.masks[0, 1:])
    assert made.soft[0].max(1).values.min() == 1


def test_the_terms_of_certain_soft_labels_are_those_of_ids():
    clip, z = mixed(), 1e4 * logits()  # probabilities of 0 and 1
    loss = LossConfig(logit=0, representation=0, dice=1.0)
    made = [
        DistillStep(loss, seed=0).losses(
            Trainee(TinyModel()), with_labels(clip, z, 0.5, soft=soft), keep=0.5
        )
        for soft in (False, True)
    ]
    for name in ("ce", "dice"):
        torch.testing.assert_close(made[1].sums[name], made[0].sums[name])
    other = DistillStep(loss, seed=0).losses(
        Trainee(TinyModel()), with_labels(clip, logits(), 0.5, soft=True), keep=0.5
    )
    assert not torch.allclose(other.sums["ce"], made[0].sums["ce"])
