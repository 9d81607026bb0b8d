"""Test losses, rates and weight average against numbers of AOT's public code, given --golden DIR.

One test per file `aot_misc*`: facts of its training recipe, which need no network.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.config.sections import TrainConfig
from orchestrator.training.distill_step import Trainee
from orchestrator.training.loop import learning_rate
from orchestrator.training.optimizer import group_rate
from orchestrator.training.state import TrainingState
from tests.conformance.golden import Golden

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
        torch.testing.assert_close(state.model.weight[0].detach(), row, rtol=1e-6, atol=1e-6)
