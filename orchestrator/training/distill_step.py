"""The losses of one optimisation step: a student, a teacher's output, the pixels compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orchestrator.config.sections import LossConfig
from vosmodels.distillation.correlation import correlation_loss
from vosmodels.distillation.logits import logit_loss
from vosmodels.distillation.pixels import Selection, object_masks, select_pixels
from vosmodels.losses import hardest_mean, mask_absent, poly_cross_entropy, soft_jaccard
from vosmodels.support.seeding import seed_of
from vosmodels.types import Clip, FeatureSide, StepOutput

OBJECT_OR_REST = 2  # classes of a pixel's label


def rows_of(z: Tensor, rows: Tensor, place: FeatureSide = "pre_relu") -> Tensor:
    """Rows of z (B, T-1, N, C, h, w) at flat (B, T-1, N, h, w) indices -> (M, C).

    place: as the decoder gives z, or behind the ReLU through which its mask head reads it; the
    paper's "before the final point-wise convolution" is either.
    """
    planes = z.flatten(0, 2).flatten(2)  # (B(T-1)N, C, hw)
    found = planes[rows // planes.shape[2], :, rows % planes.shape[2]]
    return found.relu() if place == "post_relu" else found


class Trainee(nn.Module):
    """What the optimizer sees and DDP wraps: a model and its training-only embedding.

    The embedding (embed_s, a linear map d_s -> d_t) is not part of the model: no weights file
    holds it and nothing deployed needs it.
    """

    def __init__(self, model: nn.Module, embedding: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.embedding = embedding

    def forward(
        self, clip: Clip, rows: Tensor | None = None, place: FeatureSide = "pre_relu"
    ) -> tuple[StepOutput, Tensor | None]:
        """The model's output and, for `rows` of z at `place`, their embedding (M, d_t)."""
        output: StepOutput = self.model(clip)
        if self.embedding is None or rows is None:
            return output, None
        return output, self.embedding(rows_of(output.z, rows, place))


def make_embedding(student_channels: int, teacher_channels: int, seed: int) -> nn.Linear:
    """embed_s with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "embedding"))
        return nn.Linear(student_channels, teacher_channels)


@dataclass(frozen=True)
class Losses:
    """Every term as a sum over its items and their count, so that workers can add both up.

    A term's value is sum / count with both summed over all workers; the total weighs the values.
    at: the student's tensors by name that the terms are functions of.
    """

    sums: Mapping[str, Tensor]
    counts: Mapping[str, Tensor | int]
    weights: Mapping[str, float]
    at: Mapping[str, Tensor]


class DistillStep:
    """Losses of one batch. Teacher's forward and student's losses are two calls: one teacher
    output can feed several students.

    Items: cross-entropy and logit loss per (clip, frame), correlation and Jaccard loss per
    (clip, frame, object). Each term is the mean over its items; STCN sums over frames instead,
    which would make the terms' balance depend on the clip length.
    """

    def __init__(self, loss: LossConfig, *, seed: int) -> None:
        self.loss = loss
        self.seed = seed

    @property
    def weights(self) -> dict[str, float]:
        """The terms that are wanted, by name."""
        loss = self.loss
        optional = {"dice": loss.dice, "logit": loss.logit, "repr": loss.representation}
        return {"ce": 1.0, **{name: weight for name, weight in optional.items() if weight > 0}}

    def select(self, clip: Clip) -> Selection | None:
        """The batch's pixels; call it before the clip goes to the device."""
        if not self.loss.needs_teacher:
            return None
        return select_pixels(
            clip,
            self.loss.sampling,
            width=self.loss.boundary_width,
            max_pixels=self.loss.max_pixels,
            seed=self.seed,
            logit_pixels=self.loss.kl_pixels,
        )

    @staticmethod
    def teach(teacher: nn.Module, clip: Clip) -> StepOutput:
        """The teacher's view of the batch, without a gradient."""
        with torch.no_grad():
            output: StepOutput = teacher(clip)
        return output

    def losses(
        self,
        trainee: nn.Module,
        clip: Clip,
        *,
        keep: float,
        teacher_output: StepOutput | None = None,
        selection: Selection | None = None,
    ) -> Losses:
        """Run the student and compare. `keep`: share of pixels the bootstrapping keeps;
        `teacher_output` and `selection` where a distillation weight is above zero."""
        wants_rows = self.loss.representation > 0 and selection is not None
        rows = selection.rows if wants_rows and selection else None
        output, embedded = trainee(clip, rows, self.loss.z)
        logits = mask_absent(output.logits, clip.present)
        truth = clip.masks[:, 1:]
        flat = logits.flatten(0, 1)  # (B(T-1), N+1, H, W)
        ce = hardest_mean(poly_cross_entropy(flat, truth.flatten(0, 1)), keep)
        sums = {"ce": ce.sum()}
        counts: dict[str, Tensor | int] = {"ce": len(ce)}
        at = {"z": output.z, "logits": output.logits}
        if self.loss.dice > 0:
            sums["dice"], counts["dice"] = _dice(logits, truth, clip.present)
        if selection is None or teacher_output is None:
            return Losses(sums, counts, self.weights, at)
        if self.loss.logit > 0:
            taught_flat = mask_absent(teacher_output.logits, clip.present).flatten(0, 1)
            pixels = selection.logit_pixels.flatten(0, 1)
            per_item = logit_loss(
                flat,
                taught_flat,
                pixels,
                self.loss.tau,
                self.loss.kl,
                tau_squared=self.loss.tau_squared,
            )
            sums["logit"] = per_item.sum()
            counts["logit"] = selection.logit_items
        if embedded is not None:
            taught_rows = rows_of(teacher_output.z, selection.rows, self.loss.z)
            sums["repr"] = self._correlation(embedded, taught_rows, selection)
            counts["repr"] = len(selection.counts)
        return Losses(sums, counts, self.weights, at)

    def _correlation(self, student: Tensor, teacher: Tensor, selection: Selection) -> Tensor:
        """Sum over items; the empty sum keeps its gradient path, as DDP needs."""
        total = student.sum() * 0
        parts = (x.split(selection.counts) for x in (student, teacher, selection.labels))
        for s, t, y in zip(*parts, strict=True):
            total = total + correlation_loss(
                s,
                t,
                y,
                self.loss.omega,
                method=self.loss.method,
                norm=self.loss.norm,
                classes=OBJECT_OR_REST,
            )
        return total


def _dice(logits: Tensor, truth: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Soft Jaccard summed over (clip, frame, present object), and how many those are.

    An absent slot has probability 0 everywhere and an empty truth: its Jaccard loss is 0.
    """
    slots, frames = present.shape[1], truth.shape[1]
    probability = logits.float().softmax(2)[:, :, 1:]  # (B, T-1, N, H, W)
    per_plane = soft_jaccard(probability.flatten(0, 2), object_masks(truth, slots).flatten(0, 2))
    return per_plane.sum(), present.sum() * frames
