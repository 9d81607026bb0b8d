"""Define the sections of training: of the stem and of the trials."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.config import errors
from orchestrator.config.fields import (
    Above0,
    BatchSize,
    ClipLength,
    Count,
    Crop,
    Number,
    Positive,
    Section,
    Unit,
    Weight,
)
from orchestrator.config.stages import DecayAt, MaxSkip
from vosmodels.types import Augmentation

Precision = Literal["auto", "off", "bfloat16", "float16"]


class StemConfig(Section):
    """Training that all trials start from.

    null means the value of `train` as written, never a swept one.
    A teacher that the sweep trains has the same batch, crop and rate.
    """

    section = "stem"
    steps: Count = 100
    # From masks alone, with weight 1 (cross_entropy) or loss.ce (supervised) of the cross-entropy;
    # distill: `loss` as written, so from the teacher too.
    loss: Literal["cross_entropy", "supervised", "distill"] = "cross_entropy"
    batch_size: BatchSize | None = None
    crop: Crop | None = None  # px
    lr: Above0 | None = None


class TrainConfig(Section):
    """Training of one trial: steps count after the stem, batch_size over all workers."""

    section = "train"
    added = frozenset(
        {"optimizer", "lr_min", "encoder_lr", "ema_warmup", "bootstrap_from", "bootstrap_until"}
        | {"given_masks"}
        | {"paste"}
    )
    steps: Count = 200
    batch_size: BatchSize = 4
    clip_length: ClipLength = 5  # frames
    max_skip: MaxSkip = 5  # widest gap between two frames; curriculum: 5, 10, 15, 20, 25, 5
    paste: Unit = 0.0  # share of the clips into which objects of a second one are pasted
    augmentation: Augmentation = "light"  # stcn: the ranges of STCN, for long runs
    crop: Crop = 128  # px
    # adamw: decay apart from the gradient, none for vectors outside the encoder
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: Above0 = 1e-4
    eval_every: Positive = 100  # steps
    checkpoint_every: Positive = 100  # steps
    keep: Literal["all"] = "all"
    # auto: bfloat16 on GPUs and on processors that multiply it, else off; decided once a sweep
    amp: Precision = "auto"
    ema: Annotated[float, Number, Field(ge=0, lt=1)] = 0.0  # decay of the averaged weights
    ema_warmup: bool = False  # decay from 2/11 up, as AOT: min(ema, (1 + n) / (10 + n)) at step n
    clip_norm: Weight = 0.0  # largest gradient norm, 0 = off
    # step: a tenth of lr from decay_at on; cosine, poly: down to a twentieth of it
    schedule: Literal["step", "cosine", "poly"] = "step"
    lr_min: Above0 | None = None  # of poly, as AOT: from here up to lr, and down to here
    encoder_lr: Annotated[float, Number, Field(gt=0, le=1)] = 1.0  # share of lr - lr_min
    decay_at: DecayAt = 5 / 6  # share of the steps
    warmup: Unit = 0.0  # share of the steps over which lr rises from 0, or from lr_min
    weight_decay: Weight = 1e-7
    bootstrap: Annotated[float, Number, Field(gt=0, le=1)] = (
        0.15  # share of hardest pixels kept at the end
    )
    # shares of the steps: all pixels until `from`, linearly fewer until `until`; AOT 0 and 0.5
    bootstrap_from: Unit = 1 / 15
    bootstrap_until: Unit = Field(default=7 / 30, validate_default=True)
    given_masks: Unit = 0.0  # share of the steps, from the first, with true masks in the memory

    @field_validator("lr_min")
    @classmethod
    def _lowest_rate_is_of_poly(cls, value: float | None, info: ValidationInfo) -> float | None:
        schedule = info.data.get("schedule")
        if value is not None and schedule in ("step", "cosine"):
            raise errors.broken_rule(
                f"schedule {schedule} has a lowest rate of its own; set schedule: poly, or leave "
                "lr_min out",
                keys=("train.lr_min", "train.schedule"),
            )
        return value

    @field_validator("bootstrap_until")
    @classmethod
    def _bootstrapping_takes_time(cls, value: float, info: ValidationInfo) -> float:
        start = info.data.get("bootstrap_from")
        if start is not None and value <= start:
            raise errors.broken_rule(
                f"is not after train.bootstrap_from {start:g}",
                prefix="{value} ",
                keys=("train.bootstrap_from", "train.bootstrap_until"),
            )
        return value
