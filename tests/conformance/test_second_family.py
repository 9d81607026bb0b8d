"""A second family of models goes through every seam that the first one does.

The stand-in pads for itself, has no feature map per object, a frozen norm of buffers, dropout,
and a parameter that gets no gradient. What it breaks here is a special case of the first family.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch.multiprocessing.spawn import spawn

from orchestrator.config import ConfigError, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.data import DataConfig
from orchestrator.config.loading import load
from orchestrator.config.loss import LossConfig
from orchestrator.config.train import TrainConfig
from orchestrator.execution import job as jobs
from orchestrator.planning import preflight
from orchestrator.planning.datasets import Stage, training_clips
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import Gradients, Losses
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.distill_step import DistillStep, Trainee, embedding_between, make_trainee
from orchestrator.training.loop import fit, learning_rate
from orchestrator.training.state import TrainingState
from soups.average import average
from soups.search import Ingredient, greedy
from tests.conformance import stand_in
from tests.conftest import write_davis
from tests.gloo import two_ranks
from tests.model_tools import textured_frames
from tests.tiny import SquareClips
from vosmodels import checkpoint, registry
from vosmodels.backbones import load_backbone
from vosmodels.calibration import calibrate
from vosmodels.data.clips import batch
from vosmodels.errors import InputError
from vosmodels.evaluation.speed.timing import measure
from vosmodels.inference import VideoSegmenter, for_inference
from vosmodels.types import IGNORED

CROP = 33  # 16 k + 1, as 465 is
LABEL_FREE = {
    "ce": 0.0,
    "dice": 0.0,
    "logit": 1.0,
    "representation": 0.0,
    "sampling": "all",
}

ATTENTION_ALONE = LossConfig(
    ce=0.0, logit=0.0, representation=0.0, attention=1.0, attention_loss="projectors"
)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)


def model(seed=0):
    return registry.build(stand_in.NAME, seed=seed)


def sweep(root, **changes):
    values: dict[str, Any] = {
        "name": "second",
        "data": {"root": str(root), "select_height": 48, "select_stride": 2},
        "student": {"name": stand_in.NAME},
        "teacher": {"name": stand_in.NAME, "steps": 2, "options": {"channels": 12}},
        "loss": {"representation": 0.0},
        "stem": {"steps": 2, "batch_size": 2, "crop": CROP, "lr": 1e-3},
        "train": {"steps": 4, "checkpoint_every": 2, "batch_size": 2, "clip_length": 3}
        | {"crop": CROP, "lr": 1e-3, "schedule": "poly"},
        "sweep": {"parameters": {"loss.tau": [0.1, 1.0]}},
    }
    for key, change in changes.items():
        values[key] = {**values.get(key, {}), **change}
    return SweepConfig.model_validate(values)


def planned(config):
    return plan_sweep(located(config), sweep_id(config), threads=1)


def record(storage, job):
    return Ledger(storage.root).job(job.key)


def sums(storage, job):
    return [written.sha256 for written in record(storage, job).checkpoints()]


def problems(tmp_path, *overrides):
    file = tmp_path / "s.yaml"
    file.write_text("sweep: {parameters: {loss.tau: [0.1]}}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, overrides)
    return "\n".join(raised.value.problems)


# ---- running a model


def test_the_copy_for_inference_answers_as_the_model():
    network, frames = model(), textured_frames(3, 40, 56)
    ids = torch.zeros(40, 56, dtype=torch.int64)
    ids[10:30, 10:30] = 7
    answers = []
    for any_of_both in (network, for_inference(network)):
        segmenter = VideoSegmenter(any_of_both)
        segmenter.step(frames[0], ids)
        answers.append([segmenter.step(frame) for frame in frames[1:]])
        assert segmenter.probabilities.shape == (2, 40, 56)
    torch.testing.assert_close(answers[0], answers[1])


def test_constants_keep_full_precision_in_a_half_copy():
    half = for_inference(model(), dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert dict(half.named_buffers())["mean"].dtype == torch.float32
    assert dict(half.named_buffers())["norm.scale"].dtype == torch.bfloat16  # a weights file's


def test_speed_is_measured_of_any_family():
    speed = measure(model(), size=(32, 48), frames=2)
    assert speed.parameters == sum(p.numel() for p in model().parameters())
    assert speed.fps > 0


def test_a_model_without_known_encoders_refuses_a_backbone(tmp_path):
    with pytest.raises(InputError, match=r"w\.pth: StandIn has no encoder .* leave `backbone` out"):
        load_backbone(model(), tmp_path / "w.pth")


def test_a_norm_of_buffers_is_left_as_it_is_by_calibration():
    network = model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    calibrate(network, iter(()))  # nothing to set: no clip is wanted
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


# ---- configuration


def test_a_crop_is_held_against_the_sides_a_model_takes(tmp_path):
    student = f"student.name={stand_in.NAME}"
    alone = (student, "loss.logit=0", "loss.representation=0")
    told = problems(tmp_path, *alone, "train.crop=464", "stem.crop=465")
    assert f"crop 464: {stand_in.NAME} takes sides of 16 k + 1, such as 465" in told
    assert "465: " not in told
    told = problems(tmp_path, "train.crop=465", "stem.crop=464")
    assert "mobilevos_mobilenetv2 takes sides of 16 k, such as 464" in told
    assert "must be a multiple of 16, or one more" in problems(tmp_path, "train.crop=466")
    told = problems(tmp_path, student, "loss.representation=0", "train.crop=465", "stem.crop=465")
    assert "stcn_mobilenetv2 takes sides of 16 k" in told  # the teacher sees the same clips


def test_with_stages_only_their_crops_are_held_against_the_sides(tmp_path):
    stages = [
        {"name": "video", "steps": 1, "crop": 465},
        {"name": "video", "steps": 1, "crop": 129},
    ]
    said: dict[str, Any] = {"name": "s", "sweep": {"points": {"a": {}}}}
    said |= {"student": {"name": stand_in.NAME}}
    said |= {"loss": {"logit": 0.0, "representation": 0.0}, "stages": stages}
    assert SweepConfig.model_validate(said).train.crop == 128  # which no job has
    stages[0]["crop"] = 464
    with pytest.raises(ValidationError, match=r"crop 464: .* takes sides of 16 k \+ 1"):
        SweepConfig.model_validate(said)


def test_losses_on_features_are_refused_for_a_model_without_feature_maps(tmp_path):
    told = problems(
        tmp_path, f"teacher.name={stand_in.NAME}", "loss.cka=1", "loss.representation=0"
    )
    assert f"which teacher {stand_in.NAME} does not have; set loss.cka=0" in told
    told = problems(tmp_path, f"student.name={stand_in.NAME}", "train.crop=129", "stem.crop=129")
    assert f"which student {stand_in.NAME} does not have; set loss.representation=0" in told
    told = problems(tmp_path, f"teacher.name={stand_in.NAME}")
    assert f"which teacher {stand_in.NAME} does not have" in told
    with pytest.raises(InputError, match=f"which {stand_in.NAME} does not have"):
        embedding_between(model(), registry.build("mobilevos_mobilenetv2", seed=0), seed=0)


def test_a_loss_without_any_term_is_refused(tmp_path):
    words = [f"loss.{key}=0" for key in ("ce", "dice", "logit", "representation")]
    assert "every weight is 0" in problems(tmp_path, *words)


@pytest.mark.parametrize(
    ("section", "name"), [("student", "mobilevos_mobilenetv2"), ("teacher", "stcn_mobilenetv2")]
)
def test_the_attention_loss_is_refused_for_a_model_without_attentions(section, name, tmp_path):
    other = {"student": "teacher", "teacher": "student"}[section]
    words = ("loss.representation=0", "loss.attention=1.5", f"{other}.name={stand_in.NAME}")
    told = problems(tmp_path, *words)
    assert f"attention 1.5 compares attentions, which {section} {name} does not have" in told
    assert f"set loss.attention=0, or choose another {section}" in told
    assert f"which {other} " not in told


ATTENDING = (
    *("loss.representation=0", "loss.attention=1.5", "train.crop=33", "stem.crop=33"),
    *(f"{section}.name={stand_in.NAME}" for section in ("student", "teacher")),
)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("loss.attention_pairs=[[2, 1, 1.0]]", "teacher stand_in has no intermediate 'self.id.2'"),
        ("loss.attention_pairs=[[-1, -2, 1]]", "student stand_in has no intermediate 'self.id.-2'"),
        ("loss.attention_of=long", "has no intermediate 'long.id.-1'; there are self.visual.1"),
        ("loss.attention_pairs=[[1, 0, 1.0]]", "layers count from 1, or from the end"),
        ("loss.attention_pairs=[[1, 1, 0]]", "must be greater than 0"),
        ("loss.attention_pairs=[[1, 1]]", "loss.attention_pairs.0.2: missing"),
        ("loss.attention_pairs=[]", "at least 1 item"),
        ("loss.attention_pairs=[[1, 1, 1], [1, 1, 2]]", "has [1, 1] twice"),
    ],
)
def test_a_layer_that_a_model_lacks_is_refused_at_load(word, line, tmp_path):
    told = problems(tmp_path, *ATTENDING, word)
    assert line in told
    assert "loss.attention" in told


def test_projectors_of_weights_are_refused(tmp_path):
    words = ("loss.attention_part=weights", "loss.attention_loss=projectors")
    assert "set loss.attention_part=id, or" in problems(tmp_path, *ATTENDING, *words)


def test_a_layer_that_an_option_adds_is_there(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("sweep: {parameters: {train.lr: [0.1]}}\n")
    words = ("teacher.options.layers=2", "loss.attention_pairs=[[2, -1, 1.0], [1, 1, 0.5]]")
    loss = load(file, [*ATTENDING, *words]).loss
    assert [(p.teacher, p.student, p.weight) for p in loss.pairs] == [
        ("self.id.2", "self.id.-1", 1.0),
        ("self.id.1", "self.id.1", 0.5),
    ]


def test_poly_falls_from_lr_to_a_twentieth_of_it():
    train = TrainConfig(steps=200, lr=4e-4, schedule="poly", warmup=0.05)
    rates = [learning_rate(train, step) for step in range(200)]
    assert rates[10] == pytest.approx(2e-5 + (4e-4 - 2e-5) * 0.95**0.9)
    assert rates[4] == pytest.approx(0.5 * (2e-5 + (4e-4 - 2e-5) * 0.98**0.9))  # warming up
    assert learning_rate(train, 200) == pytest.approx(2e-5)
    assert sorted(rates[9:], reverse=True) == rates[9:]


# ---- training


@pytest.mark.parametrize("source", ["static", "video", "generated"])
def test_it_trains_on_clips_of_its_side_from_every_source(source, tmp_path):
    images = tmp_path / "static"
    images.mkdir()
    disc = np.zeros((60, 80), np.uint8)
    disc[20:40, 20:50] = 255
    for name in ("a.png", "a.jpg"):
        Image.fromarray(disc).save(images / name)
    root = str(write_davis(tmp_path / "davis", 2016))
    data = {
        "static": DataConfig.model_validate({"static": str(images)}),
        "video": DataConfig(root=root),
        "generated": DataConfig(),
    }[source]
    train = TrainConfig(steps=1, batch_size=2, clip_length=3, crop=CROP)
    clips = training_clips(Stage("static" if source == "static" else "video", train, data), seed=0)
    assert clips.sample(0).frames.shape[-2:] == (33, 33)
    network = model()
    state = TrainingState(Trainee(network), train)
    before = network.get_parameter("stem.weight").detach().clone()
    step = DistillStep(LossConfig(logit=0.0, representation=0.0), seed=0)
    (progress,) = fit(state, clips, step, train)
    assert progress.losses is not None
    assert not torch.equal(network.get_parameter("stem.weight"), before)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Teacher, a stem that learns from it, and two trials, run in this process in order."""
    folder = tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)
        plan = planned(sweep(write_davis(folder / "davis", 2016), stem={"loss": "distill"}))
        storage = Storage(folder / "results")
        for round_ in plan.rounds:
            for job in round_:
                jobs.run([job], storage)
    return plan, storage


