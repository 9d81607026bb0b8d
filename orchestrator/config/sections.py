"""Define the sections and keys of the YAML, their defaults and rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.config import errors, models, stages
from orchestrator.config.fields import (
    MOST,
    Above0,
    BatchSize,
    ClipLength,
    Count,
    Crop,
    Height,
    Layer,
    Loaders,
    Names,
    Number,
    Objects,
    Place,
    Positive,
    Processes,
    Repeats,
    Rows,
    Section,
    Seed,
    Unit,
    Weight,
)
from orchestrator.config.models import ModelConfig, StudentConfig, TeacherConfig
from orchestrator.config.stages import DecayAt, Images, MaxSkip, StageConfig, Videos
from vosmodels.data import split_file
from vosmodels.support import paths
from vosmodels.types import (
    LABEL_SAMPLING,
    AttentionKind,
    AttentionLoss,
    AttentionPair,
    AttentionPart,
    Augmentation,
    CorrelationMethod,
    CorrelationNorm,
    Direction,
    FeatureSide,
    Labels,
    LogitPixels,
    Sampling,
)

if TYPE_CHECKING:
    from vosmodels.terms import Term

SCENES = ("scene_objects", "scene_scale")
PROTOCOL = ("select", "select_height", "select_stride", "report", "report_height")
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
MODEL = "models:/"  # before the id of a checkpoint in MLflow
GENERATED_SPLITS = ("train", "val", "test")
LayerPair = tuple[Layer, Layer, Above0]  # of teacher and student, and a weight


class DataConfig(Section):
    """Source of the clips. `select` chooses, `report` is scored once.

    A split is a name, or a FILE.txt with the name of a video on every line (DAVIS folders).
    """

    section = "data"
    added = frozenset({"leave_out", "labels", "composites", "select_root", *SCENES})
    root: Place = "generated"
    layout: Literal["auto", "davis", "youtubevos", "generated"] = "auto"
    year: Literal["auto", 2016, 2017] = "auto"
    train: Place | Videos = "train"
    # teacher, none: of a video of `train` only the masks that give its objects are read
    labels: Labels = "truth"
    select_root: Place | None = None  # folder of `select`; null: root
    select: Place = "val"
    report: Place | None = None
    static: Images | None = None
    select_height: Height = 240  # px
    select_stride: Positive = 2  # frames
    report_height: Rows | None = None  # rows the network sees; scores are at full size
    leave_out: Names = ()  # names of videos and still images that no split has
    max_objects: Objects = 2  # objects of one clip trained at once; STCN trains two
    composites: Annotated[int, Number, Field(ge=0, le=9)] = 0  # videos pasted into a scored one
    # of generated clips and videos: most objects of a scene, and by how much each grows or shrinks
    scene_objects: Annotated[int, Number, Field(ge=1, le=5)] = 3
    scene_scale: Annotated[float, Number, Field(ge=1, le=4)] = 1.0

    @field_validator("train", mode="before")
    @classmethod
    def _folder_is_the_own_one(cls, value: Any, info: ValidationInfo) -> Any:
        """Give a folder of the list that names no root the run's own, read as that is."""
        own = {key: info.data[key] for key in ("root", "layout", "year") if key in info.data}
        if not isinstance(value, list | tuple) or "root" not in own:
            return value
        rootless = [isinstance(entry, Mapping) and "root" not in entry for entry in value]
        if any(rootless) and cls.draws(own["root"], own.get("layout")):
            raise errors.broken_rule(
                f"folder {rootless.index(True)} has no root, and data.root is generated; give it "
                "the folder of the videos, or data.root",
                prefix="",
                keys=("data.train", "data.root"),
            )
        pairs = zip(value, rootless, strict=True)
        return [{**own, **entry} if lacks else entry for entry, lacks in pairs]

    @field_validator("train", "select", "report")
    @classmethod
    def _split_is_generated(cls, value: Any, info: ValidationInfo) -> Any:
        drawn = cls.draws(info.data.get("root"), info.data.get("layout"))
        if info.field_name == "select" and (root := info.data.get("select_root")):
            drawn = cls.draws(root, "auto")
        if drawn and isinstance(value, str) and value not in GENERATED_SPLITS:
            raise errors.broken_rule(
                "is no split of generated clips, which has train, val and test", prefix="{value} "
            )
        return value

    @field_validator("report")
    @classmethod
    def _report_chooses_nothing(cls, value: str | None, info: ValidationInfo) -> str | None:
        other = info.data.get("select_root") not in (None, info.data.get("root"))
        for key in ("train",) if other else ("select", "train"):
            chosen_by = map(split_file.absolute, cls._splits(info.data, key))
            if value is not None and split_file.absolute(value) in chosen_by:
                raise errors.broken_rule(
                    f"is also data.{key}; report must be a split nothing is chosen or trained by",
                    prefix="{value} ",
                )
        return value

    @field_validator(*SCENES)
    @classmethod
    def _scenes_are_generated(cls, value: float, info: ValidationInfo) -> float:
        drawn = cls.draws(info.data.get("root"), info.data.get("layout"))
        if not drawn and value != cls.model_fields[str(info.field_name)].default:
            raise errors.broken_rule("is for generated clips; leave it out", prefix="{value} ")
        return value

    @staticmethod
    def _splits(data: Mapping[str, Any], key: str) -> set[str]:
        """Collect the splits of the run's own root that the value of `key` names."""
        value = data.get(key)
        if isinstance(value, tuple):
            return {source.split for source in value if source.root == data.get("root")}
        return {value} if value else set()

    def labels_of(self, sources: str | Videos) -> tuple[Labels, ...]:
        """Return the labels of each folder of a list, or of a split of the run's own root."""
        if isinstance(sources, str):
            return (self.labels,)
        return tuple(source.labels or self.labels for source in sources)

    @property
    def of_select(self) -> DataConfig:
        """The section as it describes `select`, which may lie in a folder of its own."""
        if self.select_root is None:
            return self
        own = {"root": self.select_root, "layout": "auto", "year": "auto", "select_root": None}
        return self.model_copy(update=own)

    @property
    def generated(self) -> bool:
        """True where clips are generated, not read from a folder."""
        return self.draws(self.root, self.layout)

    @staticmethod
    def draws(root: str | None, layout: str | None) -> bool:
        """Return whether a root and a layout mean generated clips."""
        return layout == "generated" or (layout == "auto" and root == "generated")


