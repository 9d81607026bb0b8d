"""Compute the losses of one optimisation step from a student and a teacher's output."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.config.loss import LossConfig
from orchestrator.training.clip_labels import with_labels
from vosmodels import registry
from vosmodels.distillation.baselines import ProjectorEnsemble, seeded_linear
from vosmodels.distillation.correlation import DENSE_UP_TO, pick
from vosmodels.distillation.pixels import Selection, select_pixels
from vosmodels.errors import InputError
from vosmodels.losses import mask_absent
from vosmodels.model import VideoModel
from vosmodels.support import watching
from vosmodels.support.seeding import seed_of
from vosmodels.terms import Needs, StepView, Term
from vosmodels.types import AttentionPair, Clip, FeatureSide, StepOutput

logger = logging.getLogger(__name__)

PROBE_SIDE = 32  # px, of the frames that tell the widths of intermediates


def rows_of(z: Tensor | None, rows: Tensor, place: FeatureSide = "pre_relu") -> Tensor:
    """Rows of z (B, T-1, N, C, h, w) at flat (B, T-1, N, h, w) indices -> (M, C).

    place: as the decoder gives z, or behind the ReLU through which its mask head reads it; the
    paper's "before the final point-wise convolution" is either. Raises ValueError for z None.
    """
    if z is None:
        raise ValueError("this model has no feature map per object; set loss.representation=0")
    planes = z.flatten(0, 2).flatten(2)  # (B(T-1)N, C, hw)
    found = planes[rows // planes.shape[2], :, rows % planes.shape[2]]
    return found.relu() if place == "post_relu" else found


def run(
    model: nn.Module, clip: Clip, watch: Collection[str] = (), *, given_masks: bool = False
) -> StepOutput:
    """Run a model on a batch; `named` has the intermediates of `watch` by these very names.

    Layers may count from the end. given_masks: past masks are the clip's, not predicted. Raises
    InputError on a name that the model does not have.
    """
    if not watch and not given_masks:
        output: StepOutput = model(clip)
        return output
    assert isinstance(model, VideoModel)
    own = {name: watching.resolve(name, model.watchable) for name in watch}
    names = tuple(dict.fromkeys(own.values()))
    if given_masks:
        output = model.roll(clip, given_masks=True, watch=names)
    else:
        output = model(clip, watch=names)
    return replace(output, named={name: output.named[known] for name, known in own.items()})


class Projections(nn.Module):
    """Map the student's intermediates to the teacher's widths, pair by pair."""

    def __init__(self, maps: Mapping[AttentionPair, nn.Module]) -> None:
        super().__init__()
        self.pairs = tuple(maps)
        self.maps = nn.ModuleList(maps.values())

    def forward(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Intermediates (..., d_s) by name -> those of the pairs (..., d_t), by `projected`."""
        pairs = zip(self.pairs, self.maps, strict=True)
        return {pair.projected: mapped(named[pair.student]) for pair, mapped in pairs}