def test_a_stem_that_learns_from_the_teacher_waits_for_it(ran):
    plan, storage = ran
    assert [[job.role for job in round_] for round_ in plan.rounds] == [
        ["teacher"],
        ["stem"],
        ["trial", "trial"],
    ]
    (stem,) = plan.stems
    measured = record(storage, stem).of(Gradients)[0].norms
    assert set(measured) == {"ce_logits", "logit_logits"}  # no z to measure at
    supervised = planned(sweep(plan.trials[0].config.data.root))
    assert supervised.stems[0].key != stem.key
    assert [job.role for job in supervised.rounds[0]] == ["teacher", "stem"]


def test_its_checkpoints_load_score_and_average(ran):
    plan, storage = ran
    for job in plan.jobs:
        assert record(storage, job).state == "done"
    paths = [storage.checkpoint(sha) for job in plan.trials for sha in sums(storage, job)]
    loaded = checkpoint.load_model(paths[0])
    assert (loaded.name, loaded.training) == (stand_in.NAME, False)
    tensors = [checkpoint.read_tensors(path) for path in paths]
    mean = average(tensors)
    assert torch.equal(mean["unread"], torch.ones(2))
    pool = [
        Ingredient(path.stem, path.stem, score=float(n), load=partial(dict, t), ancestor="stem")
        for n, (path, t) in enumerate(zip(paths, tensors, strict=True))
    ]
    soup = greedy(
        pool, lambda weights: 9.0 if torch.equal(weights["unread"], mean["unread"]) else 0
    )
    assert len(soup.ingredients) == 2  # nine is above three, and not above nine
    loaded.load_state_dict(soup.weights)


