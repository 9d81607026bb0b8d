"""Define the terms of a training loss: name, weight, inputs and value of each.

`orchestrator.config.LossConfig.terms` lists the terms a configuration asks for. A new loss is one
function here, one line there and one key of the YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from vosmodels.distillation.attention_cka import linear_cka
from vosmodels.distillation.baselines import channels_kl, direction_loss, rows_kl
from vosmodels.distillation.correlation import correlation_loss
from vosmodels.distillation.logits import logit_loss
from vosmodels.distillation.pixels import Selection, object_masks
from vosmodels.distillation.relations import inter_loss, intra_loss
from vosmodels.losses import (
    class_jaccard,
    hardest_mean,
    mask_absent,
    poly_cross_entropy,
    soft_cross_entropy,
    soft_jaccard,
)
from vosmodels.types import (
    IGNORED,
    REFERENCE_LOGITS,
    AttentionLoss,
    AttentionPair,
    Clip,
    CorrelationMethod,
    CorrelationNorm,
    Direction,
    FeatureSide,
    StepOutput,
)

OBJECT_OR_REST = 2  # classes of a pixel's label
ID_CHANNELS = 11  # of AOT's logits: background and ten objects, most of them of probability 0
Needs = Literal["labels", "teacher", "pixels", "features"]
SumAndCount: TypeAlias = tuple[Tensor, Tensor | int]


@dataclass(frozen=True)
class StepView:
    """Everything that a term may look at in one optimisation step.

    logits (B, T-1, N+1, H, W): the student's, absent slots at -inf; keep: share of the pixels that
    bootstrapping keeps; selection: the pixels that distillation compares; student_rows and
    teacher_rows (M, d_t): z at `selection.rows`, the student's embedded. teacher is None where no
    term needs one, selection where no term needs pixels, rows where no term needs features.
    progress: share of the stage's steps that are done.
    """

    clip: Clip
    output: StepOutput
    logits: Tensor
    keep: float
    teacher: StepOutput | None = None
    selection: Selection | None = None
    student_rows: Tensor | None = None
    teacher_rows: Tensor | None = None
    progress: float = 0.0

    @cached_property
    def flat(self) -> Tensor:
        """Logits (B(T-1), N+1, H, W), one item a (clip, frame).

        Made once: where several terms read them, gradients are added in an order that is part of
        what a training ends with, to the bit.
        """
        return self.logits.flatten(0, 1)

    @property
    def truth(self) -> Tensor:
        """Return the ids (B, T-1, H, W) of the predicted frames."""
        return self.clip.masks[:, 1:]

    @cached_property
    def known(self) -> Tensor | None:
        """Return where the truth has a label, (B, T-1, H, W) bool; None where it is everywhere."""
        return None if self.clip.labelled else self.truth != IGNORED

    @property
    def at(self) -> Mapping[str, Tensor]:
        """Return the student's tensors by name, at which gradients are measured."""
        z = {} if self.output.z is None else {"z": self.output.z}
        return {**z, "logits": self.output.logits, **self.output.named}


@dataclass(frozen=True)
class Term:
    """A weighted term of a loss.

    name    short, in ledger and MLflow: `train/loss_NAME`, `train_gradients/NAME_z`
    label   what a message calls it, a key of the YAML where there is one
    weight  factor in the total, above 0
    at      names of the student's tensors that the term is a function of
    value   the sum over items, and how many items that are; sums and counts of several workers
            are added before they are divided
    needs   what must be there: labels after the first frame, a teacher, selected pixels,
            features z
    student_names, teacher_names  the intermediates that it reads in `StepOutput.named`
    """

    name: str
    label: str
    weight: float
    at: tuple[str, ...]
    value: Callable[[StepView], SumAndCount]
    needs: frozenset[Needs] = frozenset()
    student_names: tuple[str, ...] = ()
    teacher_names: tuple[str, ...] = ()


def cross_entropy(weight: float, *, poly: float = 1.0) -> Term:
    """Return the bootstrapped poly cross-entropy term; an item is a (clip, frame) with labels.

    poly: epsilon of `poly_cross_entropy`; 0 is AOT's and STCN's cross-entropy.
    """

    def value(view: StepView) -> SumAndCount:
        if view.clip.soft is None:
            losses = poly_cross_entropy(view.flat, view.truth.flatten(0, 1), poly)
        else:
            losses = soft_cross_entropy(view.flat, view.clip.soft.flatten(0, 1), poly)
        known = None if view.known is None else view.known.flatten(0, 1)
        per_item = hardest_mean(losses, view.keep, known)
        return per_item.sum(), len(per_item) if known is None else known.flatten(1).any(1).sum()

    needs: frozenset[Needs] = frozenset({"labels"})
    return Term("ce", "cross-entropy", weight, ("z", "logits"), value, needs)


