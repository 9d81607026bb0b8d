"""Define the training stages of the YAML, each with its own data, batch and rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from orchestrator.config.fields import (
    MOST,
    Above0,
    BatchSize,
    ClipLength,
    Count,
    Crop,
    Number,
    Place,
    Positive,
    Section,
    Unit,
    Weight,
)
from vosmodels.types import Labels

MaxSkip = Annotated[int, Number, Field(ge=1, le=MOST)] | Literal["curriculum"]
DecayAt = Annotated[float, Number, Field(gt=0, le=1)]


class ImagesConfig(Section):
    """A folder of images and masks; each image is visited `repeat` times an epoch."""

    root: Place
    repeat: Positive = 1


class VideosConfig(ImagesConfig):
    """A split of a dataset folder; each video is visited `repeat` times an epoch."""

    added = frozenset({"labels"})
    layout: Literal["auto", "davis", "youtubevos"] = "auto"
    year: Literal["auto", 2016, 2017] = "auto"
    split: Place = "train"
    labels: Labels | None = None  # null: data.labels


def _listed(value: Any) -> Any:
    """Read the name of a folder as a list with that folder."""
    return [{"root": value}] if isinstance(value, str) else value


Images = Annotated[tuple[ImagesConfig, ...], BeforeValidator(_listed), Field(min_length=1)]
Videos = Annotated[tuple[VideosConfig, ...], Field(min_length=1)]


class StageConfig(Section):
    """A training stage: `static` uses still images as frames, the others video.

    data: null means data.static in a `static` stage and data.train in any other. All stages but
    the last belong to the stem and learn from masks alone; the trial trains the last one.
    lr_min, weight_decay, paste: null means the value of `train`.
    """

    section = "stages"
    added = frozenset({"lr_min", "weight_decay", "paste"})
    name: Literal["static", "bl30k", "video"]
    steps: Count
    batch_size: BatchSize = 4
    crop: Crop = 128
    lr: Above0 = 1e-4
    lr_min: Above0 | None = None
    weight_decay: Weight | None = None
    decay_at: DecayAt = 5 / 6  # share of the steps after which lr is a tenth
    clip_length: ClipLength = 5
    max_skip: MaxSkip = 5  # widest gap between two frames; curriculum: 5, 10, 15, 20, 25, 5
    paste: Unit | None = None
    data: Annotated[tuple[VideosConfig, ...], BeforeValidator(_listed)] | None = None


# Keys each stage sets; forbidden in `train` and `stem` when `stages` is given.
STAGE_KEYS = ("steps", "batch_size", "crop", "lr", "decay_at", "clip_length", "max_skip")

OVERRIDES = ("lr_min", "weight_decay", "paste")  # keys of `train` that a stage may set for itself


def problems(stages: Sequence[StageConfig], *, static: bool) -> list[str]:
    """List the problems of a list of stages. static: whether data.static is given."""
    problems = []
    if not stages:
        problems.append("is empty; it needs at least one stage, the last is the trials'")
    for place, stage in enumerate(stages):
        named = f"stage {place} ({stage.name})"
        if stage.name == "static" and stage.data is None and not static:
            problems.append(f"{named} has no images; give data.static or its own data")
        if stage.name == "bl30k" and stage.data is None:
            problems.append(f"{named} has no videos; give its data, the folder of BL30K")
        if stage.name == "static" and any(
            source.model_fields_set - {"root", "repeat"} for source in stage.data or ()
        ):
            problems.append(f"{named}: still images have root and repeat alone")
    if static and not any(stage.name == "static" for stage in stages):
        problems.append("has no stage named static, which data.static is for")
    return problems