def test_dropout_acts_and_a_resumed_run_draws_the_same(ran, tmp_path, monkeypatch):
    plan, storage = ran
    trial = plan.trials[0]
    other = Storage(tmp_path / "results")
    for folder in ("ledger", "checkpoints"):
        (other.root / folder).mkdir(parents=True, exist_ok=True)
        for path in (storage.root / folder).iterdir():
            if trial.key not in path.name and not path.is_dir():
                (other.root / folder / path.name).write_bytes(path.read_bytes())
    save = TrainingState.save

    def die(state, folder):
        save(state, folder)
        raise RuntimeError("power cut")

    monkeypatch.setattr(TrainingState, "save", die)
    with pytest.raises(RuntimeError, match="power cut"):
        jobs.run([trial], other)
    monkeypatch.undo()
    monkeypatch.setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)
    torch.manual_seed(7)
    torch.rand(5)  # whatever the process did before
    jobs.run([trial], other)
    assert sums(other, trial) == sums(storage, trial)
    assert _first_loss(trial, drop=0.0) != _first_loss(trial, drop=0.1)


def _first_loss(trial, drop):
    network = registry.build(stand_in.NAME, seed=0, drop=drop)
    (stage,) = trial.stages
    step = DistillStep(LossConfig(logit=0.0, representation=0.0), seed=0)
    train = stage.train.model_copy(update={"steps": 1})
    state = TrainingState(Trainee(network), train)
    (progress,) = fit(state, training_clips(stage, 0), step, train)
    assert progress.losses is not None
    return progress.losses["total"]


