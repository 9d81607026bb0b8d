"""Test AOT's auxiliary loss on the given frame, and the share of steps with given masks."""

import pytest
import torch

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, Trainee
from orchestrator.training.loop import fit
from orchestrator.training.state import TrainingState
from tests.model_tools import aot_network
from tests.tiny import SquareClips
from vosmodels.data.clips import batch
from vosmodels.losses import hardest_mean, mask_absent, poly_cross_entropy, soft_jaccard
from vosmodels.types import REFERENCE_LOGITS

SIZE = 33
LOSS = LossConfig(logit=0, representation=0, ce=2.0, dice=0.5, reference=1.0, reference_until=0.4)


def test_the_reference_term_is_the_losses_of_frame_0_and_falls_to_0():
    model, clip = aot_network("deaott"), batch(SquareClips(objects=2, size=SIZE), 0, 2)
    step = DistillStep(LOSS, seed=0)
    found = {}
    for progress in (0.0, 0.1, 0.4, 0.9):
        losses = step.losses(Trainee(model), clip, keep=0.5, progress=progress)
        found[progress] = (losses.sums["ref"] / losses.counts["ref"]).item()
    logits = model(clip, watch=[REFERENCE_LOGITS]).named[REFERENCE_LOGITS]
    logits, truth = mask_absent(logits, clip.present)[:, 0], clip.masks[:, 0]
    entropy = hardest_mean(poly_cross_entropy(logits, truth), 0.5)
    probability = logits.softmax(1)
    objects = [
        torch.stack([soft_jaccard(probability[b, n : n + 1], truth[b : b + 1] == n) for n in slots])
        for b, slots in enumerate([1 + clip.present[b].nonzero()[:, 0] for b in range(2)])
    ]
    whole = (2 * entropy + 0.5 * torch.stack([each.mean() for each in objects])).mean().item()
    assert found[0.0] == pytest.approx(whole, rel=1e-5)
    assert found[0.1] == pytest.approx(0.75 * whole, rel=1e-5)
    assert found[0.4] == found[0.9] == 0


@pytest.fixture
def rolled(monkeypatch):
    """Collect whether the memory of a clip held given masks, of every clip that is run."""
    calls: list[bool] = []
    kind = type(aot_network("deaott"))
    roll = kind.roll

    def seen(self, clip, *, given_masks, watch=()):
        calls.append(given_masks)
        return roll(self, clip, given_masks=given_masks, watch=watch)

    monkeypatch.setattr(kind, "roll", seen)
    return calls


def train_four_steps(given_masks, teacher=None, **loss):
    """Train a network for four steps of one clip."""
    train = TrainConfig(steps=4, batch_size=1, clip_length=2, crop=SIZE, given_masks=given_masks)
    distill = DistillStep(LossConfig(logit=0, representation=0, **loss), seed=0)
    state = TrainingState(Trainee(aot_network("deaott")), train)
    for _ in fit(state, SquareClips(size=SIZE), distill, train, teacher=teacher):
        pass


def test_the_memory_holds_given_masks_for_the_share_of_steps_that_is_asked_for(rolled):
    train_four_steps(0.5)
    assert rolled == [True, True, False, False]


def test_a_loss_without_labels_has_no_given_masks_in_the_memory_either(rolled):
    train_four_steps(1.0, aot_network("deaott"), ce=0, inter=1.0)
    assert rolled == [False] * 8  # student and teacher
