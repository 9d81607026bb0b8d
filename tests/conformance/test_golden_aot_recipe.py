"""Test losses, rates and weight average against numbers of AOT's public code, given --golden DIR.

One test per file `aot_misc*`: facts of its training recipe, which need no network.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import Trainee
from orchestrator.training.loop import learning_rate
from orchestrator.training.optimizer import group_rate
from orchestrator.training.state import TrainingState
from tests.conformance.golden import Golden
from vosmodels.losses import class_jaccard, hardest_mean, keep_fraction, poly_cross_entropy
from vosmodels.types import IGNORED

UNLABELLED = 255  # label of public code
STAGE = 100_000  # steps, of which 5,000 are the warm-up
RATES = {"main_mbv2": (2e-4, 2e-5), "main_r50": (2e-4, 1e-5), "pre": (4e-4, 2e-5)}


@pytest.mark.parametrize("stage", RATES)
def test_rates_are_those_of_the_public_code(golden_aot_misc: Path, stage: str):
    golden = Golden(golden_aot_misc)
    lr, lowest = RATES[stage]
    train = TrainConfig(
        steps=STAGE, lr=lr, lr_min=lowest, schedule="poly", warmup=0.05, encoder_lr=0.1
    )
    rows = zip(golden["lr_its"].tolist(), golden[f"lr_{stage}"], strict=True)
    for step, (other, encoder, _) in rows:
        rate = learning_rate(train, step)
        found = rate, group_rate(train, rate, {"encoder": True})
        np.testing.assert_allclose(found, (other, encoder), rtol=1e-6, err_msg=f"step {step}")


def test_the_losses_of_a_frame_are_those_of_the_public_code(golden_aot_misc: Path):
    golden = Golden(golden_aot_misc)
    for index in (0, 1):
        logits, target = golden.tensor(f"l{index}"), golden.tensor(f"t{index}")
        target = torch.where(target == UNLABELLED, IGNORED, target)
        for step, row in zip(golden["steps"], golden["ce"], strict=True):
            keep = keep_fraction(step / STAGE, start=0, end=0.5)
            loss = hardest_mean(poly_cross_entropy(logits, target, epsilon=0), keep)
            assert loss.item() == pytest.approx(row[index], rel=1e-6), step
        jaccard = class_jaccard(logits.softmax(1), target)
        assert jaccard.item() == pytest.approx(golden["jac"][index], rel=1e-6)


def test_the_average_is_that_of_the_public_code(golden_aot_misc: Path):
    golden = Golden(golden_aot_misc)
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    state = TrainingState(Trainee(model), TrainConfig(ema=0.9999, ema_warmup=True))
    for n, row in enumerate(golden.tensor("ema_trace")):
        with torch.no_grad():
            model.weight.copy_(torch.arange(3.0) + n)
        state.update(torch.zeros(()))  # no gradient: the optimizer leaves the weights
        state.step += 1
        average = state.model.get_parameter("weight")[0].detach()
        torch.testing.assert_close(average, row, rtol=1e-6, atol=1e-6)