def test_a_parameter_without_gradient_stays_and_is_saved(ran):
    plan, storage = ran
    for job in plan.jobs:
        for sha in sums(storage, job):
            assert torch.equal(
                checkpoint.read_tensors(storage.checkpoint(sha))["unread"], torch.ones(2)
            )


# ---- first masks alone


def test_first_masks_alone_train_a_label_free_loss_and_no_other(ran, tmp_path):
    _, storage = ran
    teacher = str(storage.checkpoint(sums(storage, ran[0].teacher)[-1]))
    root = write_davis(tmp_path / "davis", 2016)
    for name in ("ant", "bee"):  # of train; val keeps its masks for scoring
        for path in sorted((root / "Annotations/480p" / name).iterdir())[1:]:
            path.unlink()
    taught = {"teacher": {"weights": teacher}, "stem": {"loss": "distill"}}
    config = sweep(root, loss=LABEL_FREE, **taught)
    assert not config.loss.needs_labels
    preflight.check(config)
    clip = training_clips(planned(config).trials[0].stages[0], 0, labels=False).sample(0)
    assert not clip.labelled
    assert clip.masks[:, 0].any()
    assert (clip.masks[:, 1:] == IGNORED).all()
    target = Storage(tmp_path / "results")
    plan = planned(config)
    assert plan.teacher is None
    for job in plan.jobs:
        jobs.run([job], target)
    losses = record(target, plan.trials[0]).of(Losses)[-1].values
    assert set(losses) == {"total", "logit", "grad_norm"}
    assert len(set(sums(target, plan.trials[0]))) == 2
    for supervised in (
        sweep(root, **taught),
        sweep(root, loss=LABEL_FREE, teacher={"weights": teacher}),
        sweep(root, loss=LABEL_FREE, stem={"loss": "distill"}),
    ):
        with pytest.raises(preflight.Missing, match="image without mask"):
            preflight.check(supervised)


