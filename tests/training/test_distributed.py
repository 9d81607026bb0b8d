"""Test training with several workers whose loss leaves a part of the model without gradient."""

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, Trainee, make_embedding
from orchestrator.training.loop import fit
from orchestrator.training.state import TrainingState
from tests.gloo import two_ranks
from tests.tiny import SquareClips, TinyModel

TRAIN = TrainConfig(steps=3, batch_size=2, clip_length=3, crop=32, lr=1e-2)
FEATURES_ALONE = LossConfig(ce=0.0, dice=0.0, logit=0.0, representation=1.0, omega=0.5)


def train_together(rank, folder):
    with two_ranks(rank, f"{folder}/meeting") as workers:
        state = TrainingState(Trainee(TinyModel(), make_embedding(4, 4, seed=0)), TRAIN)
        step = DistillStep(FEATURES_ALONE, seed=0)
        module = workers.wrap(state.trainee, step.terms)
        ran = fit(
            state,
            SquareClips(),
            step,
            TRAIN,
            teacher=TinyModel(seed=9),
            module=module,
            workers=workers,
        )
        list(ran)
        torch.save(state.trainee.state_dict(), f"{folder}/{rank}.pt")


@pytest.mark.slow
def test_two_workers_train_by_features_alone_which_leaves_the_mask_head_as_it_is(tmp_path):
    spawn(train_together, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    before = TinyModel().state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert torch.equal(one["model.logit.weight"], before["logit.weight"])
    assert not torch.equal(one["model.z.weight"], before["z.weight"])
