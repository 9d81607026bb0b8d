"""Test the terms on attentions and relations, with a model that has attentions."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn import functional

from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.training.distill_step import DistillStep, Trainee, make_trainee
from orchestrator.training.gradient_norms import measure
from orchestrator.training.loop import fit
from orchestrator.training.state import TrainingState
from tests.conformance import stand_in
from tests.tiny import SquareClips, TinyModel
from vosmodels import registry
from vosmodels.data.clips import batch
from vosmodels.distillation import linear_cka, relation_losses
from vosmodels.errors import InputError
from vosmodels.types import StepOutput

SIZE = 33
ALONE: dict[str, Any] = {"ce": 0.0, "logit": 0.0, "representation": 0.0}
TRAIN = TrainConfig(steps=2, batch_size=2, clip_length=3, crop=SIZE, lr=1e-2)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)


def student(**options):
    return registry.build(stand_in.NAME, seed=1, drop=0.0, **options)


def teacher(channels=12, layers=2):
    model = registry.build(stand_in.NAME, seed=2, drop=0.0, channels=channels, layers=layers)
    return model.eval().requires_grad_(False)


def clip_of(objects=2):
    return batch(SquareClips(objects=objects, size=SIZE), 0, 2)


def losses_of(loss, clip, taught, trainee):
    step = DistillStep(loss, seed=0)
    output = step.teach(taught, clip, step.teacher_watch)
    return step.losses(trainee, clip, keep=1.0, teacher_output=output, selection=step.select(clip))


def value(losses, name):
    return (losses.sums[name] / losses.counts[name]).item()


def mean(parts):
    parts = list(parts)
    return sum(parts) / len(parts)


# ---- relations


@pytest.mark.parametrize("objects", [1, 2])
def test_the_relation_terms_are_the_mean_over_clips_and_frames(objects):
    clip, taught = clip_of(objects), TinyModel(seed=9)
    loss = LossConfig(**ALONE, inter=0.5, intra=2.0, relation_tau=3.0)
    losses = losses_of(loss, clip, taught, Trainee(TinyModel()))
    assert losses.weights == {"inter": 0.5, "intra": 2.0}
    assert losses.counts == {"inter": 4, "intra": 4}
    padded = []  # all eleven channels, as Algorithm 1 has them
    for model in (TinyModel(), taught):
        p = (model(clip).logits.detach() / 3).softmax(2).flatten(0, 1).flatten(2).mT
        padded.append(functional.pad(p, (0, 11 - p.shape[2])))
    inter = mean(relation_losses(padded[0][i], padded[1][i])[0].item() for i in range(4))
    columns = [x[..., : objects + 1] for x in padded]
    intra = mean(relation_losses(columns[0][i], columns[1][i])[1].item() for i in range(4))
    assert inter > 1e-4
    assert intra > 1e-4
    assert value(losses, "inter") == pytest.approx(inter, abs=1e-6)
    assert value(losses, "intra") == pytest.approx(intra, abs=1e-6)
    (slope,) = torch.autograd.grad(losses.sums["inter"], losses.at["logits"])
    assert slope.abs().max() > 1e-6  # with one object too


def test_an_absent_slot_changes_no_relation():
    alone = clip_of(objects=1)
    present = torch.tensor([[True, False]] * 2)
    padded = type(alone)(alone.frames, alone.masks, present, alone.samples)
    loss = LossConfig(**ALONE, inter=1.0, intra=1.0)
    one, two = (
        losses_of(loss, c, TinyModel(seed=9), Trainee(TinyModel())) for c in (alone, padded)
    )
    for name in ("inter", "intra"):
        assert value(two, name) == pytest.approx(value(one, name), abs=1e-6)


def test_a_student_that_predicts_what_its_teacher_does_has_no_relation_left_to_learn():
    losses = losses_of(
        LossConfig(**ALONE, inter=1.0, intra=1.0), clip_of(), TinyModel(), Trainee(TinyModel())
    )
    assert value(losses, "inter") == pytest.approx(0, abs=1e-5)
    assert value(losses, "intra") == pytest.approx(0, abs=1e-5)


# ---- features


@pytest.mark.parametrize("side", ["pre_relu", "post_relu"])
def test_cka_of_features_is_the_mean_over_clips_frames_and_present_objects(side):
    clip = clip_of()
    present = torch.tensor([[True, False], [True, True]])
    clip = type(clip)(clip.frames, clip.masks, present, clip.samples)
    own, taught = TinyModel(), TinyModel(channels=6, seed=9)
    losses = losses_of(LossConfig(**ALONE, cka=0.5, z=side), clip, taught, Trainee(own))
    assert losses.weights == {"cka": 0.5}
    assert losses.counts == {"cka": 6}
    each = []
    for b, t, n in ((b, t, n) for b in (0, 1) for t in (0, 1) for n in (0, 1) if present[b, n]):
        grams = []
        for model in (own, taught):
            z = model(clip).z[b, t, n].detach().flatten(1).T.double()  # (hw, d)
            z = z.relu() if side == "post_relu" else z
            z = z - z.mean(0)
            grams.append(z @ z.T)
        cross = (grams[0] * grams[1]).sum()
        each.append(1 - (cross / (grams[0].norm() * grams[1].norm())).item())
    assert mean(each) > 1e-2
    assert value(losses, "cka") == pytest.approx(mean(each), abs=1e-6)
    (slope,) = torch.autograd.grad(losses.sums["cka"], losses.at["z"])
    assert slope[1, :, 1].abs().max() > 1e-6
    assert not slope[0, :, 1].any()  # of the absent object


# ---- attentions


def expected(clip, own, taught, names, distance):
    """Mean over (clip, frame) of a distance between two intermediates."""
    s = own(clip, watch=[names[1]]).named[names[1]]
    t = taught(clip, watch=[names[0]]).named[names[0]]
    return mean(distance(s[b, f], t[b, f]).item() for b in range(2) for f in range(2))


def test_equation_9_is_the_weighted_sum_over_pairs_of_one_minus_cka():
    clip, own, taught = clip_of(), student(), teacher()
    pairs = ((1, 1, 0.5), (-1, -1, 2.0))
    loss = LossConfig(**ALONE, attention=1.5, attention_pairs=pairs)
    losses = losses_of(loss, clip, taught, make_trainee(loss, own, taught, seed=0))
    assert losses.weights == {"att": 1.5}
    assert losses.counts == {"att": 4}
    parts = [
        expected(clip, own, taught, names, lambda s, t: 1 - linear_cka(s, t))
        for names in (("self.id.1", "self.id.1"), ("self.id.2", "self.id.1"))
    ]
    assert parts[0] != pytest.approx(parts[1], rel=1e-3)
    assert value(losses, "att") == pytest.approx(0.5 * parts[0] + 2.0 * parts[1], rel=1e-5)


@pytest.mark.parametrize("part", ["visual", "output", "weights"])
def test_the_part_is_chosen_and_null_pairs_the_last_layers(part):
    clip, own, taught = clip_of(), student(layers=3), teacher()
    loss = LossConfig(**ALONE, attention=1.0, attention_part=part)
    losses = losses_of(loss, clip, taught, make_trainee(loss, own, taught, seed=0))
    names = (f"self.{part}.2", f"self.{part}.3")
    distance = expected(clip, own, taught, names, lambda s, t: 1 - linear_cka(s, t))
    assert value(losses, "att") == pytest.approx(distance, rel=1e-5)


def test_kl_of_weights_is_that_of_their_rows():
    clip, own, taught = clip_of(), student(), teacher()
    loss = LossConfig(**ALONE, attention=1.0, attention_part="weights", attention_loss="kl")
    trainee = make_trainee(loss, own, taught, seed=0)
    assert trainee.projections is None
    losses = losses_of(loss, clip, taught, trainee)
    names = ("self.weights.2", "self.weights.1")
    rows = expected(clip, own, taught, names, lambda s, t: (t * (t.log() - s.log())).sum(-1).mean())
    assert value(losses, "att") == pytest.approx(rows, rel=1e-4)


def test_kl_of_outputs_is_over_channels_and_maps_the_student_where_widths_differ():
    clip, own = clip_of(), student()
    loss = LossConfig(**ALONE, attention=1.0, attention_loss="kl", attention_tau=0.5)
    for channels in (8, 12):
        taught = teacher(channels=channels)
        trainee = make_trainee(loss, own, taught, seed=0)
        assert (trainee.projections is None) == (channels == 8)
        maps = dict(trainee.named_parameters())
        weight = maps.get("projections.maps.0.weight", torch.eye(8))
        bias = maps.get("projections.maps.0.bias", torch.zeros(8))

        def divergence(s, t, weight=weight, bias=bias):
            log_s, log_t = ((x / 0.5).log_softmax(-1) for x in (s @ weight.T + bias, t))
            return (log_t.exp() * (log_t - log_s)).sum(-1).mean()

        losses = losses_of(loss, clip, taught, trainee)
        names = ("self.id.2", "self.id.1")
        assert value(losses, "att") == pytest.approx(
            expected(clip, own, taught, names, divergence), rel=1e-4
        )


def test_projectors_are_an_ensemble_of_each_pair_and_learn():
    clip, own, taught = clip_of(), student(), teacher()
    pairs = ((1, 1, 1.0), (2, 1, 1.0))
    loss = LossConfig(
        **ALONE, attention=1.0, attention_loss="projectors", projectors=2, attention_pairs=pairs
    )
    trainee = make_trainee(loss, own, taught, seed=0)
    parameters = {
        name: p for name, p in trainee.named_parameters() if name.startswith("projections")
    }
    assert len(parameters) == 2 * 2 * 2  # pairs, projectors, weight and bias

    def project(s, pair):
        maps = [
            [parameters[f"projections.maps.{pair}.each.{k}.{w}"] for w in ("weight", "bias")]
            for k in (0, 1)
        ]
        return mean((s @ weight.T + bias).relu() for weight, bias in maps)

    losses = losses_of(loss, clip, taught, trainee)
    total = sum(
        expected(
            clip,
            own,
            taught,
            (f"self.id.{pair + 1}", "self.id.1"),
            lambda s, t, pair=pair: 1 - functional.cosine_similarity(project(s, pair), t).mean(),
        )
        for pair in (0, 1)
    )
    assert value(losses, "att") == pytest.approx(total, rel=1e-4)
    losses.sums["att"].backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in taught.parameters())


def test_projections_depend_on_the_seed_alone_and_leave_the_modes_of_models():
    loss = LossConfig(**ALONE, attention=1.0, attention_loss="projectors")

    def weights(seed):
        own = student().train()
        trainee = make_trainee(loss, own, teacher(), seed=seed)
        assert own.training
        assert trainee.projections is not None
        return torch.cat([p.flatten() for p in trainee.projections.parameters()])

    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    assert torch.equal(weights(3), first)
    assert not torch.equal(weights(4), first)


def test_projections_are_in_the_resume_state_and_in_no_weights_of_the_model(tmp_path):
    loss = LossConfig(**ALONE, attention=1.0, attention_loss="projectors")
    taught = teacher()

    def start():
        trainee = make_trainee(loss, student(), taught, seed=0)
        return TrainingState(trainee, TRAIN)

    state, step = start(), DistillStep(loss, seed=0)
    before = {k: v.clone() for k, v in state.trainee.state_dict().items()}
    list(fit(state, SquareClips(size=SIZE), step, TRAIN, teacher=taught))
    state.save(tmp_path)
    other = start()
    assert other.restore(tmp_path)
    names = {name for name in before if name.startswith("projections")}
    assert len(names) == 6
    for name in names:
        saved = state.trainee.state_dict()[name]
        assert not torch.equal(saved, before[name]), name
        assert torch.equal(other.trainee.state_dict()[name], saved), name
    assert not any("projections" in name for name in state.model.state_dict())


def test_gradients_are_measured_at_the_intermediates_that_the_term_reads():
    clip, own, taught = clip_of(), student(), teacher()
    loss = LossConfig(logit=0.0, representation=0.0, inter=1.0, intra=1.0, attention=3.0)
    losses = losses_of(loss, clip, taught, make_trainee(loss, own, taught, seed=0))
    measured = measure(losses)
    assert set(measured) == {"ce_logits", "inter_logits", "intra_logits", "att_self.id.-1"}
    for term, weight, place in (
        ("inter", 1.0, "logits"),
        ("intra", 1.0, "logits"),
        ("att", 3.0, "self.id.-1"),
    ):
        at = losses.at[place]
        mean_value = weight * losses.sums[term] / losses.counts[term]
        (slope,) = torch.autograd.grad(mean_value, [at], retain_graph=True)
        if place == "self.id.-1":
            assert measured[f"{term}_{place}"] == pytest.approx(slope.norm().item(), rel=1e-5)
        assert (
            measured[f"{term}_{place}"] >= slope.norm().item() * 0.99
        )  # frames feed on each other
        assert slope.norm() > 0


def test_only_what_a_term_reads_is_asked_of_the_models():
    clip, seen = clip_of(), {}

    class Spy(stand_in.StandIn):
        def forward(self, clip, *, watch=()):
            seen[self.options.channels] = tuple(watch)
            return super().forward(clip, watch=watch)

    models = []
    for channels, layers in ((8, 1), (12, 2)):
        model = Spy(stand_in.StandInConfig(channels=channels, layers=layers))
        models.append(model)
    own, taught = models
    loss = LossConfig(**ALONE, attention=1.0, attention_pairs=((1, 1, 1.0), (-1, -1, 1.0)))
    losses_of(loss, clip, taught, Trainee(own))
    assert seen == {8: ("self.id.1",), 12: ("self.id.1", "self.id.2")}
    losses_of(LossConfig(**ALONE, inter=1.0), clip, taught, Trainee(own))
    assert seen == {8: (), 12: ()}


def test_attentions_of_other_positions_are_refused_with_both_names():
    clip, own, taught = clip_of(), student(), teacher()
    loss = LossConfig(**ALONE, attention=1.0, attention_part="weights")
    step = DistillStep(loss, seed=0)
    output = step.teach(taught, clip, step.teacher_watch)
    heads = output.named["self.weights.-1"].repeat(1, 1, 2, 1)  # two heads
    odd = StepOutput(output.logits, None, {"self.weights.-1": heads})
    with pytest.raises(ValueError, match=r"loss.attention compares self.weights.-1 .*part$"):
        step.losses(Trainee(own), clip, keep=1.0, teacher_output=odd, selection=None)


def test_a_layer_that_a_model_lacks_is_refused_before_the_first_step():
    pairs = ((3, 1, 1.0),)
    loss = LossConfig(**ALONE, attention=1.0, attention_loss="projectors", attention_pairs=pairs)
    with pytest.raises(InputError, match=r"no intermediate 'self.id.3'; there are self.visual.1"):
        make_trainee(loss, student(), teacher(), seed=0)


def test_half_intermediates_are_compared_in_float32():
    clip, own, taught = clip_of(), student(), teacher()
    loss = LossConfig(**ALONE, attention=1.0, inter=1.0, intra=1.0)
    step = DistillStep(loss, seed=0)
    exact = losses_of(loss, clip, taught, Trainee(own))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = step.teach(taught, clip, step.teacher_watch)
        half = step.losses(Trainee(own), clip, keep=1.0, teacher_output=output, selection=None)
    s, t = half.at["self.id.-1"], output.named["self.id.-1"]
    assert s.dtype == t.dtype == torch.bfloat16
    distance = mean(
        1 - linear_cka(s[b, f].double(), t[b, f].double()).item() for b in (0, 1) for f in (0, 1)
    )
    assert value(half, "att") == pytest.approx(distance, rel=1e-5)
    for name in ("inter", "intra"):
        assert value(half, name) == pytest.approx(value(exact, name), abs=0.01)
    assert {total.dtype for total in half.sums.values()} == {torch.float32}


@pytest.mark.parametrize("choice", ["cka", "kl", "projectors"])
def test_no_term_waits_for_the_device(choice, monkeypatch):
    """Tensors without values cannot be waited for: asking for one raises."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has none
    clip = clip_of()
    loss = LossConfig(**ALONE, inter=1.0, intra=1.0, attention=1.0, attention_loss=choice)
    step, taught = DistillStep(loss, seed=0), teacher()
    trainee = make_trainee(loss, student(), taught, seed=0).to("meta")
    clip, taught = clip.to("meta"), taught.to("meta")
    output = step.teach(taught, clip, step.teacher_watch)
    losses = step.losses(trainee, clip, keep=1.0, teacher_output=output, selection=None)
    assert set(losses.sums) == {"inter", "intra", "att"}
    torch.stack(list(losses.sums.values())).sum().backward()
