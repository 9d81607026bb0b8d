"""Test the losses of one step."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from orchestrator.config.loss import LossConfig
from orchestrator.training.distill_step import DistillStep, Trainee, make_embedding, rows_of
from tests.tiny import SquareClips, TinyModel
from vosmodels.data.clips import batch
from vosmodels.distillation.correlation import correlation_loss
from vosmodels.distillation.logits import logit_loss
from vosmodels.distillation.pixels import object_masks
from vosmodels.losses import hardest_mean, mask_absent, poly_cross_entropy, soft_jaccard


def two_objects():
    return batch(SquareClips(objects=2), 0, 2)


def run(loss, clip, teacher=None, trainee=None, keep=1.0):
    step = DistillStep(loss, seed=0)
    selection = step.select(clip)
    teacher_output = step.teach(teacher, clip) if teacher else None
    trainee = trainee or Trainee(TinyModel())
    return step.losses(
        trainee, clip, keep=keep, teacher_output=teacher_output, selection=selection
    ), selection


def test_rows_of_picks_the_pixels_of_flat_indices():
    z = torch.arange(2 * 2 * 2 * 3 * 4 * 4).reshape(2, 2, 2, 3, 4, 4)
    rows = torch.tensor([0, 17, 2 * 2 * 16 + 5, 127])
    flat = z.permute(0, 1, 2, 4, 5, 3).reshape(-1, 3)
    assert torch.equal(rows_of(z, rows), flat[rows])


def test_a_step_without_a_teacher_is_cross_entropy_and_dice_per_item():
    clip = two_objects()
    losses, selection = run(LossConfig(logit=0, representation=0, dice=2.0), clip)
    output = TinyModel()(clip)
    logits, truth = output.logits.flatten(0, 1), clip.masks[:, 1:].flatten(0, 1)
    assert selection is None
    assert losses.weights == {"ce": 1.0, "dice": 2.0}
    expected = poly_cross_entropy(logits, truth).mean((1, 2)).sum()
    torch.testing.assert_close(losses.sums["ce"], expected)
    assert losses.counts["ce"] == 4
    probability = logits.softmax(1)
    planes = [soft_jaccard(probability[:, n], truth == n).sum() for n in (1, 2)]
    torch.testing.assert_close(losses.sums["dice"], torch.stack(planes).sum())
    assert int(losses.counts["dice"]) == 8


def test_an_absent_slot_counts_for_nothing():
    clip = two_objects()
    alone = batch(SquareClips(objects=1), 0, 2)
    padded = type(alone)(
        alone.frames, alone.masks, torch.tensor([[True, False]] * 2), alone.samples
    )
    loss = LossConfig(dice=1.0)
    teacher = TinyModel(seed=9)
    embedding = make_embedding(4, 4, seed=0)
    one, _ = run(loss, alone, teacher, Trainee(TinyModel(), embedding))
    two, _ = run(loss, padded, teacher, Trainee(TinyModel(), embedding))
    assert set(one.sums) == {"ce", "dice", "logit", "repr"}
    for name, value in one.sums.items():
        torch.testing.assert_close(two.sums[name], value)
        assert int(two.counts[name]) == int(one.counts[name])
    assert int(run(loss, clip, teacher)[0].counts["dice"]) == 8


def test_aots_loss_is_cross_entropy_and_the_jaccard_of_the_classes_of_each_frame():
    alone = batch(SquareClips(objects=1), 0, 2)
    present = torch.tensor([[True, False]] * 2)  # the second slot takes no probability
    clip = type(alone)(alone.frames, alone.masks, present, alone.samples)
    loss = LossConfig(logit=0, representation=0, ce=0.5, poly=0, dice=0.5, jaccard="classes")
    losses, _ = run(loss, clip)
    logits, truth = TinyModel()(alone).logits.flatten(0, 1), alone.masks[:, 1:].flatten(0, 1)
    entropy = torch.nn.functional.cross_entropy(logits, truth, reduction="none").mean((1, 2))
    p, y = logits.softmax(1), torch.stack([truth == c for c in (0, 1)], 1).float()
    shared = (p * y).sum((2, 3))
    jaccard = 1 - shared / ((p + y).sum((2, 3)) - shared)  # (clips and frames, classes)
    torch.testing.assert_close(losses.sums["ce"], entropy.sum())
    torch.testing.assert_close(losses.sums["dice"], jaccard.mean(1).sum())
    assert losses.weights == {"ce": 0.5, "dice": 0.5}
    assert losses.counts == {"ce": 4, "dice": 4}


def test_the_correlation_term_is_the_loss_of_every_object_and_frame_alone():
    clip = two_objects()
    teacher, embedding = TinyModel(channels=6, seed=9), make_embedding(4, 6, seed=0)
    loss = LossConfig(omega=0.3, boundary_width=1)
    losses, selection = run(loss, clip, teacher, Trainee(TinyModel(), embedding))
    assert selection is not None
    z_s, z_t = TinyModel()(clip).z, teacher(clip).z
    total, start = torch.zeros(()), 0
    for count in selection.counts:
        rows = selection.rows[start : start + count]
        labels = selection.labels[start : start + count]
        s, t = embedding(rows_of(z_s, rows)), rows_of(z_t, rows)
        total = total + correlation_loss(s, t, labels, 0.3)
        start += count
    torch.testing.assert_close(losses.sums["repr"], total)
    assert losses.counts["repr"] == len(selection.counts) == 8


def test_z_behind_the_relu_is_clipped_on_both_sides():
    clip = two_objects()
    teacher, embedding = TinyModel(channels=6, seed=9), make_embedding(4, 6, seed=0)
    losses, selection = run(
        LossConfig(omega=0.3, z="post_relu"), clip, teacher, Trainee(TinyModel(), embedding)
    )
    assert selection is not None
    rows = [rows_of(model(clip).z.clamp_min(0), selection.rows) for model in (TinyModel(), teacher)]
    assert (rows[0] == 0).any()
    parts = (x.split(selection.counts) for x in (embedding(rows[0]), rows[1], selection.labels))
    expected = sum(correlation_loss(s, t, y, 0.3) for s, t, y in zip(*parts, strict=True))
    torch.testing.assert_close(losses.sums["repr"], expected)


def test_the_options_of_the_logit_loss_reach_it():
    clip = two_objects()
    loss = LossConfig(representation=0, tau=0.5)

    def value(**options):
        made, _ = run(loss.model_copy(update=options), clip, TinyModel(seed=9))
        return made.sums["logit"]

    torch.testing.assert_close(value(tau_squared=True), 0.25 * value())
    everywhere = value(sampling="all")
    assert not torch.allclose(everywhere, value())
    torch.testing.assert_close(value(kl_pixels="all"), everywhere)
    torch.testing.assert_close(value(sampling="all", kl_pixels="boundary"), value())


@pytest.mark.parametrize(("method", "omega"), [("dense", 0.5), ("tiled", 0.5), ("classwise", 0.0)])
def test_no_loss_waits_for_the_device(omega, method, monkeypatch):
    """Tensors without values cannot be waited for: asking for one raises."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has none
    clip = two_objects()
    loss = LossConfig(dice=1.0, omega=omega, method=method, sampling="all")
    step = DistillStep(loss, seed=0)
    selection = step.select(clip)
    assert selection is not None
    clip, selection = clip.to("meta"), selection.to("meta")
    trainee = Trainee(TinyModel(), make_embedding(4, 4, seed=0)).to("meta")
    teacher = TinyModel(seed=9).to("meta")
    losses = step.losses(
        trainee, clip, keep=0.5, teacher_output=step.teach(teacher, clip), selection=selection
    )
    assert set(losses.sums) == {"ce", "dice", "logit", "repr"}
    torch.stack(list(losses.sums.values())).sum().backward()


