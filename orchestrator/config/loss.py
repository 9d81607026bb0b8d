"""Define the section of the loss: the weights of its terms, and how the papers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.config import errors
from orchestrator.config.fields import (
    Above0,
    Layer,
    Number,
    Section,
    Unit,
    Weight,
)
from vosmodels.types import (
    LABEL_SAMPLING,
    AttentionKind,
    AttentionLoss,
    AttentionPair,
    AttentionPart,
    CorrelationMethod,
    CorrelationNorm,
    Direction,
    FeatureSide,
    LogitPixels,
    Sampling,
)

if TYPE_CHECKING:
    from vosmodels.terms import Term

LayerPair = tuple[Layer, Layer, Above0]  # of teacher and student, and a weight


class LossConfig(Section):
    """Weights of the loss terms (0 = off) and the open readings of the paper.

    See vosmodels.distillation.
    """

    section = "loss"
    added = frozenset({"ce", "poly", "jaccard", "inter", "intra", "relation_tau"}) | {
        *("attention", "attention_pairs", "attention_of", "attention_part"),
        *("attention_loss", "attention_tau", "projectors", "reference", "reference_until", "cka"),
    }
    method: CorrelationMethod = "auto"
    omega: Unit = Field(default=0.95, validate_default=True)
    tau: Above0 = 0.1
    sampling: Sampling = "boundary"
    ce: Weight = 1.0  # cross-entropy with the labels; 0: labels after the first frame are not read
    poly: Weight = 1.0  # epsilon of poly cross-entropy; 0: cross-entropy
    logit: Weight = 1.0
    representation: Weight = 1.0
    cka: Weight = 0.0  # centred kernel alignment of z, on all pixels
    dice: Weight = 0.0
    jaccard: Literal["objects", "classes"] = "objects"  # what dice is a mean over; classes: as AOT
    reference: Weight = 0.0  # the same on the given frame, as AOT's auxiliary loss
    reference_until: Annotated[float, Number, Field(gt=0, le=1)] = 1.0  # falls to 0 at this share
    kl: Direction = "forward"
    kl_pixels: LogitPixels = "same"  # same: as sampling, random: all
    tau_squared: bool = False  # scale by tau^2 as Hinton et al. do; the paper does not
    z: FeatureSide = "pre_relu"  # side of the ReLU before the mask head
    norm: CorrelationNorm = "n"
    boundary_width: Annotated[int, Number, Field(ge=1, le=2048)] = 1  # positions at stride 4
    max_pixels: Annotated[int, Number, Field(ge=2, le=2**22)] = 1024
    inter: Weight = 0.0  # relations of DIST, on all pixels: between the objects of a pixel
    intra: Weight = 0.0  # and between the pixels of an object
    relation_tau: Above0 = 1.0
    attention: Weight = 0.0  # lambda of equation 12
    # [teacher layer, student layer, weight] each; null: the last with the last
    attention_pairs: Annotated[tuple[LayerPair, ...], Field(min_length=1)] | None = None
    attention_of: AttentionKind = "self"
    attention_part: AttentionPart = "id"
    attention_loss: AttentionLoss = "cka"
    attention_tau: Above0 = 1.0  # of the KL divergence of outputs
    projectors: Annotated[int, Number, Field(ge=1, le=64)] = 3

    def terms(self) -> tuple[Term, ...]:
        """Return the terms of weight above 0, in the order in which they are summed."""
        from vosmodels import terms  # here, since it loads torch, which reading a file needs not

        jaccard = terms.dice if self.jaccard == "objects" else terms.jaccard_of_classes
        every = (
            terms.cross_entropy(self.ce, poly=self.poly),
            jaccard(self.dice),
            terms.reference(
                self.reference if self.ce + self.dice > 0 else 0.0,
                until=self.reference_until,
                ce=self.ce,
                dice=self.dice,
                poly=self.poly,
                jaccard=self.jaccard,
            ),
            terms.logit(self.logit, tau=self.tau, direction=self.kl, tau_squared=self.tau_squared),
            terms.correlation(
                self.representation, omega=self.omega, method=self.method, norm=self.norm
            ),
            terms.feature_cka(self.cka, side=self.z),
            terms.inter(self.inter, tau=self.relation_tau),
            terms.intra(self.intra, tau=self.relation_tau),
            terms.attention(
                self.attention,
                pairs=self.pairs,
                loss=self.attention_loss,
                tau=self.attention_tau,
            ),
        )
        return tuple(term for term in every if term.weight > 0)

    @property
    def pairs(self) -> tuple[AttentionPair, ...]:
        """Attentions that are compared; none where the weight of their term is 0."""
        if self.attention == 0:
            return ()
        place = f"{self.attention_of}.{self.attention_part}"
        return tuple(
            AttentionPair(f"{place}.{teacher}", f"{place}.{student}", weight)
            for teacher, student, weight in self.attention_pairs or ((-1, -1, 1.0),)
        )

    @property
    def needs_teacher(self) -> bool:
        """True where a term compares the student with a teacher."""
        compared = self.cka + self.inter + self.intra + self.attention > 0
        return self.needs_pixels or compared

    @property
    def needs_pixels(self) -> bool:
        """True where a term compares chosen pixels (`sampling`), not all of them."""
        return self.logit > 0 or self.representation > 0

    @property
    def needs_features(self) -> bool:
        """True where a term compares z at chosen pixels, mapped to the teacher's width."""
        return self.representation > 0

    @property
    def needs_labels(self) -> bool:
        """True where labels after a clip's first frame are read.

        They are read by a term, or by the choice of pixels.
        """
        supervised = self.ce > 0 or self.dice > 0 or (self.representation > 0 and self.omega < 1)
        chosen = self.sampling in LABEL_SAMPLING or self.kl_pixels == "boundary"
        return supervised or (self.needs_pixels and chosen)

    @field_validator("attention_pairs")
    @classmethod
    def _pairs_are_different(cls, value: Any) -> Any:
        layers = [pair[:2] for pair in value or ()]
        for pair in layers:
            if layers.count(pair) > 1:
                raise errors.broken_rule(
                    f"has [{pair[0]}, {pair[1]}] twice; list a pair of layers once", prefix=""
                )
        return value

    @field_validator("attention_loss")
    @classmethod
    def _projectors_map_outputs(cls, value: str, info: ValidationInfo) -> str:
        if value == "projectors" and info.data.get("attention_part") == "weights":
            raise errors.broken_rule(
                "maps outputs, and the width of attention weights changes with the crop; set "
                "loss.attention_part=id, or loss.attention_loss=kl",
                prefix="{value} ",
                keys=("loss.attention_loss", "loss.attention_part"),
            )
        return value

    @field_validator("omega")
    @classmethod
    def _classwise_is_exact(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("method") == "classwise" and value != 0:
            raise errors.broken_rule(
                "loss.method classwise is exact for 0 only", keys=("loss.method", "loss.omega")
            )
        return value