class Trainee(nn.Module):
    """Hold a model and its training-only maps: the module that is optimised and DDP wraps.

    The embedding (embed_s, a linear map d_s -> d_t of z) and the projections of intermediates are
    not part of the model: no weights file holds them and nothing deployed needs them.
    """

    def __init__(
        self,
        model: nn.Module,
        embedding: nn.Module | None = None,
        projections: Projections | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.embedding = embedding
        self.projections = projections

    def forward(
        self,
        clip: Clip,
        rows: Tensor | None = None,
        place: FeatureSide = "pre_relu",
        watch: Collection[str] = (),
        given_masks: bool = False,
    ) -> tuple[StepOutput, Tensor | None]:
        """The model's output and, for `rows` of z at `place`, their embedding (M, d_t).

        watch: names of the intermediates that `named` has; it has their projections too.
        given_masks: past masks are the clip's, not predicted.
        """
        output = run(self.model, clip, watch, given_masks=given_masks)
        if self.projections is not None:
            projected = self.projections(output.named)
            output = replace(output, named={**output.named, **projected})
        if self.embedding is None or rows is None:
            return output, None
        return output, self.embedding(rows_of(output.z, rows, place))


def make_embedding(student_channels: int, teacher_channels: int, seed: int) -> nn.Linear:
    """embed_s with weights that depend on the seed alone."""
    return seeded_linear(student_channels, teacher_channels, seed_of(seed, "embedding"))


def embedding_between(student: VideoModel, teacher: VideoModel, *, seed: int) -> nn.Linear:
    """Make embed_s from the student's z to the teacher's. Raises InputError where one has no z."""
    widths = {model.name: model.z_channels for model in (student, teacher)}
    for name, width in widths.items():
        if width is None:
            raise InputError(
                f"loss.representation compares a feature map per object, which {name} does not "
                "have; set loss.representation=0, or choose another model"
            )
    student_width, teacher_width = student.z_channels, teacher.z_channels
    assert student_width is not None
    assert teacher_width is not None
    return make_embedding(student_width, teacher_width, seed)


def projections_between(
    loss: LossConfig, student: VideoModel, teacher: VideoModel, *, seed: int
) -> Projections | None:
    """Make the maps that the attention term needs; None where it needs none.

    These are PEFD's projectors, or for the KL divergence of outputs one linear map where widths
    differ. Raises InputError where a model lacks an intermediate of a pair.
    """
    if loss.attention_loss == "cka" or loss.attention_part == "weights":
        return None
    pairs = loss.pairs
    student_widths = _widths(student, [pair.student for pair in pairs])
    teacher_widths = _widths(teacher, [pair.teacher for pair in pairs])
    maps: dict[AttentionPair, nn.Module] = {}
    for place, pair in enumerate(pairs):
        widths = student_widths[pair.student], teacher_widths[pair.teacher]
        drawn = seed_of(seed, "projection", place)
        if loss.attention_loss == "projectors":
            maps[pair] = ProjectorEnsemble(*widths, loss.projectors, drawn)
        elif widths[0] != widths[1]:
            maps[pair] = seeded_linear(*widths, drawn)
    return Projections(maps) if maps else None


def _widths(model: VideoModel, names: Collection[str]) -> dict[str, int]:
    """Return the widths d of intermediates, as a tiny clip has them."""
    if not names:
        return {}
    side = PROBE_SIDE + registry.entry(model.name).side
    device = next(model.parameters()).device
    masks = torch.zeros(1, 2, side, side, dtype=torch.int64)
    masks[..., : side // 2] = 1
    clip = Clip(torch.zeros(1, 2, 3, side, side), masks, torch.ones(1, 1, dtype=torch.bool), (0,))
    mode = model.training
    with torch.no_grad():
        named = run(model.eval(), clip.to(device), names).named
    model.train(mode)
    return {name: value.shape[-1] for name, value in named.items()}


def make_trainee(
    loss: LossConfig, model: VideoModel, teacher: VideoModel | None, *, seed: int
) -> Trainee:
    """Make the trainee with the maps that its loss needs. Raises InputError as they do."""
    if teacher is None:
        return Trainee(model)
    embedding = embedding_between(model, teacher, seed=seed) if loss.needs_features else None
    return Trainee(model, embedding, projections_between(loss, model, teacher, seed=seed))


@dataclass(frozen=True)
class Losses:
    """Every term as a sum over its items and their count, so that workers can add both up.

    A term's value is sum / count with both summed over all workers; the total weighs the values.
    terms: those the loss asks for; sums and counts: by name, of those that had what they need;
    at: the student's tensors by name that the terms are functions of.
    """

    terms: tuple[Term, ...]
    sums: Mapping[str, Tensor]
    counts: Mapping[str, Tensor | int]
    at: Mapping[str, Tensor]

    @property
    def weights(self) -> dict[str, float]:
        """Weights by name of term."""
        return {term.name: term.weight for term in self.terms}


class DistillStep:
    """Compute the losses of one batch.

    The teacher's forward and the student's losses are two calls: one teacher output can feed
    several students. Each term is the mean over its items; STCN sums over frames instead, which
    would make the balance of the terms depend on the clip length.
    """

    def __init__(
        self, loss: LossConfig, *, seed: int, label_above: float | None = None, soft: bool = False
    ) -> None:
        """Take the loss of a step, and whether the teacher labels its clips.

        label_above: least probability of a label that the teacher gives in the step; None where
        clips come with all the labels that they have; soft: with its probabilities as targets.
        """
        self.loss = loss
        self.seed = seed
        self.label_above = label_above
        self.soft = soft
        self.terms = loss.terms()
        self.watch = _names(term.student_names for term in self.terms)
        self.teacher_watch = _names(term.teacher_names for term in self.terms)
        self._compares_features = any("features" in term.needs for term in self.terms)
        self._methods: set[str] = set()  # of the correlation loss, logged so far

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments alone for loader processes: terms are local functions."""
        made = partial(DistillStep, seed=self.seed, label_above=self.label_above, soft=self.soft)
        return made, (self.loss,)

    def select(self, clip: Clip) -> Selection | None:
        """Choose the batch's pixels; call it before the clip goes to the device.

        None where no term compares chosen pixels, or where the teacher is to label the clip first.
        """
        return None if self.label_above is not None else self._choose(clip)

    def label(self, clip: Clip, teacher: StepOutput) -> tuple[Clip, Selection | None]:
        """Label the batch by its teacher's output, and choose pixels by these labels."""
        assert self.label_above is not None
        labelled = with_labels(clip, teacher.logits, self.label_above, soft=self.soft)
        chosen = self._choose(labelled.to("cpu")) if self.loss.needs_pixels else None
        return labelled, chosen and chosen.to(clip.masks.device)

    def _choose(self, clip: Clip) -> Selection | None:
        if not self.loss.needs_pixels:
            return None
        return select_pixels(
            clip,
            self.loss.sampling,
            width=self.loss.boundary_width,
            max_pixels=self.loss.max_pixels,
            seed=self.seed,
            logit_pixels=self.loss.kl_pixels,
            labels_read=self.loss.representation > 0 and self.loss.omega < 1,
        )

    def _log_methods(self, counts: Sequence[int], device: str) -> None:
        """Log each method that `auto` picks, once per training."""
        for count in counts:
            method = pick(count, self.loss.omega, device)
            if method not in self._methods:
                self._methods.add(method)
                logger.info(
                    "correlation loss: %s for %d pixels (dense up to %d on %s)",
                    method,
                    count,
                    DENSE_UP_TO.get(device, DENSE_UP_TO["cpu"]),
                    device,
                )

    @staticmethod
    def teach(teacher: nn.Module, clip: Clip, watch: Collection[str] = ()) -> StepOutput:
        """Run the teacher on the batch, without a gradient; watch: as `teacher_watch`."""
        with torch.no_grad():
            return run(teacher, clip, watch)

    def losses(
        self,
        trainee: nn.Module,
        clip: Clip,
        *,
        keep: float,
        progress: float = 0.0,
        given_masks: bool = False,
        teacher_output: StepOutput | None = None,
        selection: Selection | None = None,
    ) -> Losses:
        """Run the student and compute every term.

        keep: share of pixels the bootstrapping keeps; progress: share of the stage's steps that are
        done; given_masks: past masks are the clip's, not predicted; teacher_output and selection:
        where a term needs a teacher and pixels, else that term is left out.
        """
        rows = selection.rows if self._compares_features and selection else None
        if rows is not None and selection is not None and self.loss.method == "auto":
            self._log_methods(selection.counts, rows.device.type)
        output, embedded = trainee(clip, rows, self.loss.z, self.watch, given_masks)
        teacher_rows = None
        if embedded is not None and rows is not None and teacher_output is not None:
            teacher_rows = rows_of(teacher_output.z, rows, self.loss.z)
        view = StepView(
            clip=clip,
            output=output,
            logits=mask_absent(output.logits, clip.present),
            keep=keep,
            teacher=teacher_output,
            selection=selection,
            student_rows=embedded,
            teacher_rows=teacher_rows,
            progress=progress,
        )
        available: set[Needs] = {"labels"}
        if teacher_output is not None:
            available.add("teacher")
        if selection is not None:
            available.add("pixels")
        if teacher_rows is not None:
            available.add("features")
        values = {term.name: term.value(view) for term in self.terms if term.needs <= available}
        return Losses(
            self.terms,
            {name: total for name, (total, _) in values.items()},
            {name: count for name, (_, count) in values.items()},
            view.at,
        )


def _names(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return every name once, in order."""
    return tuple(dict.fromkeys(name for group in groups for name in group))