@pytest.mark.parametrize("choice", ["cka", "kl", "projectors"])
def test_attentions_and_relations_train_from_first_masks_alone(ran, tmp_path, choice):
    """Equation 12, end to end: no mask after the first, the teacher a file."""
    teacher = str(ran[1].checkpoint(sums(ran[1], ran[0].teacher)[-1]))
    root = write_davis(tmp_path / "davis", 2016)
    for name in ("ant", "bee"):
        for path in sorted((root / "Annotations/480p" / name).iterdir())[1:]:
            path.unlink()
    loss = {**LABEL_FREE, "sampling": "boundary", "logit": 0.0, "inter": 1.0, "intra": 1.0}
    loss |= {"attention": 1.5, "attention_loss": choice}
    taught = {"teacher": {"weights": teacher}, "stem": {"loss": "distill"}}
    config = sweep(root, loss=loss, sweep={"parameters": {"loss.attention": [1.5, 0.5]}}, **taught)
    assert not config.loss.needs_labels
    preflight.check(config)
    plan, storage = planned(config), Storage(tmp_path / "results")
    for job in plan.jobs:
        jobs.run([job], storage)
    trial = plan.trials[0]
    losses = record(storage, trial).of(Losses)[-1].values
    assert set(losses) == {"total", "inter", "intra", "att", "grad_norm"}
    assert losses["total"] == pytest.approx(
        losses["inter"] + losses["intra"] + 1.5 * losses["att"], rel=1e-5
    )
    norms = record(storage, trial).of(Gradients)[0].norms
    assert set(norms) == {"inter_logits", "intra_logits", "att_self.id.-1"}
    assert norms["att_self.id.-1"] > 0
    for sha in sums(storage, trial):
        names = set(checkpoint.read_tensors(storage.checkpoint(sha)))
        assert names == set(model().state_dict())
    assert sums(storage, plan.trials[1])[-1] != sums(storage, trial)[-1]


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        ({}, False),
        ({"ce": 1.0}, True),
        ({"dice": 0.5}, True),
        ({"sampling": "boundary"}, True),
        ({"sampling": "random"}, True),
        ({"kl_pixels": "boundary"}, True),
        ({"representation": 1.0, "omega": 1.0}, False),
        ({"representation": 1.0, "omega": 0.5}, True),
        ({"logit": 0.0, "inter": 1.0, "sampling": "boundary"}, False),
        ({"logit": 0.0, "intra": 1.0, "kl_pixels": "boundary"}, False),
        ({"logit": 0.0, "attention": 1.0, "sampling": "random"}, False),
        ({"inter": 1.0, "attention": 1.0, "sampling": "boundary"}, True),
    ],
)
def test_a_loss_knows_whether_it_reads_labels(change, reads):
    loss = LossConfig(**{**LABEL_FREE, **change})
    assert loss.needs_labels is reads
    if not reads:
        assert not any("labels" in term.needs for term in loss.terms())


