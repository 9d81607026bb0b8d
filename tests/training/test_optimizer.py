"""Test groups of parameters, their rates and weight decay, and what an optimizer leaves alone."""

import pytest
import torch
from torch import nn

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, Trainee, make_embedding
from orchestrator.training.loop import fit, learning_rate
from orchestrator.training.optimizer import group_rate, optimizer_of
from orchestrator.training.state import TrainingState
from tests.model_tools import network
from tests.tiny import SquareClips, TinyModel
from vosmodels.errors import InputError
from vosmodels.model import VideoModel

AOT = TrainConfig(
    steps=12,
    batch_size=2,
    crop=32,
    optimizer="adamw",
    lr=1e-2,
    lr_min=1e-3,
    schedule="poly",
    warmup=0.25,
    encoder_lr=0.1,
    weight_decay=0.1,
    ema=0.9,
    ema_warmup=True,
    clip_norm=5.0,
)
STEP = DistillStep(LossConfig(omega=0.5), seed=0)


class Parts(VideoModel):
    """TinyModel with a frozen stem, an encoder with a norm, a table, and a bank no step reads."""

    queue = None

    def __init__(self):
        super().__init__()
        self.name = "parts"
        self.stem = nn.Conv2d(3, 3, 1)
        self.stem.requires_grad_(False)
        self.encoder = nn.ModuleDict({"conv": nn.Conv2d(3, 3, 1), "norm": nn.LayerNorm(32)})
        self.net = TinyModel()
        self.table = nn.Parameter(torch.ones(3, 1, 1))
        self.bank = nn.Parameter(torch.ones(2, 2))

    def parameter_kinds(self):
        encoder = [f"encoder.{name}" for name, _ in self.encoder.named_parameters()]
        return {**dict.fromkeys(encoder, "encoder"), "table": "undecayed"}

    def forward(self, clip, *, watch=()):
        x = self.stem(clip.frames.flatten(0, 1))
        x = self.encoder["norm"](self.encoder["conv"](x)) + self.table
        frames = x.unflatten(0, clip.frames.shape[:2])
        return self.net(type(clip)(frames, clip.masks, clip.present, clip.samples))

    def roll(self, clip, *, given_masks, watch=()):
        raise NotImplementedError

    def propagator(self, *args, **options):
        raise NotImplementedError


def fresh(train=AOT):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Parts()
    return TrainingState(Trainee(model, make_embedding(4, 4, seed=0)), train)


def run(state, train=AOT, until=None):
    for progress in fit(state, SquareClips(), STEP, train, teacher=TinyModel(seed=9)):
        if progress.step == until:
            return


def test_adamw_decays_matrices_and_all_of_the_encoder_and_spares_the_rest():
    trainee = Trainee(Parts(), make_embedding(4, 4, seed=0))
    optimizer = optimizer_of(trainee, AOT)
    before = {name: p.detach().clone() for name, p in trainee.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    for parameter in trainee.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {n for n, p in trainee.named_parameters() if not torch.equal(p, before[n])}
    assert decayed == {
        *(f"model.encoder.{n}" for n in ("conv.weight", "conv.bias", "norm.weight")),
        *("model.net.z.weight", "model.net.logit.weight", "model.bank", "embedding.weight"),
    }
    for name in decayed:  # one decoupled step without a gradient: w - lr decay w
        value = trainee.get_parameter(name)
        torch.testing.assert_close(value.detach(), before[name] * (1 - 0.5 * 0.1))


def test_adam_has_all_parameters_in_one_group_in_the_models_order():
    trainee = Trainee(network("mobilevos_mobilenetv2_noaspp", seed=0))
    (group,) = optimizer_of(trainee, TrainConfig(weight_decay=0.3)).param_groups
    assert [*map(id, group["params"])] == [*map(id, trainee.parameters())]
    assert group["weight_decay"] == 0.3


def test_the_encoder_of_a_space_time_network_has_its_share_of_the_rate():
    trainee = Trainee(network("mobilevos_mobilenetv2_noaspp", seed=0))
    train = TrainConfig(lr=1.0, encoder_lr=0.1)
    rates = {
        id(p): group_rate(train, 0.5, group)
        for group in optimizer_of(trainee, train).param_groups
        for p in group["params"]
    }
    for name, parameter in trainee.named_parameters():
        expected = 0.05 if name.startswith("model.key_encoder.") else 0.5
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_frozen_parameters_and_those_without_gradient_stay_where_they_are():
    state = fresh()
    before = {name: p.detach().clone() for name, p in state.trainee.named_parameters()}
    run(state)
    held = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    still = {n for n, p in state.trainee.named_parameters() if torch.equal(p, before[n])}
    assert still == {"model.stem.weight", "model.stem.bias", "model.bank"}
    assert id(state.trainee.model.stem.weight) not in held


def test_the_loop_gives_the_encoder_its_own_rate_at_every_step():
    state = fresh()
    seen = []
    for _ in fit(state, SquareClips(), STEP, AOT, teacher=TinyModel(seed=9)):
        rates = {group["encoder"]: group["lr"] for group in state.optimizer.param_groups}
        seen.append((rates[False], rates[True]))
    for n, (rate, encoder) in enumerate(seen):
        assert rate == learning_rate(AOT, n)
        assert encoder == pytest.approx((rate - 1e-3) * 0.1 + 1e-3)


def test_a_resumed_run_with_groups_ends_with_the_weights_of_the_unbroken_one(tmp_path):
    unbroken, broken, resumed = fresh(), fresh(), fresh()
    run(unbroken)
    run(broken, until=7)
    broken.save(tmp_path)
    assert resumed.restore(tmp_path)
    run(resumed)
    for ours, theirs in ((resumed.trainee, unbroken.trainee), (resumed.model, unbroken.model)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name


def test_a_rate_of_the_encoder_needs_a_model_that_names_one():
    with pytest.raises(InputError, match=r"train\.encoder_lr 0\.1: .* names no parameters of an e"):
        optimizer_of(Trainee(TinyModel()), AOT)


def test_aots_schedule_rises_from_the_lowest_rate_and_falls_to_it():
    train = TrainConfig(steps=100, lr=4e-4, lr_min=2e-5, schedule="poly", warmup=0.05)
    assert [learning_rate(train, n) for n in (0, 2, 5)] == pytest.approx(
        [2e-5, 2e-5 + 0.4 * 3.8e-4, 4e-4]
    )
    assert learning_rate(train, 53) == pytest.approx(2e-5 + 3.8e-4 * 0.5**0.9)
    assert learning_rate(train, 99) == pytest.approx(2e-5 + 3.8e-4 * (2 / 96) ** 0.9)


def test_an_average_with_a_rising_decay_is_the_recursion_written_out():
    state = fresh()
    expected = {n: p.detach().clone() for n, p in state.trainee.model.named_parameters()}
    seen = fit(state, SquareClips(), STEP, AOT, teacher=TinyModel(seed=9))
    for n, _ in enumerate(seen, start=1):
        decay = min(0.9, (1 + n) / (10 + n))
        average = dict(state.model.named_parameters())
        for name, parameter in state.trainee.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
            torch.testing.assert_close(average[name].detach(), expected[name])
    assert n == 12