def test_gradients_are_those_of_the_losses_written_out_to_the_bit():
    """Terms that read the logits add their gradients in one order: weights on disk hold it."""
    clip = two_objects()
    loss = LossConfig(dice=0.7, logit=0.3, omega=0.4, sampling="all")
    weights = {"ce": 1.0, "dice": 0.7, "logit": 0.3, "repr": 1.0}
    teacher = TinyModel(channels=6, seed=9)

    def trainee():
        return Trainee(TinyModel(), make_embedding(4, 6, seed=0))

    ours, written = trainee(), trainee()
    losses, selection = run(loss, clip, teacher, ours, keep=0.5)
    assert selection is not None
    means = [weights[n] * losses.sums[n] / losses.counts[n] for n in losses.sums]
    torch.stack(means).sum().backward()

    taught = DistillStep.teach(teacher, clip)
    output, embedded = written(clip, selection.rows)
    logits = mask_absent(output.logits, clip.present)
    truth, flat = clip.masks[:, 1:], logits.flatten(0, 1)
    ce = hardest_mean(poly_cross_entropy(flat, truth.flatten(0, 1)), 0.5)
    planes = object_masks(truth, 2).flatten(0, 2)
    jaccard = soft_jaccard(logits.softmax(2)[:, :, 1:].flatten(0, 2), planes)
    taught_flat = mask_absent(taught.logits, clip.present).flatten(0, 1)
    kl = logit_loss(flat, taught_flat, selection.logit_pixels.flatten(0, 1), 0.1)
    total = embedded.sum() * 0
    parts = (embedded, rows_of(taught.z, selection.rows), selection.labels)
    for s, t, y in zip(*(part.split(selection.counts) for part in parts), strict=True):
        total = total + correlation_loss(s, t, y, 0.4, classes=2)
    sums = {"ce": ce.sum(), "dice": jaccard.sum(), "logit": kl.sum(), "repr": total}
    torch.stack([weights[n] * sums[n] / losses.counts[n] for n in sums]).sum().backward()
    for (name, one), other in zip(ours.named_parameters(), written.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad), name