TAUGHT = ("logit", "representation", "cka", "inter", "intra", "attention")


@pytest.mark.parametrize("weights", [{}, *({key: 0.5} for key in TAUGHT), dict.fromkeys(TAUGHT, 2)])
def test_a_loss_knows_what_it_needs(weights):
    loss = LossConfig(**{**dict.fromkeys(TAUGHT, 0.0), **weights})
    terms = loss.terms()
    assert len(terms) == 1 + len(weights)
    assert loss.needs_teacher is any("teacher" in term.needs for term in terms)
    assert loss.needs_teacher is bool(weights)
    assert loss.needs_features is any("features" in term.needs for term in terms)
    assert loss.needs_pixels is any("pixels" in term.needs for term in terms)
    assert bool(loss.pairs) is any(term.student_names for term in terms)


# ---- several workers


def _attend_together(rank, folder, answers):
    pytest.MonkeyPatch().setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)
    with two_ranks(rank, f"{folder}/meeting") as workers:
        train = TrainConfig(steps=3, batch_size=2, clip_length=3, crop=CROP, lr=1e-2)
        step = DistillStep(ATTENTION_ALONE, seed=0)
        teacher = registry.build(stand_in.NAME, seed=5, channels=12).requires_grad_(False)
        trainee = make_trainee(step.loss, model(), teacher, seed=0)
        module = workers.wrap(trainee, step.terms)
        state = TrainingState(trainee, train)
        clips = SquareClips(size=CROP)
        list(fit(state, clips, step, train, teacher=teacher, module=module, workers=workers))
        torch.save(trainee.state_dict(), f"{answers}/{rank}.pt")


@pytest.mark.slow
def test_two_workers_distil_attentions_alone_and_stay_equal(tmp_path):
    spawn(_attend_together, (str(tmp_path), str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    moved = "projections.maps.0.each.2.weight"
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    untrained = make_trainee(
        ATTENTION_ALONE, model(), registry.build(stand_in.NAME, seed=5, channels=12), seed=0
    ).state_dict()
    for name in (moved, "model.attentions.0.id.weight"):
        assert not torch.equal(one[name], untrained[name]), name


def _train_together(rank, folder, answers):
    pytest.MonkeyPatch().setitem(registry.REGISTRY, stand_in.NAME, stand_in.ENTRY)
    with two_ranks(rank, f"{folder}/meeting") as workers:
        train = TrainConfig(steps=3, batch_size=2, clip_length=3, crop=CROP, lr=1e-2)
        state = TrainingState(Trainee(model()), train)
        step = DistillStep(LossConfig(logit=0.0, representation=0.0), seed=0)
        module = workers.wrap(state.trainee, step.terms)
        list(fit(state, SquareClips(size=CROP), step, train, module=module, workers=workers))
        torch.save(state.trainee.state_dict(), f"{answers}/{rank}.pt")


@pytest.mark.slow
def test_two_workers_train_a_model_with_a_parameter_without_gradient(tmp_path):
    spawn(_train_together, (str(tmp_path), str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name
    assert torch.equal(one["model.unread"], torch.ones(2))
    assert not torch.equal(one["model.head.weight"], model().state_dict()["head.weight"])


def test_the_clips_of_these_tests_are_of_the_side_the_model_takes():
    output = model()(batch(SquareClips(size=CROP), 0, 2))
    assert output.z is None
    assert output.logits.shape == (2, 2, 2, CROP, CROP)
