"""Test a training clip of AOT and DeAOT against numbers of the public code, given --golden DIR.

One test per file `*_trainloss_*`: the clip, the losses of every frame and their sum, through the
model, the terms and the step that train.
"""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orchestrator.config.loss import LossConfig
from orchestrator.training.distill_step import DistillStep, Trainee
from tests.conformance.golden import Golden
from tests.conformance.test_golden_aot import TIE, filled
from vosmodels.aot.network import AOTNetwork
from vosmodels.losses import class_jaccard, hardest_mean, keep_fraction, poly_cross_entropy
from vosmodels.types import REFERENCE_LOGITS, Clip

TOLERANCE = 1e-4  # of a loss; predictions that are fed back may differ at ties
NEVER = 9999  # gap of the public code for a memory of reference frames alone
MINING = 0.5  # share of the steps after which the fewest pixels are kept
AOT_LOSS = {"ce": 0.5, "poly": 0.0, "dice": 0.5, "jaccard": "classes", "reference": 1.0}


def test_a_training_clip_equals_the_public_code(golden_aot_loss: Path):
    golden = Golden(golden_aot_loss)
    clip, model = clip_of(golden), model_of(golden, golden_aot_loss)
    given = not bool(golden["use_prev_pred"])
    progress = int(golden["step"]) / int(golden["total_steps"])
    keep = keep_fraction(progress, start=0, end=MINING)
    with torch.no_grad():
        output = model.roll(clip, given_masks=given, watch=[REFERENCE_LOGITS])
        frames = torch.cat([output.named[REFERENCE_LOGITS], output.logits], 1)
        check_masks(golden, frames)
        per_frame = torch.stack([losses_of(frames[:, t], clip, t, keep) for t in range(5)])
        torch.testing.assert_close(per_frame, golden.tensor("frame_losses"), atol=TOLERANCE, rtol=0)
        step = DistillStep(
            LossConfig.model_validate({**AOT_LOSS, "logit": 0, "representation": 0}), seed=0
        )
        losses = step.losses(Trainee(model), clip, keep=keep, progress=progress, given_masks=given)
    total = sum(
        losses.weights[name] * losses.sums[name] / losses.counts[name] for name in losses.sums
    )
    assert float(total) == pytest.approx(float(golden["loss"]), abs=TOLERANCE)


def clip_of(golden: Golden) -> Clip:
    """The file's clips; frames lie in the order of time, clips within a frame."""
    counts = golden.tensor("obj_nums").long()
    clips, slots = len(counts), int(counts.max())

    def ordered(x: Tensor) -> Tensor:
        return x.view(-1, clips, *x.shape[1:]).transpose(0, 1)

    frames = ordered(golden.tensor("frames_u8")).movedim(-1, -3).float() / 255
    present = torch.arange(slots) < counts[:, None]
    return Clip(frames, ordered(golden.tensor("labels")).long(), present, tuple(range(clips)))


def model_of(golden: Golden, path: Path) -> AOTNetwork:
    gap = int(golden["lt_gap"])
    model = filled(re.split("_trainloss", path.stem)[0], golden.rule)
    every = None if gap >= NEVER else gap
    assert model.config.train_mem_every == every, "the file has another gap than the model"
    return model


def losses_of(logits: Tensor, clip: Clip, t: int, keep: float) -> Tensor:
    """AOT's loss of a frame, clip by clip, over the classes that the clip has."""
    found = []
    for b, present in enumerate(clip.present):
        chosen, truth = logits[b : b + 1, : 1 + int(present.sum())], clip.masks[b : b + 1, t]
        entropy = hardest_mean(poly_cross_entropy(chosen, truth, epsilon=0), keep)
        found.append(0.5 * entropy + 0.5 * class_jaccard(chosen.softmax(1), truth))
    return torch.cat(found)


def check_masks(golden: Golden, logits: Tensor) -> None:
    best = logits.topk(2, dim=2).values
    clear = best[:, :, 0] - best[:, :, 1] > TIE
    expected = golden.tensor("masks").long().transpose(0, 1)
    wrong = (logits.argmax(2) != expected) & clear
    assert not wrong.any(), f"{int(wrong.sum())} ids differ beyond a tie"