def dice(weight: float) -> Term:
    """Return the soft Jaccard term; an item is a (clip, frame with labels, present object).

    An absent slot has probability 0 everywhere and an empty truth: its Jaccard loss is 0.
    """

    def value(view: StepView) -> SumAndCount:
        present, truth = view.clip.present, view.truth
        slots, frames = present.shape[1], truth.shape[1]
        probability = view.logits.float().softmax(2)[:, :, 1:]  # (B, T-1, N, H, W)
        soft = view.clip.soft
        objects = object_masks(truth, slots) if soft is None else soft[:, :, 1:]
        planes = objects.flatten(0, 2)
        if view.known is None:
            return soft_jaccard(probability.flatten(0, 2), planes).sum(), present.sum() * frames
        known = view.known[:, :, None].expand(-1, -1, slots, -1, -1).flatten(0, 2)
        seen = view.known.flatten(2).any(2)  # (B, T-1)
        count = (present.sum(1) * seen.sum(1)).sum()
        return soft_jaccard(probability.flatten(0, 2), planes, known).sum(), count

    needs: frozenset[Needs] = frozenset({"labels"})
    return Term("dice", "loss.dice", weight, ("z", "logits"), value, needs)


def jaccard_of_classes(weight: float) -> Term:
    """Return AOT's soft Jaccard term, background included; an item is a (clip, frame) with labels.

    A frame without any label has loss 0. Of soft labels the most probable ids are taken.
    """

    def value(view: StepView) -> SumAndCount:
        per_item = class_jaccard(view.flat.float().softmax(1), view.truth.flatten(0, 1))
        known = view.known
        return per_item.sum(), len(per_item) if known is None else known.flatten(2).any(2).sum()

    needs: frozenset[Needs] = frozenset({"labels"})
    return Term("dice", "loss.dice", weight, ("z", "logits"), value, needs)


def reference(
    weight: float,
    *,
    until: float,
    ce: float,
    dice: float,
    poly: float,
    jaccard: Literal["objects", "classes"],
) -> Term:
    """Return AOT's auxiliary term: the labels' losses on frame 0, whose mask the model is given.

    An item is a clip. Its weight falls linearly to 0 at `until`, a share of the stage's steps.
    ce, dice, poly and jaccard: as of the terms on later frames.
    """

    def value(view: StepView) -> SumAndCount:
        present, truth = view.clip.present, view.clip.masks[:, 0]
        logits = mask_absent(view.output.named[REFERENCE_LOGITS], present).flatten(0, 1)
        loss = ce * hardest_mean(poly_cross_entropy(logits, truth, poly), view.keep)
        probability = logits.float().softmax(1)
        if dice > 0 and jaccard == "classes":
            loss = loss + dice * class_jaccard(probability, truth)
        elif dice > 0:
            planes = object_masks(truth, present.shape[1]).flatten(0, 1)
            each = soft_jaccard(probability[:, 1:].flatten(0, 1), planes).view(present.shape)
            loss = loss + dice * (each * present).sum(1) / present.sum(1).clamp_min(1)
        share = max(0.0, 1 - view.progress / until) if until > 0 else 0.0
        return share * loss.sum(), len(loss)

    at = (REFERENCE_LOGITS,)
    return Term("ref", "loss.reference", weight, at, value, student_names=at)


def logit(weight: float, *, tau: float, direction: Direction, tau_squared: bool) -> Term:
    """Return the KL term of teacher and student logits.

    An item is a (clip, frame) with pixels."""

    def value(view: StepView) -> SumAndCount:
        assert view.teacher is not None
        assert view.selection is not None
        per_item = logit_loss(
            view.flat,
            mask_absent(view.teacher.logits, view.clip.present).flatten(0, 1),
            view.selection.logit_pixels.flatten(0, 1),
            tau,
            direction,
            tau_squared=tau_squared,
        )
        return per_item.sum(), view.selection.logit_items

    needs: frozenset[Needs] = frozenset({"teacher", "pixels"})
    return Term("logit", "loss.logit", weight, ("z", "logits"), value, needs)


def correlation(
    weight: float, *, omega: float, method: CorrelationMethod, norm: CorrelationNorm
) -> Term:
    """Return MobileVOS's correlation term.

    An item is a (clip, frame, object) with two pixels or more."""

    def value(view: StepView) -> SumAndCount:
        assert view.selection is not None
        assert view.student_rows is not None
        assert view.teacher_rows is not None
        total = view.student_rows.sum() * 0  # the empty sum keeps its gradient path, for DDP
        rows = (view.student_rows, view.teacher_rows, view.selection.labels)
        for s, t, y in zip(*(x.split(view.selection.counts) for x in rows), strict=True):
            total = total + correlation_loss(
                s, t, y, omega, method=method, norm=norm, classes=OBJECT_OR_REST
            )
        return total, len(view.selection.counts)

    needs: frozenset[Needs] = frozenset({"teacher", "pixels", "features"})
    if omega < 1:  # the labels' share of the target
        needs |= {"labels"}
    return Term("repr", "loss.representation", weight, ("z",), value, needs)