class LossConfig(Section):
    """Weights of the loss terms (0 = off) and the open readings of the paper.

    See vosmodels.distillation.
    """

    section = "loss"
    added = frozenset({"ce", "poly", "jaccard", "inter", "intra", "relation_tau"}) | {
        *("attention", "attention_pairs", "attention_of", "attention_part"),
        *("attention_loss", "attention_tau", "projectors", "reference", "reference_until"),
    }
    method: CorrelationMethod = "auto"
    omega: Unit = Field(default=0.95, validate_default=True)
    tau: Above0 = 0.1
    sampling: Sampling = "boundary"
    ce: Weight = 1.0  # cross-entropy with the labels; 0: labels after the first frame are not read
    poly: Weight = 1.0  # epsilon of poly cross-entropy; 0: cross-entropy
    logit: Weight = 1.0
    representation: Weight = 1.0
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
        return self.needs_pixels or self.inter > 0 or self.intra > 0 or self.attention > 0

    @property
    def needs_pixels(self) -> bool:
        """True where a term compares chosen pixels (`sampling`), not all of them."""
        return self.logit > 0 or self.representation > 0

    @property
    def needs_features(self) -> bool:
        """True where a term compares z, which a model may not have."""
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
    # auto: bfloat16 on a GPU, off on a CPU
    amp: Literal["auto", "off", "bfloat16", "float16"] = "auto"
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


class SoupConfig(Section):
    """The soup that ends a sweep; min_delta: least gain in J&F of an ingredient."""

    section = "soup"
    after_sweep: bool = True
    min_delta: Weight = 0.0


class ClusterConfig(Section):
    """Resources of the trials; of these only `threads` changes what is learnt."""

    section = "cluster"
    address: str | None = None
    workers: Processes = 1
    gpus_per_worker: Annotated[float, Number, Field(ge=0, le=1024)] = 0.0
    threads: Processes | None = None
    loaders: Loaders | None = None  # data loader processes per worker; null: none on a CPU
    lockstep: Positive = 1
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

    @field_validator("loss")
    @classmethod
    def _terms_fit_the_models(cls, value: LossConfig, info: ValidationInfo) -> LossConfig:
        if not (value.ce or value.dice or value.needs_teacher):
            weights = ("ce", "dice", "logit", "representation", "inter", "intra", "attention")
            raise errors.broken_rule(
                f"every weight is 0 ({', '.join(weights)}); raise one of them",
                prefix="",
                keys=[f"loss.{key}" for key in weights],
            )
        both = cls._models(info, "student", "teacher")
        models.check_features(value.representation, both)
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
        drawn = data and data.generated and isinstance(data.train, str) and data.static is None
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
        if data.generated and isinstance(data.train, str) and data.labels != "truth":
            raise errors.broken_rule(
                f"labels {data.labels}: generated clips are drawn with their labels; give "
                "data.root a folder, or leave data.labels out",
                prefix="",
                keys=("data.labels",),
            )
        loss = info.data.get("loss")
        taught = loss is not None and loss.needs_teacher
        lists = [data.train] if value is None else [s.data for s in value if s.name != "static"]
        for sources in lists:
            labels = data.labels_of(data.train if sources is None else sources)
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
    def storage_root(self) -> Path:
        """Absolute path of the folder of ledger, checkpoints and the default MLflow store."""
        return paths.absolute(self.storage or STORAGE)


class SweepSection(Section):
    """Keys that vary, and how often every trial is repeated.

    parameters: dotted key -> values, combined as a grid; points: name -> keys that vary together,
    the first point being the baseline of the others; seeds: repeats of every trial.
    """

    section = "sweep"
    parameters: dict[str, Any] = Field(default_factory=dict)
    points: dict[str, dict[str, Any]] = Field(default_factory=dict)
    search: Literal["grid"] = "grid"
    scheduler: Literal["fifo"] = "fifo"
    seeds: Repeats = 1

    @property
    def keys(self) -> set[str]:
        """All keys that vary."""
        return {*self.parameters, *(key for point in self.points.values() for key in point)}


class SweepConfig(RunConfig):
    """Configuration of a sweep: a run and the keys that vary."""

    sweep: SweepSection


Config = TypeVar("Config", bound=RunConfig)
