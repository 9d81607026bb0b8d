"""Define the YAML of a run and of a sweep: its sections, and the rules between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.config import errors, models, stages
from orchestrator.config.data import PROTOCOL, SCENES, DataConfig
from orchestrator.config.fields import (
    MOST,
    Loaders,
    Number,
    Place,
    Positive,
    Processes,
    Repeats,
    Section,
    Seed,
    Store,
    Weight,
)
from orchestrator.config.loss import LossConfig
from orchestrator.config.models import ModelConfig, StudentConfig, TeacherConfig
from orchestrator.config.stages import StageConfig
from orchestrator.config.train import StemConfig, TrainConfig
from vosmodels import demo
from vosmodels.support import paths
from vosmodels.types import Labels

# Trials of a sweep are compared by one score in one experiment, so they share these keys.
NOT_SWEPT = {"name", "sweep", "soup", "cluster", "storage", "tracking", "stages"} | {
    *(
        f"data.{key}"
        for key in ("root", "select_root", "layout", "year", "leave_out", "composites")
    ),
    *(f"data.{key}" for key in (*SCENES, *PROTOCOL)),
}
STORAGE = "results"  # in the working directory
EXPERIMENT = "mlflow:"  # before the name of an experiment, which stands for its best checkpoint
PORT = 5000  # where `make ui` serves MLflow's pages
MODEL = "models:/"  # before the id of a checkpoint in MLflow
# What a command takes as a checkpoint, for its help and its messages.
REFERENCES = f"a .safetensors file, {demo.WORDS}, {MODEL}ID or {EXPERIMENT}EXPERIMENT"


class SoupConfig(Section):
    """The soup that ends a sweep; min_delta: least gain in J&F of an ingredient."""

    section = "soup"
    after_sweep: bool = True
    min_delta: Weight = 0.0


class ClusterConfig(Section):
    """Resources of the trials; of these only `threads` changes what is learnt."""

    section = "cluster"
    address: str | None = None
    storage: Store | None = None  # what all nodes rely on; null: `storage`, which they then share
    workers: Processes = 1
    gpus_per_worker: Annotated[float, Number, Field(ge=0, le=1024)] = 0.0
    threads: Processes | None = None
    loaders: Loaders | None = None  # data loader processes per worker; null: none on a CPU
    lockstep: Positive | Literal["auto"] = 1  # students trained in one job
    retries: Annotated[int, Number, Field(ge=0, le=1000)] = 1
    stall_s: Annotated[float, Number, Field(gt=0, le=MOST)] = 600.0


class TrackingConfig(Section):
    """The MLflow store; null: $MLFLOW_TRACKING_URI, else mlflow.db in the storage."""

    section = "tracking"
    uri: str | None = None


class RunConfig(Section):
    """Configuration of one job."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")  # MLflow experiment
    seed: Seed = 0
    data: DataConfig = DataConfig()
    student: StudentConfig = StudentConfig()
    teacher: TeacherConfig = TeacherConfig()
    loss: LossConfig = Field(default=LossConfig(), validate_default=True)
    stem: StemConfig = Field(default=StemConfig(), validate_default=True)
    train: TrainConfig = Field(default=TrainConfig(), validate_default=True)
    stages: tuple[StageConfig, ...] | None = Field(default=None, validate_default=True)
    soup: SoupConfig = SoupConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: Place | None = None
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("student")
    @classmethod
    def _student_remembers(cls, value: StudentConfig, info: ValidationInfo) -> StudentConfig:
        """Write the memory rule of the data into the student's options, and so its checkpoints."""
        data = info.data.get("data")
        return value if data is None or data.memory is None else value.remembering(data.memory)

    @field_validator("loss")
    @classmethod
    def _terms_fit_the_models(cls, value: LossConfig, info: ValidationInfo) -> LossConfig:
        if not (value.ce or value.dice or value.needs_teacher):
            weights = ("ce", "dice", *models.TAUGHT)
            raise errors.broken_rule(
                f"every weight is 0 ({', '.join(weights)}); raise one of them",
                prefix="",
                keys=[f"loss.{key}" for key in weights],
            )
        both = cls._models(info, "student", "teacher")
        of_z = {"representation": value.representation, "cka": value.cka}
        models.check_features(of_z, both)
        models.check_attentions(value.attention, value.pairs, both)
        models.check_reference(value.reference, cls._models(info, "student"))
        return value

    @field_validator("stem")
    @classmethod
    def _stem_has_a_loss(cls, value: StemConfig, info: ValidationInfo) -> StemConfig:
        loss = info.data.get("loss")
        if value.loss == "supervised" and loss and not (loss.ce or loss.dice):
            raise errors.broken_rule(
                "loss supervised: loss.ce and loss.dice are 0; raise one of them, or take "
                "stem.loss=cross_entropy",
                prefix="",
                keys=("stem.loss", "loss.ce", "loss.dice"),
                at="stem.loss",
            )
        return value

    @field_validator("loss")
    @classmethod
    def _masks_have_no_logits(cls, value: LossConfig, info: ValidationInfo) -> LossConfig:
        teacher = info.data.get("teacher")
        if teacher is not None and teacher.masks is not None and value.needs_teacher:
            on = [key for key in models.TAUGHT if getattr(value, key) > 0]
            raise errors.broken_rule(
                f"{' and '.join(f'{key} {getattr(value, key):g}' for key in on)} compare with a "
                "network's output, and teacher.masks is a folder of masks; set "
                f"{' and '.join(f'loss.{key}=0' for key in on)}, or give teacher.weights in place "
                "of teacher.masks",
                prefix="",
                keys=("teacher.masks", *(f"loss.{key}" for key in on)),
            )
        return value

    @field_validator("stages")
    @classmethod
    def _crop_fits_the_models(cls, value: Any, info: ValidationInfo) -> Any:
        """Check the crops in use: those of the stages, or without stages of stem and train."""
        loss = info.data.get("loss")
        teacher = info.data.get("teacher")
        in_step = teacher is not None and teacher.segments == "clip"
        taught = in_step or (loss and loss.needs_teacher)
        sections = ("student", "teacher") if taught else ("student",)
        written = ("stem", "train")
        parts: dict[str, Any] = {key: info.data[key] for key in written if key in info.data}
        if value is not None:
            parts = {f"stages.{place}": stage for place, stage in enumerate(value)}
        for key, part in parts.items():
            models.check_crop(f"{key}.crop", part.crop, cls._models(info, *sections))
        return value

    @staticmethod
    def _models(info: ValidationInfo, *sections: str) -> dict[str, ModelConfig]:
        """Collect the models of sections that are valid themselves."""
        return {key: info.data[key] for key in sections if key in info.data}

    @field_validator("train")
    @classmethod
    def _drawn_clips_are_as_drawn(cls, value: TrainConfig, info: ValidationInfo) -> TrainConfig:
        data = info.data.get("data")
        drawn = data and data.drawn and data.static is None
        if drawn and value.augmentation != "light":
            raise errors.broken_rule(
                f"augmentation {value.augmentation}: generated clips are learnt from as they are "
                "drawn; leave it out, or give data.root a folder",
                prefix="",
                keys=("train.augmentation",),
            )
        return value

    @field_validator("train", "stages")
    @classmethod
    def _pasted_objects_have_slots(cls, value: Any, info: ValidationInfo) -> Any:
        parts = {"train": value}
        if info.field_name == "stages":
            parts = {f"stages.{place}": stage for place, stage in enumerate(value or ())}
        slots = getattr(info.data.get("data"), "max_objects", 2)
        for key, part in parts.items():
            if part.paste and slots < 2:
                raise errors.broken_rule(
                    f"paste {part.paste:g}: data.max_objects {slots} leaves no slot to a pasted "
                    "object; set it to 2 or more",
                    prefix="",
                    keys=(f"{key}.paste", "data.max_objects"),
                    at=f"{key}.paste",
                )
        return value

    @field_validator("train", "stages")
    @classmethod
    def _lowest_rate_is_lower(cls, value: Any, info: ValidationInfo) -> Any:
        train = value if info.field_name == "train" else info.data.get("train")
        lowest = getattr(train, "lr_min", None)
        if info.field_name == "train":
            rates = {"train": (value.lr, lowest)}
            if stem := info.data.get("stem"):
                rates["stem"] = (stem.lr, lowest)
        else:
            stages = enumerate(value or ())
            rates = {f"stages.{n}": (stage.lr, stage.lr_min or lowest) for n, stage in stages}
        for key, (rate, least) in rates.items():
            if rate is not None and least is not None and least > rate:
                raise errors.broken_rule(
                    f"lr_min {least:g} is above {key}.lr {rate:g}",
                    prefix="",
                    keys=(f"{key}.lr", f"{key}.lr_min", "train.lr_min"),
                    at=f"{key}.lr",
                )
        return value

    @field_validator("stages")
    @classmethod
    def _labels_have_a_source(cls, value: Any, info: ValidationInfo) -> Any:
        data, teacher = info.data.get("data"), info.data.get("teacher")
        if data is None or teacher is None:
            return value
        if data.drawn and data.labels != "truth" and data.labelled is None:
            raise errors.broken_rule(
                f"labels {data.labels}: generated clips are drawn with their labels; say by "
                "data.labelled how many have them, give data.root a folder, or leave data.labels "
                "out",
                prefix="",
                keys=("data.labels", "data.labelled"),
            )
        if teacher.labelled is not None and data.labelled is None:
            raise errors.broken_rule(
                f"labelled {teacher.labelled}: the teacher learns from the clips that the student "
                "has; say by data.labelled how many of generated clips have labels, or leave it "
                "out",
                prefix="",
                keys=("teacher.labelled", "data.labelled"),
                at="teacher.labelled",
            )
        if data.drawn and data.labels == "teacher" and teacher.segments == "video":
            raise errors.broken_rule(
                "labels teacher: generated clips are of no video that a teacher could segment "
                "once; set teacher.segments=clip",
                prefix="",
                keys=("data.labels", "teacher.segments"),
                at="teacher.segments",
            )
        loss = info.data.get("loss")
        taught = loss is not None and loss.needs_teacher
        lists = [data.train] if value is None else [s.data for s in value if s.name != "static"]
        for sources in lists:
            labels = data.labels_of(data.train if sources is None else sources)
            if data.drawn and sources in (None, data.train):
                continue  # every second clip has true labels
            if teacher.segments == "clip" and {"teacher", "none"} <= {*labels}:
                raise errors.broken_rule(
                    "labels none beside labels teacher: with teacher.segments clip every clip "
                    "without labels gets the teacher's; set teacher.segments=video",
                    prefix="",
                    keys=("data.labels", "data.train", "teacher.segments"),
                    at="data.labels",
                )
            if teacher.trained and "truth" not in labels and (taught or "teacher" in labels):
                raise errors.broken_rule(
                    f"labels {', '.join(sorted({*labels}))}: the teacher is trained here, and no "
                    "folder is left whose true labels it could learn from; give teacher.weights "
                    "or teacher.masks, or a folder with labels: truth",
                    prefix="",
                    keys=("data.labels", "data.train", "teacher.weights", "teacher.masks"),
                    at="data.labels",
                )
        return value

    @field_validator("stages")
    @classmethod
    def _stages_have_data(cls, value: Any, info: ValidationInfo) -> Any:
        static = getattr(info.data.get("data"), "static", None) is not None
        if value is None and static:
            raise errors.broken_rule(
                "data.static is for a stage named static; give stages", prefix=""
            )
        problems = stages.problems(value, static=static) if value is not None else []
        if problems:
            raise errors.broken_rule("; ".join(problems), prefix="")
        return value

    @field_validator("cluster")
    @classmethod
    def _workers_share_a_batch(cls, value: ClusterConfig, info: ValidationInfo) -> ClusterConfig:
        parts = [(key, info.data.get(key)) for key in ("train", "stem")]
        if stages := info.data.get("stages"):
            parts = [(f"stages.{place}", stage) for place, stage in enumerate(stages)]
        for section, part in parts:
            size = getattr(part, "batch_size", None)
            if size is not None and size % value.workers:
                raise errors.broken_rule(
                    f"workers {value.workers} cannot share {section}.batch_size {size} equally"
                )
        return value

    @property
    def labels(self) -> frozenset[Labels]:
        """Kinds of labels that the folders of videos have, over all stages."""
        lists = [self.data.train]
        if self.stages is not None:
            own = [stage.data for stage in self.stages if stage.name != "static"]
            lists = [self.data.train if sources is None else sources for sources in own]
        return frozenset(kind for sources in lists for kind in self.data.labels_of(sources))

    def as_sweep(self) -> SweepConfig:
        """Convert the run to a sweep of one trial, which the same code then runs."""
        return SweepConfig(**dict(self), sweep=SweepSection())

    @property
    def remote(self) -> str | None:
        """URL or absolute path of the store of which `storage` is a working copy."""
        store = self.cluster.storage
        return store if store is None or "://" in store else str(paths.absolute(store))

    @property
    def storage_root(self) -> Path:
        """Absolute path of the folder of ledger, checkpoints and the default MLflow store."""
        return paths.absolute(self.storage or STORAGE)


