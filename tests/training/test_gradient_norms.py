"""Test the gradient norms of loss terms, and the warnings from them."""

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training import gradient_norms
from orchestrator.training.distill_step import DistillStep, Trainee, make_embedding
from orchestrator.training.gradient_norms import DROWNS, MEASURED, judged_at, measure, warnings_of
from orchestrator.training.loop import fit
from orchestrator.training.state import TrainingState
from tests.gloo import two_ranks
from tests.model_tools import network
from tests.tiny import SquareClips, TinyModel
from vosmodels.data.clips import batch

ALL = LossConfig(dice=0.5, logit=2.0, representation=3.0, omega=0.5)
TRAIN = TrainConfig(steps=12, batch_size=2, clip_length=3, crop=32, lr=1e-2)


def losses_of(model, loss, clip, teacher=None, channels=4):
    step = DistillStep(loss, seed=0)
    selection = step.select(clip)
    teacher_output = step.teach(teacher, clip) if teacher else None
    trainee = Trainee(model, make_embedding(channels, 4, seed=0))
    return step.losses(trainee, clip, keep=1.0, teacher_output=teacher_output, selection=selection)


@pytest.mark.parametrize("detached", [True, False])
def test_norms_are_those_of_the_gradients_that_reach_each_frames_z_and_logits(detached):
    """By what an ordinary backward leaves at the tensors that the mask head reads."""
    model = network("mobilevos_mobilenetv2_noaspp", seed=0, detach_feedback=detached)
    clip = batch(SquareClips(objects=2), 0, 2)
    read: list[torch.Tensor] = []
    decoder = model.decoder.register_forward_hook(lambda *call: read.append(call[2][1]))
    losses = losses_of(model, ALL, clip, TinyModel(seed=9), model.z_channels)
    decoder.remove()
    assert len(read) == 2
    for z in read:
        z.retain_grad()
    measured = measure(losses)
    assert set(measured) == {
        *("ce_z", "ce_logits", "dice_z", "dice_logits", "logit_z", "logit_logits", "repr_z")
    }
    for term, weight in (("ce", 1.0), ("dice", 0.5), ("logit", 2.0), ("repr", 3.0)):
        for z in read:
            z.grad = None
        mean = weight * losses.sums[term] / losses.counts[term]
        mean.backward(retain_graph=True)
        whole = torch.cat([z.grad.flatten() for z in read if z.grad is not None]).norm()
        assert measured[f"{term}_z"] == pytest.approx(whole.item(), rel=1e-5)
        assert whole > 0
        if detached and term != "repr":  # nothing but the losses reads the logits
            (at_stack,) = torch.autograd.grad(mean, losses.at["logits"], retain_graph=True)
            assert measured[f"{term}_logits"] == pytest.approx(at_stack.norm().item(), rel=1e-5)


def test_norms_at_the_logits_are_the_sum_over_frames_of_the_losses_own_gradient():
    """Nothing of TinyModel feeds back, so the gradient at its output is the whole of it."""
    losses = losses_of(TinyModel(), ALL, batch(SquareClips(objects=2), 0, 2), TinyModel(seed=9))
    measured = measure(losses)
    for term, weight in (("ce", 1.0), ("dice", 0.5), ("logit", 2.0)):
        mean = weight * losses.sums[term] / losses.counts[term]
        (whole,) = torch.autograd.grad(mean, losses.at["logits"], retain_graph=True)
        assert measured[f"{term}_logits"] == pytest.approx(whole.norm().item(), rel=1e-5)
        assert measured[f"{term}_z"] == 0  # its z is read by nothing


def test_a_term_without_an_item_or_a_teacher_has_norm_zero():
    clip = batch(SquareClips(), 0, 2)
    clip.masks[:, 1:] = 0  # out of sight from the second frame on: no boundary
    measured = measure(losses_of(TinyModel(), ALL, clip, TinyModel(seed=9)))
    assert (measured["logit_logits"], measured["repr_z"]) == (0, 0)
    assert measured["ce_logits"] > 0
    cut_off = measure(losses_of(TinyModel(), ALL, clip))
    assert set(cut_off) == set(measured)
    assert cut_off["repr_z"] == 0


def test_norms_in_float16_are_without_its_scale_and_one_that_overflows_is_left_out():
    clip, loss = batch(SquareClips(), 0, 2), LossConfig(logit=0, representation=0, dice=1e-4)
    exact = measure(losses_of(TinyModel(), loss, clip))
    with torch.autocast("cpu", dtype=torch.float16):
        losses = losses_of(TinyModel(), loss, clip)
    assert measure(losses)["dice_logits"] == 0 < exact["dice_logits"]
    assert measure(losses, scale=2.0**14) == pytest.approx(exact, rel=1e-3)
    overflown = measure(losses, scale=2.0**40)
    assert set(exact) - set(overflown) == {"ce_logits"}


