"""Test the loop: what it yields, how it resumes, when it stops."""

import os

import pytest
import torch

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, Trainee, make_embedding
from orchestrator.training.distributed import Workers
from orchestrator.training.loop import Diverged, fit, learning_rate
from orchestrator.training.state import TrainingState
from tests.tiny import SquareClips, TinyModel
from vosmodels.data.clips import batch
from vosmodels.errors import InputError
from vosmodels.losses import keep_fraction
from vosmodels.types import Clip

TRAIN = TrainConfig(
    steps=12, batch_size=2, clip_length=3, crop=32, lr=1e-2, checkpoint_every=5, eval_every=4
)
CE = DistillStep(LossConfig(logit=0, representation=0), seed=0)


def fresh(train=TRAIN, embedding=False):
    return TrainingState(
        Trainee(TinyModel(), make_embedding(4, 4, seed=0) if embedding else None), train
    )


def weights(state):
    return {k: v.clone() for k, v in state.trainee.state_dict().items()}


def test_fit_yields_every_step_and_says_what_is_due():
    seen = list(fit(fresh(), SquareClips(), CE, TRAIN))
    assert [p.step for p in seen] == list(range(1, 13))
    assert [p.step for p in seen if p.checkpoint] == [5, 10, 12]
    assert [p.step for p in seen if p.evaluate] == [4, 8, 12]
    assert [p.step for p in seen if p.losses] == [10, 12]


def test_fit_learns_the_square():
    train = TRAIN.model_copy(update={"steps": 60, "lr": 3e-2})
    first, *_, last = [
        p.losses["total"] for p in fit(fresh(train), SquareClips(), CE, train) if p.losses
    ]
    assert last < 0.6 * first