def test_the_method_that_auto_picks_is_logged_once_a_training(caplog):
    clip = two_objects()
    step = DistillStep(LossConfig(omega=0.3, sampling="all"), seed=0)
    selection, output = step.select(clip), step.teach(TinyModel(seed=9), clip)
    trainee = Trainee(TinyModel(), make_embedding(4, 4, seed=0))
    with caplog.at_level("INFO", logger="orchestrator.training.distill_step"):
        for _ in range(2):
            step.losses(trainee, clip, keep=1.0, teacher_output=output, selection=selection)
    assert caplog.messages == ["correlation loss: dense for 64 pixels (dense up to 192 on cpu)"]


def test_the_teacher_gets_no_gradient_and_the_embedding_does():
    clip = two_objects()
    teacher, embedding = TinyModel(seed=9), make_embedding(4, 4, seed=0)
    losses, _ = run(LossConfig(), clip, teacher, Trainee(TinyModel(), embedding))
    torch.stack(list(losses.sums.values())).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.abs().sum() > 0


def test_one_teacher_output_feeds_two_students():
    clip = two_objects()
    step = DistillStep(LossConfig(representation=0), seed=0)
    selection, teacher_output = step.select(clip), step.teach(TinyModel(seed=9), clip)
    values = [
        step.losses(
            Trainee(m), clip, keep=1.0, teacher_output=teacher_output, selection=selection
        ).sums["logit"]
        for m in (TinyModel(), TinyModel(seed=1))
    ]
    assert values[0].item() != values[1].item()


def test_the_embedding_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first = make_embedding(4, 6, seed=3)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert torch.equal(make_embedding(4, 6, seed=3).weight, first.weight)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(make_embedding(4, 6, seed=4).weight, first.weight)


def test_training_needs_neither_ray_nor_mlflow():
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('ray', 'mlflow'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import orchestrator.training.loop, orchestrator.execution.job\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
