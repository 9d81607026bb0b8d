"""Define the sections of student and teacher, and rules that depend on the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.config.errors import broken_rule
from orchestrator.config.fields import (
    CROP_MULTIPLE,
    Count,
    Place,
    Positive,
    Rows,
    Section,
    Unit,
)
from vosmodels import demo, registry
from vosmodels.errors import InputError
from vosmodels.support import watching
from vosmodels.types import REFERENCE_LOGITS, AttentionPair, Targets, TeacherView

# Options of the model families that say parts of a memory rule.
MEMORY_OPTIONS = frozenset({"queue", "mem_every", "include_last"})
# Weights that need a teacher.
TAUGHT = ("logit", "representation", "cka", "inter", "intra", "attention")


class ModelConfig(Section):
    """A model by registry name; the config class of the model checks `options`."""

    name: str
    weights: Place | None = None  # a whole model: a file, demo or models:/ID
    backbone: Place | None = None  # encoder weights to start from: imagenet or a file
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def weights_file(self) -> Path | None:
        """The file of `weights`, which may be `demo`; models:/ID is replaced by a file before."""
        return None if self.weights is None else demo.file_of(self.weights)

    @field_validator("name")
    @classmethod
    def _name_is_registered(cls, value: str) -> str:
        try:
            registry.config(value)
        except InputError as error:
            raise broken_rule(str(error), prefix="") from None
        return value

    @field_validator("options")
    @classmethod
    def _options_fit(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        other = sorted(MEMORY_OPTIONS & value.keys())
        if value.get("memory") and other:
            raise broken_rule(f"memory and {other[0]} are two rules; give one", prefix="")
        if "name" in info.data:
            try:
                registry.config(info.data["name"], **value)
            except InputError as error:
                raise broken_rule(str(error), prefix="") from None
        return value


class StudentConfig(ModelConfig):
    """The model that the trials train."""

    section = "student"
    name: str = "mobilevos_mobilenetv2"

    def remembering(self, memory: str) -> StudentConfig:
        """Return the student with another memory rule. Raises PydanticCustomError."""
        options = {**self.options, "memory": memory}
        other = sorted(MEMORY_OPTIONS & options.keys())
        problem = ""
        if other:
            problem = f"{memory} and student.options.{other[0]} are two rules; give one"
        else:
            try:
                registry.config(self.name, **options)
            except InputError as error:
                problem = str(error)
        if problem:
            keys = ("data.memory", "student.name", *(f"student.options.{key}" for key in other))
            raise broken_rule(problem, prefix="", keys=keys, at="data.memory")
        return self.model_copy(update={"options": options})


class TeacherConfig(ModelConfig):
    """The teacher: loaded from `weights`, or trained first for `steps` steps.

    The keys from `masks` on say how it labels the videos of a source with `labels: teacher`.
    """

    section = "teacher"
    added = frozenset({"masks", "segments", "rows", "targets", "threshold", "labelled"})
    name: str = "stcn_mobilenetv2"
    steps: Count = 200
    # generated clips whose true labels it is trained on here; null: as data.labelled
    labelled: Positive | Literal["all"] | None = None
    masks: Place | None = None  # DIR/VIDEO/FRAME.png of another tracker, in place of a network
    # video: each video once, before training; clip: each clip, in its step
    segments: TeacherView = "video"
    rows: Rows | None = None  # that the teacher sees of a video; null: all
    targets: Targets = "hard"  # soft: its probabilities, not its ids
    threshold: Unit = 0.0  # least probability of a label; a pixel below it is ignored

    @property
    def trained(self) -> bool:
        """True where a run that needs the teacher trains it first."""
        return self.weights is None and self.masks is None and self.steps > 0

    @field_validator("masks")
    @classmethod
    def _masks_are_the_teacher(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("weights") is not None:
            raise broken_rule(
                "masks and weights are two teachers; give one of them",
                prefix="",
                keys=("teacher.masks", "teacher.weights"),
            )
        return value

    @field_validator("segments", "rows", "targets", "threshold")
    @classmethod
    def _masks_are_as_they_are(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        default = cls.model_fields[name].default
        if info.data.get("masks") is not None and value != default:
            raise broken_rule(
                f"{name} {value}: teacher.masks is a folder of finished masks, without "
                f"probabilities; leave {name} out",
                prefix="",
                keys=(f"teacher.{name}", "teacher.masks"),
            )
        return value


def check_features(weights: Mapping[str, float], models: Mapping[str, ModelConfig]) -> None:
    """Refuse a weight of a term that compares z where a model has no z per object.

    weights: by their key in loss; models: by section. Raises PydanticCustomError.
    """
    for key, weight in weights.items():
        for section, model in models.items():
            if weight > 0 and not registry.entry(model.name).features:
                raise broken_rule(
                    f"{key} {weight} compares a feature map per object, which {section} "
                    f"{model.name} does not have; set loss.{key}=0, or choose another {section}",
                    prefix="",
                    keys=(f"loss.{key}", f"{section}.name"),
                    at=f"loss.{key}",
                )


def check_attentions(
    attention: float, pairs: Sequence[AttentionPair], models: Mapping[str, ModelConfig]
) -> None:
    """Refuse a weight of the attention term where a model lacks an attention that it compares.

    models: by section, student and teacher. Raises PydanticCustomError.
    """
    keys = ("attention", "attention_pairs", "attention_of", "attention_part")
    for section, model in models.items():
        available = registry.entry(model.name).watchable(
            registry.config(model.name, **model.options)
        )
        if pairs and not available:
            raise broken_rule(
                f"attention {attention} compares attentions, which {section} {model.name} does "
                f"not have; set loss.attention=0, or choose another {section}",
                prefix="",
                keys=(*(f"loss.{key}" for key in keys), f"{section}.name"),
                at="loss.attention",
            )
        for pair in pairs:
            try:
                watching.resolve(getattr(pair, section), available)
            except InputError as error:
                raise broken_rule(
                    f"{section} {model.name} has {error}: choose one by loss.attention_pairs, "
                    "attention_of and attention_part",
                    prefix="",
                    keys=(*(f"loss.{key}" for key in keys), f"{section}.name"),
                    at="loss.attention_pairs",
                ) from None


def check_reference(reference: float, models: Mapping[str, ModelConfig]) -> None:
    """Refuse a weight of the reference term for a model that does not decode the given frame.

    models: by section. Raises PydanticCustomError.
    """
    for section, model in models.items():
        names = registry.entry(model.name).watchable(registry.config(model.name, **model.options))
        if reference > 0 and REFERENCE_LOGITS not in names:
            raise broken_rule(
                f"reference {reference:g} trains the given frame's own logits, which {section} "
                f"{model.name} does not have; set loss.reference=0, or choose another {section}",
                prefix="",
                keys=("loss.reference", f"{section}.name"),
                at="loss.reference",
            )


def check_crop(key: str, crop: int | None, models: Mapping[str, ModelConfig]) -> None:
    """Refuse a crop whose side a model does not take.

    key: dotted key of the crop; crop: side in px; models: by section.
    Raises PydanticCustomError.
    """
    for section, model in models.items():
        side = registry.entry(model.name).side
        if crop is not None and crop % CROP_MULTIPLE != side:
            near = crop - crop % CROP_MULTIPLE + side
            plus = f" + {side}" if side else ""
            raise broken_rule(
                f"crop {crop}: {model.name} takes sides of {CROP_MULTIPLE} k{plus}, such as {near}",
                prefix="",
                keys=(key, f"{section}.name", *(f"loss.{weight}" for weight in TAUGHT)),
                at=key,
            )
