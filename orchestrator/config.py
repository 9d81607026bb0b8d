"""The YAML schema: a file becomes a typed, frozen object once, here; below nobody sees a dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from orchestrator import complaints
from orchestrator.yamlfile import ConfigError, Document, read
from vosmodels import registry
from vosmodels.types import InputError

__all__ = ["ConfigError", "RunConfig", "SweepConfig", "load", "load_run"]


def _no_bool(value: object) -> object:
    """pydantic reads true as 1; a person who writes `steps: true` meant something else."""
    if isinstance(value, bool):
        raise PydanticCustomError("bool_number", "must be a number")
    return value


_Bool = BeforeValidator(_no_bool)
Count = Annotated[int, _Bool, Field(ge=0)]
Positive = Annotated[int, _Bool, Field(ge=1)]
Weight = Annotated[float, _Bool, Field(ge=0)]
Above0 = Annotated[float, _Bool, Field(gt=0)]
Unit = Annotated[float, _Bool, Field(ge=0, le=1)]

# Named in the schema, not done by the code yet: (section, key) -> (is it that?, what it is).
NOT_BUILT: Mapping[tuple[str, str], tuple[Callable[[Any], bool], str]] = {
    ("data", "train"): (lambda v: isinstance(v, list), "training on a list of splits"),
    ("data", "static"): (lambda v: v is not None, "training on static images"),
    ("", "stages"): (lambda v: v is not None, "training in stages"),
    ("train", "ema"): (lambda v: v != 0, "an average of the weights over steps (0 = off)"),
    ("train", "keep"): (lambda v: v in ("last", "soup"), "keeping fewer than all checkpoints"),
    ("sweep", "search"): (lambda v: v in ("random", "optuna"), "a search other than grid"),
    ("sweep", "scheduler"): (lambda v: v == "asha", "stopping trials early"),
    ("cluster", "lockstep"): (lambda v: v != 1, "training several students in one job (1 = one)"),
}

# Trials are compared by one score, in one experiment: what that rests on is the same for all.
NOT_SWEPT = {"name", "sweep", "soup", "cluster", "storage", "tracking", "stages"} | {
    f"data.{key}"
    for key in ("root", "layout", "year", "select", "report", "select_height", "select_stride")
}
STORAGE = "results"  # in the working directory
MODEL = "models:/"  # before the id of a checkpoint in MLflow
GENERATED_SPLITS = ("train", "val", "test")


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, nothing unbuilt accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    section: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _is_built(cls, value: Any, info: ValidationInfo) -> Any:
        wanted, what = NOT_BUILT.get((cls.section, str(info.field_name)), (None, ""))
        if wanted is not None and wanted(value):
            raise PydanticCustomError("not_built", "{what} is not built yet", {"what": what})
        return value


class DataConfig(Section):
    """Where clips come from; splits by name. `select` chooses, `report` is scored once."""

    section = "data"
    root: Annotated[str, Field(min_length=1)] = "generated"
    layout: Literal["auto", "davis", "youtubevos", "generated"] = "auto"
    year: Literal["auto", 2016, 2017] = "auto"
    train: str = "train"
    select: str = "val"
    report: str | None = None
    static: None = None
    select_height: Positive = 240  # px
    select_stride: Positive = 2  # frames
    max_objects: Positive = 2  # objects of one clip trained at once; STCN trains two

    @field_validator("train", "select", "report")
    @classmethod
    def _split_is_generated(cls, value: Any, info: ValidationInfo) -> Any:
        drawn = cls.draws(info.data.get("root"), info.data.get("layout"))
        if drawn and isinstance(value, str) and value not in GENERATED_SPLITS:
            raise PydanticCustomError(
                "split",
                "{value} is no split of generated clips, which has train, val and test",
                {"value": repr(value)},
            )
        return value

    @field_validator("report")
    @classmethod
    def _report_chooses_nothing(cls, value: str | None, info: ValidationInfo) -> str | None:
        for key in ("select", "train"):
            if value is not None and value == info.data.get(key):
                raise PydanticCustomError(
                    "report_chosen",
                    "is also data.{key}; report must be a split nothing is chosen or trained by",
                    {"key": key},
                )
        return value

    @property
    def generated(self) -> bool:
        """True where clips are drawn, not read."""
        return self.draws(self.root, self.layout)

    @staticmethod
    def draws(root: str | None, layout: str | None) -> bool:
        return layout == "generated" or (layout == "auto" and root == "generated")


class ModelConfig(Section):
    """A model by registry name; `options` are checked by that model's own config class."""

    name: str
    weights: str | None = None  # a whole model: a file or models:/ID
    backbone: str | None = None  # encoder weights to start from: imagenet or a file
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _name_is_registered(cls, value: str) -> str:
        try:
            registry.config(value)
        except InputError as error:
            raise PydanticCustomError("model", "{why}", {"why": str(error)}) from None
        return value

    @field_validator("options")
    @classmethod
    def _options_fit(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "name" in info.data:
            try:
                registry.config(info.data["name"], **value)
            except InputError as error:
                raise PydanticCustomError("options", "{why}", {"why": str(error)}) from None
        return value


class StudentConfig(ModelConfig):
    section = "student"
    name: str = "mobilevos_mobilenetv2"


class TeacherConfig(ModelConfig):
    """`weights` given: used as it is. Else trained first, for `steps`."""

    section = "teacher"
    name: str = "stcn_mobilenetv2"
    steps: Count = 200


class LossConfig(Section):
    """Weights of the terms (0 = off) and the readings of the paper; vosmodels.distillation."""

    section = "loss"
    method: Literal["auto", "dense", "tiled", "classwise"] = "auto"
    omega: Unit = Field(default=0.95, validate_default=True)
    tau: Above0 = 0.1
    sampling: Literal["boundary", "random", "all"] = "boundary"
    logit: Weight = 1.0
    representation: Weight = 1.0
    dice: Weight = 0.0
    kl: Literal["forward", "reverse"] = "forward"
    kl_pixels: Literal["same", "boundary", "all"] = "same"  # same: as sampling, random: all
    tau_squared: bool = False  # times tau^2, as Hinton et al.; the paper does not
    z: Literal["pre_relu", "post_relu"] = "pre_relu"  # of the ReLU before the mask head
    norm: Literal["n", "none"] = "n"
    boundary_width: Positive = 1  # positions at stride 4
    max_pixels: Annotated[int, _Bool, Field(ge=2)] = 1024

    @field_validator("omega")
    @classmethod
    def _classwise_is_exact(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("method") == "classwise" and value != 0:
            raise PydanticCustomError("classwise", "loss.method classwise is exact for 0 only")
        return value


class StemConfig(Section):
    """Training before the trials part; null: train's value as written, never a swept one.

    A teacher that is trained here has the same batch, crop and rate: both start from nothing.
    """

    section = "stem"
    steps: Count = 100
    loss: Literal["cross_entropy"] = "cross_entropy"
    batch_size: Positive | None = None
    crop: Annotated[int, _Bool, Field(ge=16, multiple_of=16)] | None = None  # px
    lr: Above0 | None = None


class TrainConfig(Section):
    """One trial's training; steps count after the stem, batch_size over all workers."""

    section = "train"
    steps: Count = 200
    batch_size: Positive = 4
    clip_length: Annotated[int, _Bool, Field(ge=2)] = 5  # frames
    crop: Annotated[int, _Bool, Field(ge=16, multiple_of=16)] = 128  # px
    lr: Above0 = 1e-4
    eval_every: Positive = 100  # steps
    checkpoint_every: Positive = 100  # steps
    keep: Literal["all"] = "all"
    amp: Literal["auto", "off"] = "auto"  # auto: bfloat16 on a GPU
    ema: Annotated[float, _Bool, Field(ge=0, lt=1)] = 0.0
    clip_norm: Weight = 0.0  # largest gradient norm, 0 = off
    schedule: Literal["step", "cosine"] = "step"  # step: a tenth of lr from 5/6 of the steps on
    warmup: Unit = 0.0  # share of the steps over which lr rises from 0
    weight_decay: Weight = 1e-7
    bootstrap: Annotated[float, _Bool, Field(gt=0, le=1)] = 0.15  # hardest pixels kept at the end


class SoupConfig(Section):
    section = "soup"
    after_sweep: bool = True
    min_delta: Weight = 0.0


class ClusterConfig(Section):
    """What runs the trials; shapes nothing that is learnt, except through `threads`."""

    section = "cluster"
    address: str | None = None
    workers: Positive = 1
    gpus_per_worker: Weight = 0.0
    threads: Positive | None = None
    lockstep: Positive = 1
    retries: Count = 1
    stall_s: Above0 = 600.0


class TrackingConfig(Section):
    section = "tracking"
    uri: str | None = None


class RunConfig(Section):
    """One job."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")  # MLflow experiment
    seed: Count = 0
    data: DataConfig = DataConfig()
    student: StudentConfig = StudentConfig()
    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = LossConfig()
    stem: StemConfig = StemConfig()
    train: TrainConfig = TrainConfig()
    stages: None = None
    soup: SoupConfig = SoupConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: str | None = None
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("cluster")
    @classmethod
    def _workers_share_a_batch(cls, value: ClusterConfig, info: ValidationInfo) -> ClusterConfig:
        for section in ("train", "stem"):
            size = getattr(info.data.get(section), "batch_size", None)
            if size is not None and size % value.workers:
                raise PydanticCustomError(
                    "workers",
                    "workers {workers} cannot share {section}.batch_size {size} equally",
                    {"workers": value.workers, "section": section, "size": size},
                )
        return value

    @property
    def storage_root(self) -> Path:
        """Absolute folder of ledger, checkpoints and the default MLflow store."""
        return Path(self.storage or STORAGE).expanduser().absolute()


class SweepSection(Section):
    """Which keys vary: `parameters` maps a dotted key to its values; seeds repeat every point."""

    section = "sweep"
    parameters: dict[str, Any]
    search: Literal["grid"] = "grid"
    scheduler: Literal["fifo"] = "fifo"
    seeds: Positive = 1


class SweepConfig(RunConfig):
    """A sweep: a run and what varies."""

    sweep: SweepSection


Config = TypeVar("Config", bound=RunConfig)


def load(path: Path | str, overrides: Sequence[str] = ()) -> SweepConfig:
    """The sweep in a YAML file; ConfigError with every problem, grid points included."""
    document = _read(path, overrides)
    problems = []
    if "sweep" not in document.values:
        problems.append(
            f"{path}: sweep: missing; a sweep needs `sweep: {{parameters: {{key: [values]}}}}`, "
            f"one job runs with: python -m orchestrator.train {path}"
        )
        document.values["sweep"] = {"parameters": {}}  # so that it is said once
    else:
        problems = complaints.of_grid(document, RunConfig, NOT_SWEPT)
    return _validate(SweepConfig, document, problems)


def load_run(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """The single job in a YAML file; a sweep is refused."""
    document = _read(path, overrides)
    problems = []
    if document.values.pop("sweep", None) is not None:
        problems.append(
            f"{document.place(('sweep',))}: sweep: this is a sweep, not one job; "
            f"run it with: python -m orchestrator.sweep {path}"
        )
    return _validate(RunConfig, document, problems)


def changed(config: RunConfig, values: Mapping[str, Any], place: str) -> RunConfig:
    """The run with dotted keys set to values that came from `place`; ConfigError as `load`."""
    document = Document(Path(place), complaints.with_keys(config.model_dump(), values))
    return _validate(RunConfig, document, [])


def resolve(config: Config) -> Config:
    """The config with the stem's nulls filled from `train` as written."""
    stem, train = config.stem, config.train
    filled = {
        key: getattr(stem, key) or getattr(train, key) for key in ("batch_size", "crop", "lr")
    }
    return config.model_copy(update={"stem": stem.model_copy(update=filled)})


def _read(path: Path | str, overrides: Sequence[str]) -> Document:
    document = read(Path(path), overrides)
    document.values.setdefault("name", Path(path).stem)
    return document


def _validate(model: type[Config], document: Document, problems: list[str]) -> Config:
    found = list(document.problems)
    try:
        config = model.model_validate(document.values)
    except ValidationError as error:
        found += [complaints.line(document, model, details) for details in error.errors()]
    found += problems
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    return resolve(config)