def feature_cka(weight: float, *, side: FeatureSide) -> Term:
    """Return the term of CKA between features z; an item is a (clip, frame, present object).

        L = 1 - CKA(z of the teacher, z of the student)

    Rows are all positions of z, at stride 4; widths may differ. CKA is equation 8 of Truong et al.,
    who compare attentions by it; z is what equation 2 of MobileVOS compares. No paper has both.
    """

    def value(view: StepView) -> SumAndCount:
        assert view.teacher is not None
        assert view.output.z is not None
        assert view.teacher.z is not None
        student, teacher = view.output.z, view.teacher.z  # (B, T-1, N, C, h, w)
        if side == "post_relu":
            student, teacher = student.relu(), teacher.relu()
        score = linear_cka(student.flatten(4).mT, teacher.flatten(4).mT)  # (B, T-1, N)
        present = view.clip.present[:, None].expand_as(score)
        return torch.where(present, 1 - score, 0.0).sum(), present.sum()

    needs: frozenset[Needs] = frozenset({"teacher"})
    return Term("cka", "loss.cka", weight, ("z",), value, needs)


def inter(weight: float, *, tau: float) -> Term:
    """Return DIST's relation between the objects of a pixel; an item is a (clip, frame).

    All pixels count. Rows have the id channels of AOT: with one object the probabilities p and
    1 - p alone would correlate by +1 or -1, without a gradient.
    """

    def value(view: StepView) -> SumAndCount:
        student, teacher = _probabilities(view, tau)
        per_item = inter_loss(student, teacher, columns=max(ID_CHANNELS, student.shape[-1]))
        return per_item.sum(), len(per_item)

    needs: frozenset[Needs] = frozenset({"teacher"})
    return Term("inter", "loss.inter", weight, ("z", "logits"), value, needs)


def intra(weight: float, *, tau: float) -> Term:
    """Return DIST's relation between the pixels of an object; an item is a (clip, frame).

    An item is the mean over background and present objects, each over the pixels of that frame:
    slots of two clips are different objects.
    """

    def value(view: StepView) -> SumAndCount:
        student, teacher = _probabilities(view, tau)
        present = F.pad(view.clip.present, (1, 0), value=True)  # (B, N+1)
        frames = view.logits.shape[1]
        per_item = intra_loss(student, teacher, present.repeat_interleave(frames, 0))
        return per_item.sum(), len(per_item)

    needs: frozenset[Needs] = frozenset({"teacher"})
    return Term("intra", "loss.intra", weight, ("z", "logits"), value, needs)


def _probabilities(view: StepView, tau: float) -> tuple[Tensor, Tensor]:
    """Return softmax(logits / tau) of student and teacher, (B(T-1), HW, N+1)."""
    assert view.teacher is not None
    taught = mask_absent(view.teacher.logits, view.clip.present).flatten(0, 1)
    student, teacher = ((x.float() / tau).softmax(1).flatten(2).mT for x in (view.flat, taught))
    return student, teacher


def attention(
    weight: float, *, pairs: Sequence[AttentionPair], loss: AttentionLoss, tau: float = 1.0
) -> Term:
    """Return the attention term; an item is a (clip, frame).

        L = sum_kl a_kl (1 - CKA(F_k of the teacher, F_l of the student))

    Equation 9 of Truong et al., "Self-supervised Video Object Segmentation with Distillation
    Learning of Deformable Attention"; one CKA a (clip, frame), rows are positions. In its place
    loss "kl" has the KL divergence of the rows of weights, or of softmax(x / tau) over the channels
    of outputs, and "projectors" PEFD's direction loss. Where the student's intermediate is mapped
    to the teacher's width first, `named` holds it as `AttentionPair.projected`.
    """

    def value(view: StepView) -> SumAndCount:
        assert view.teacher is not None
        total = view.logits.new_zeros(view.logits.shape[:2], dtype=torch.float32)
        for pair in pairs:
            teacher = view.teacher.named[pair.teacher]
            own = view.output.named[pair.student]
            student = view.output.named.get(pair.projected, own)
            _check_positions(pair, student, teacher, widths=loss != "cka")
            if loss == "cka":
                distance = 1 - linear_cka(student, teacher)
            elif loss == "projectors":
                distance = direction_loss(student, teacher)
            elif ".weights." in pair.student:
                distance = rows_kl(student, teacher)
            else:
                distance = channels_kl(student, teacher, tau)
            total = total + pair.weight * distance  # (B, T-1)
        return total.sum(), total.numel()

    students = tuple(dict.fromkeys(pair.student for pair in pairs))
    teachers = tuple(dict.fromkeys(pair.teacher for pair in pairs))
    needs: frozenset[Needs] = frozenset({"teacher"})
    return Term("att", "loss.attention", weight, students, value, needs, students, teachers)


def _check_positions(pair: AttentionPair, student: Tensor, teacher: Tensor, widths: bool) -> None:
    """Refuse attentions that cannot be compared row by row."""
    axes = 4 if widths else 3
    if student.shape[:axes] != teacher.shape[:axes]:
        raise ValueError(
            f"loss.attention compares {pair.teacher} of the teacher {tuple(teacher.shape)} with "
            f"{pair.student} of the student {tuple(student.shape)}, which have other positions"
            f"{' or widths' if widths else ''}; choose another loss.attention_part"
        )