def trained(monkeypatch, steps):
    monkeypatch.setattr(gradient_norms, "MEASURED", steps)
    state = TrainingState(Trainee(TinyModel(), make_embedding(4, 4, seed=0)), TRAIN)
    seen = list(
        fit(state, SquareClips(), DistillStep(ALL, seed=0), TRAIN, teacher=TinyModel(seed=9))
    )
    return [p.gradients for p in seen], state.trainee.state_dict()


def test_measuring_gradients_changes_no_bit_of_the_weights(monkeypatch):
    measured, weights = trained(monkeypatch, MEASURED)
    assert [step for step, norms in enumerate(measured, 1) if norms] == [1, 10]
    nothing, plain = trained(monkeypatch, ())
    assert nothing == [None] * 12
    for name, value in plain.items():
        assert torch.equal(weights[name], value), name


TERMS = ALL.terms()


def of(**norms):
    return dict.fromkeys((1, 10, 100), norms)


def test_a_term_that_never_has_a_gradient_is_named_and_one_that_has_once_is_not():
    measured = of(ce_z=1.0, ce_logits=1.0, logit_z=0.0, logit_logits=0.0, repr_z=0.0)
    assert warnings_of(measured, TERMS) == [
        "loss.logit: no gradient at steps 1, 10, 100, so it teaches nothing",
        "loss.representation: no gradient at steps 1, 10, 100, so it teaches nothing",
    ]
    measured[10] = {**measured[10], "logit_logits": 0.1, "repr_z": 0.1}
    assert warnings_of(measured, TERMS) == []


@pytest.mark.parametrize(
    ("logit", "found"),
    [
        ((70.0, 1.0), ["loss.logit: 35 times the gradient of all else at z"]),
        ((2.0, 70.0), ["loss.logit: 70 times the gradient of all else at logits"]),
        ((59.0, 29.0), []),
        ((2.0, 0.009), ["cross-entropy: 111 times the gradient of all else at logits"]),
    ],
)
def test_a_term_is_held_against_the_sum_of_all_others(logit, found):
    both = {"logit_z": logit[0], "logit_logits": logit[1]}
    assert warnings_of(of(ce_z=1.0, ce_logits=1.0, repr_z=1.0, **both), TERMS) == found


def test_a_term_that_drowns_the_rest_at_one_step_only_is_let_be():
    measured = of(ce_z=1.0, ce_logits=1.0, dice_z=2 * DROWNS, dice_logits=2 * DROWNS)
    assert len(warnings_of(measured, TERMS)) == 2
    measured[100] = {**measured[100], "dice_z": 1.0, "dice_logits": 1.0}
    assert warnings_of(measured, TERMS) == []


def test_a_term_is_faint_where_it_hardly_counts_anywhere():
    measured = of(ce_z=2.0, ce_logits=1.0, dice_z=2.0, dice_logits=1.0, repr_z=0.02)
    assert warnings_of(measured, TERMS) == [
        "loss.representation: at most 0.5% of the gradient of all else"
    ]
    measured[100] = {**measured[100], "repr_z": 0.05}
    assert warnings_of(measured, TERMS) == []
    drowned = of(ce_z=1.0, ce_logits=1.0, repr_z=0.01, logit_z=200.0, logit_logits=1.0)
    assert warnings_of(drowned, TERMS) == ["loss.logit: 198 times the gradient of all else at z"]


def test_a_lone_term_drowns_nothing():
    assert warnings_of(of(ce_z=1.0, ce_logits=1.0), TERMS) == []


def test_a_training_is_judged_at_the_last_step_it_measures():
    assert [judged_at(steps) for steps in (1, 9, 10, 99, 100, 5000)] == [1, 1, 10, 10, 100, 100]


def train_together(rank, folder, steps):
    """Train as one of two gloo ranks, and save the weights."""
    gradient_norms.MEASURED = steps
    state = TrainingState(Trainee(TinyModel(), make_embedding(4, 4, seed=0)), TRAIN)
    step = DistillStep(ALL, seed=0)
    with two_ranks(rank, f"{folder}/store{len(steps)}") as workers:
        measured = [
            progress.gradients is not None
            for progress in fit(
                state,
                SquareClips(),
                step,
                TRAIN,
                teacher=TinyModel(seed=9),
                module=workers.wrap(state.trainee, step.terms),
                workers=workers,
            )
        ]
    torch.save((measured, state.trainee.state_dict()), f"{folder}/{len(steps)}-{rank}.pt")


@pytest.mark.slow
def test_measuring_on_one_of_two_workers_changes_no_bit_of_either(tmp_path):
    for steps in ((), MEASURED):
        spawn(train_together, (str(tmp_path), steps), nprocs=2)
    ends = {name: torch.load(tmp_path / f"{name}.pt") for name in ("0-0", "0-1", "3-0", "3-1")}
    expected = [step in MEASURED for step in range(1, 13)]
    assert ends["3-0"][0] == expected
    assert not any(ends["3-1"][0] + ends["0-0"][0])
    for name, value in ends["0-0"][1].items():
        for other in ("0-1", "3-0", "3-1"):
            assert torch.equal(ends[other][1][name], value), (other, name)