@pytest.mark.parametrize("more", [{}, {"ema": 0.9}, {"amp": "float16"}], ids=str)
def test_a_resumed_run_ends_with_the_weights_of_the_unbroken_one(tmp_path, more):
    step = DistillStep(LossConfig(omega=0.5), seed=0)
    teacher = TinyModel(seed=9)
    train = TRAIN.model_copy(update=more)
    unbroken = fresh(train, embedding=True)
    for _ in fit(unbroken, SquareClips(), step, train, teacher=teacher):
        pass
    broken = fresh(train, embedding=True)
    for progress in fit(broken, SquareClips(), step, train, teacher=teacher):
        if progress.step == 7:
            broken.save(tmp_path)
        if progress.step == 9:
            break
    resumed = fresh(train, embedding=True)
    assert resumed.restore(tmp_path)
    assert resumed.step == 7
    for _ in fit(resumed, SquareClips(), step, train, teacher=teacher):
        pass
    for name, value in weights(unbroken).items():
        assert torch.equal(weights(resumed)[name], value), name
    for name, value in unbroken.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize("loaders", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_fit_ends_with_the_very_weights_of_the_loop_written_out(loaders):
    train = TRAIN.model_copy(update={"batch_size": 3})  # counts that are no powers of two
    step = DistillStep(LossConfig(omega=0.5, dice=1.0, method="dense"), seed=0)
    teacher = TinyModel(seed=9)
    ours, plain = fresh(embedding=True), fresh(embedding=True).trainee
    for _ in fit(ours, SquareClips(), step, train, teacher=teacher, loaders=loaders):
        pass
    optimizer = torch.optim.Adam(plain.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    for n in range(train.steps):
        optimizer.param_groups[0]["lr"] = train.lr * (0.1 if n >= 10 else 1.0)
        clip = batch(SquareClips(), n, 3)
        selection, teacher_output = step.select(clip), step.teach(teacher, clip)
        keep = keep_fraction(n / train.steps)
        losses = step.losses(
            plain, clip, keep=keep, teacher_output=teacher_output, selection=selection
        )
        names = list(losses.sums)
        optimizer.zero_grad()
        terms = [losses.weights[n] * losses.sums[n] / losses.counts[n] for n in names]
        torch.stack(terms).sum().backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(weights(ours)[name], value), name


def saved(folder):
    """The states of steps 4 and 6 in a folder, and their weights by step."""
    state, kept = fresh(), {}
    for progress in fit(state, SquareClips(), CE, TRAIN):
        if progress.step in (4, 6):
            state.save(folder)
            kept[progress.step] = weights(state)
    return kept


def test_a_torn_state_is_passed_over_whole(tmp_path):
    kept = saved(tmp_path)
    os.truncate(tmp_path / "0000006.safetensors", 500)
    restored = fresh()
    assert restored.restore(tmp_path)
    assert restored.step == 4
    for name, value in weights(restored).items():
        assert torch.equal(value, kept[4][name]), name
    assert {float(m["step"]) for m in restored.optimizer.state.values()} == {4.0}


def test_workers_go_on_from_the_state_of_rank_0_whatever_they_see_themselves(tmp_path):
    kept = saved(tmp_path)
    told = []

    def all_reduce(tensor):
        told.append(int(tensor))
        return torch.tensor(4)

    first, second = fresh(), fresh()
    (tmp_path / "0000006.json").rename(tmp_path / "hidden")
    assert first.restore(tmp_path, Workers(0, 2, all_reduce))
    (tmp_path / "hidden").rename(tmp_path / "0000006.json")
    assert second.restore(tmp_path, Workers(1, 2, all_reduce))
    assert told == [4, 0]
    assert first.step == second.step == 4
    for name, value in weights(second).items():
        assert torch.equal(value, kept[4][name]), name


def test_a_worker_that_does_not_see_the_state_of_rank_0_says_so(tmp_path):
    saved(tmp_path)
    with pytest.raises(InputError, match=r"0000008\.safetensors: .*No such file"):
        fresh().restore(tmp_path, Workers(1, 2, lambda tensor: torch.tensor(8)))


def test_no_worker_restores_where_rank_0_has_nothing(tmp_path):
    saved(tmp_path)
    state = fresh()
    assert not state.restore(tmp_path, Workers(1, 2, lambda tensor: torch.tensor(0)))
    assert state.step == 0


def test_nothing_to_restore_is_said(tmp_path):
    assert not fresh().restore(tmp_path / "none")


def test_fit_stops_on_nan_names_the_step_and_leaves_the_weights():
    state = fresh()
    run = fit(state, SquareClips(), CE, TRAIN)
    next(run)
    with torch.no_grad():
        state.trainee.model.logit.bias.fill_(float("nan"))
    before = weights(state)
    with pytest.raises(Diverged, match=r"step 2: not finite: total nan.*train\.lr"):
        next(run)
    for name, value in weights(state).items():
        torch.testing.assert_close(value, before[name], equal_nan=True, rtol=0, atol=0)
    assert state.step == 1


class OneBadBatch(SquareClips):
    """The fourth step's clips are not finite."""

    def sample(self, index):
        clip = super().sample(index)
        frames = clip.frames * float("nan") if index in (6, 7) else clip.frames
        return Clip(frames, clip.masks, clip.present, clip.samples)


def test_a_fused_optimizer_is_told_late_and_stands_where_it_stood_before_the_bad_step():
    train = TRAIN.model_copy(update={"checkpoint_every": 100, "eval_every": 100})

    def fused():
        state = fresh(train)
        state.optimizer = torch.optim.Adam(state.trainee.parameters(), lr=train.lr, fused=True)
        return state

    state, three = fused(), fused()
    run = fit(state, OneBadBatch(), CE, train)
    assert [next(run).step for _ in range(9)] == list(range(1, 10))
    with pytest.raises(Diverged, match=r"step 4: not finite: total nan"):
        next(run)
    good = fit(three, SquareClips(), CE, train)
    for _ in range(3):
        next(good)
    assert state.step == three.step == 3
    for name, value in weights(three).items():
        assert torch.equal(weights(state)[name], value), name
    left, right = (s.optimizer.state_dict()["state"] for s in (state, three))
    for index, moments in right.items():
        for name, value in moments.items():
            assert torch.equal(left[index][name], value), (index, name)


def test_losses_come_with_the_speed_since_the_last():
    seen = {p.step: p.speed for p in fit(fresh(), SquareClips(), CE, TRAIN) if p.speed}
    assert list(seen) == [10, 12]
    for speed in seen.values():
        assert speed["samples_per_s"] > 0
        assert 0 < speed["data_wait"] < 1


def test_a_teacher_that_is_needed_and_missing_is_refused():
    with pytest.raises(ValueError, match="there is no teacher"):
        next(fit(fresh(), SquareClips(), DistillStep(LossConfig(), seed=0), TRAIN))


def test_the_parts_of_two_ranks_add_up_to_the_gradient_of_one():
    """Each rank's gradient times 1/world, summed, is what DDP leaves: it must be one process's."""
    whole = fresh()
    next(fit(whole, SquareClips(), CE, TRAIN))
    weight = whole.trainee.model.logit.weight
    expected = whole.optimizer.state[weight]["exp_avg"]
    parts = []
    for rank in (0, 1):
        state = fresh()
        # one item per clip and frame, two clips: both ranks count two of four
        workers = Workers(rank, 2, lambda tensor: tensor * 2)
        next(fit(state, SquareClips(), CE, TRAIN, workers=workers))
        parts.append(state.optimizer.state[state.trainee.model.logit.weight]["exp_avg"])
    torch.testing.assert_close((parts[0] + parts[1]) / 2, expected)


def test_clipping_bounds_the_first_update():
    train = TRAIN.model_copy(update={"clip_norm": 1e-3})
    state = fresh(train)
    next(fit(state, SquareClips(), CE, train))
    moments = [m["exp_avg"] / 0.1 for m in state.optimizer.state_dict()["state"].values()]
    assert torch.stack([m.norm() for m in moments]).norm().item() == pytest.approx(1e-3, rel=1e-4)


def test_step_schedule_drops_tenfold_at_five_sixths():
    train = TrainConfig(steps=60, lr=1.0)
    assert [learning_rate(train, s) for s in (0, 49, 50, 59)] == pytest.approx([1, 1, 0.1, 0.1])


def test_cosine_rises_over_the_warm_up_and_ends_at_five_percent():
    train = TrainConfig(steps=1000, lr=1.0, schedule="cosine", warmup=0.1)
    assert learning_rate(train, 0) == pytest.approx(0.01)
    assert learning_rate(train, 49) < learning_rate(train, 99)
    assert learning_rate(train, 999) == pytest.approx(0.05, abs=1e-3)


def test_the_step_schedule_decays_where_it_is_told_to():
    train = TrainConfig(steps=10, lr=1.0, decay_at=0.5)
    assert [learning_rate(train, s) for s in (4, 5)] == pytest.approx([1, 0.1])


def test_the_average_is_a_decaying_mean_of_the_weights_of_every_step():
    train = TRAIN.model_copy(update={"ema": 0.75})
    state = fresh(train)
    expected = None
    for _ in fit(state, SquareClips(), CE, train):
        now = state.trainee.model.logit.weight.detach().double()
        expected = now if expected is None else 0.75 * expected + 0.25 * now
    found = state.model.logit.weight.detach().double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(found, now)


def test_the_next_stage_starts_from_what_the_last_delivered_and_forgets_its_moments(tmp_path):
    train = TRAIN.model_copy(update={"ema": 0.75})
    state = fresh(train)
    for _ in fit(state, SquareClips(), CE, train):
        pass
    delivered = {k: v.clone() for k, v in state.model.state_dict().items()}
    state.next_stage(TRAIN)
    assert (state.stage, state.step) == (1, 0)
    for name, value in state.trainee.model.state_dict().items():
        assert torch.equal(value, delivered[name])
    assert not state.optimizer.state
    state.save(tmp_path)
    resumed = fresh()
    assert resumed.restore(tmp_path)
    assert resumed.stage == 1


def test_an_overflow_in_float16_lowers_the_scale_and_moves_no_weight():
    train = TRAIN.model_copy(update={"amp": "float16", "steps": 3})
    state = fresh(train)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**40})
    before = weights(state)
    next(fit(state, SquareClips(), CE, train))
    assert state.scaler.get_scale() == 2.0**39
    for name, value in weights(state).items():
        assert torch.equal(value, before[name]), name


def test_batchnorm_that_would_learn_its_statistics_is_refused():
    state = fresh()
    state.trainee.model.norm = torch.nn.BatchNorm2d(3)
    with pytest.raises(AssertionError, match="it is frozen"):
        next(fit(state, SquareClips(), CE, TRAIN))