# Schedulers of Ray that are not offered, and what they do with trials.
_PAUSES = "pauses trials and goes on with some of them"
PAUSING = {
    "pbt": "copies the weights of one trial into another",
    "pb2": "copies the weights of one trial into another",
    "hyperband": _PAUSES,
    "bohb": _PAUSES,
}


class SweepSection(Section):
    """Keys that vary, how their values are chosen, and how often every trial is repeated.

    parameters: dotted key -> list of values, or a range (`ranges.py`); points: name -> keys that
    vary together, the first point being the baseline of the others; seeds: repeats of every trial.
    """

    section = "sweep"
    added = frozenset({"max_trials", "max_hours", "first_rung", "reduction"})
    parameters: dict[str, Any] = Field(default_factory=dict)
    points: dict[str, dict[str, Any]] = Field(default_factory=dict)
    search: Literal["grid", "random", "optuna"] = "grid"
    scheduler: Literal["fifo", "asha"] = "fifo"
    seeds: Repeats = 1
    # Most places of the parameters that are tried, each with its repeats.
    max_trials: Positive | None = Field(default=None, validate_default=True)
    max_hours: Annotated[float, Number, Field(gt=0)] | None = None  # of one start of the command
    first_rung: Positive | None = None  # steps at which asha stops first; null: the first score
    reduction: Annotated[float, Number, Field(ge=1.5, le=100)] = 3.0  # one in so many goes on

    @field_validator("scheduler", mode="before")
    @classmethod
    def _trials_are_stopped_for_good(cls, value: Any) -> Any:
        if value in PAUSING:
            raise errors.broken_rule(
                f"{PAUSING[value]}, which Ray does by checkpoints of its own; trials here "
                "resume from the ledger's; take asha"
            )
        return value

    @field_validator("search")
    @classmethod
    def _points_are_of_a_grid(cls, value: str, info: ValidationInfo) -> str:
        if value != "grid" and info.data.get("points"):
            raise errors.broken_rule(
                "draws values of sweep.parameters; sweep.points are for search grid"
            )
        return value

    @field_validator("seeds")
    @classmethod
    def _a_search_scores_once(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("search") == "optuna":
            raise errors.broken_rule(
                "search optuna takes one score of each place; leave it out, and repeat what it "
                "finds as sweep.points"
            )
        return value

    @field_validator("max_trials")
    @classmethod
    def _draws_have_an_end(cls, value: int | None, info: ValidationInfo) -> int | None:
        search = info.data.get("search", "grid")
        if value is None and search != "grid":
            raise errors.broken_rule(
                f"missing: search {search} draws without end; say how many places are tried",
                prefix="",
            )
        return value

    @property
    def keys(self) -> set[str]:
        """All keys that vary."""
        return {*self.parameters, *(key for point in self.points.values() for key in point)}


class SweepConfig(RunConfig):
    """Configuration of a sweep: a run and the keys that vary."""

    sweep: SweepSection

    @field_validator("sweep")
    @classmethod
    def _scores_are_reported(cls, value: SweepSection, info: ValidationInfo) -> SweepSection:
        workers = getattr(info.data.get("cluster"), "workers", 1)
        if value.scheduler == "asha" and workers > 1:
            raise errors.broken_rule(
                f"scheduler asha: trials of cluster.workers {workers} report no scores while they "
                "train; set cluster.workers=1, or sweep.scheduler=fifo",
                prefix="",
                keys=("sweep.scheduler", "cluster.workers"),
                at="sweep.scheduler",
            )
        return value

    @field_validator("sweep")
    @classmethod
    def _members_of_a_group_end_together(
        cls, value: SweepSection, info: ValidationInfo
    ) -> SweepSection:
        students = getattr(info.data.get("cluster"), "lockstep", 1)
        if students in (1, "auto"):
            return value
        for key, reason in (("search", "optuna"), ("scheduler", "asha")):
            if getattr(value, key) == reason:
                how = "chooses" if key == "search" else "stops"
                raise errors.broken_rule(
                    f"lockstep {students}: {key} {reason} {how} trials one by one, and students in "
                    "lock-step begin and end together; set cluster.lockstep=1 or auto",
                    prefix="",
                    keys=("cluster.lockstep", f"sweep.{key}"),
                    at="cluster.lockstep",
                )
        return value

    @property
    def students(self) -> int | Literal["auto"]:
        """Most students of one job; 1 where trials are chosen or stopped one by one."""
        alone = self.sweep.search == "optuna" or self.sweep.scheduler == "asha"
        return 1 if alone else self.cluster.lockstep


Config = TypeVar("Config", bound=RunConfig)
