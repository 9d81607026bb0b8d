"""Define the section of the data: where clips come from, and what is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from orchestrator.config import errors
from orchestrator.config.fields import (
    Height,
    Names,
    Number,
    Objects,
    Place,
    Positive,
    Rows,
    Section,
)
from orchestrator.config.stages import Images, Videos
from vosmodels.data import split_file
from vosmodels.memory_rule import RuleText
from vosmodels.types import Labels

SCENES = ("scene_objects", "scene_scale")
PROTOCOL = ("select", "select_height", "select_stride", "report", "report_height")
GENERATED_SPLITS = ("train", "val", "test")


class DataConfig(Section):
    """Source of the clips. `select` chooses, `report` is scored once.

    A split is a name, or a FILE.txt with the name of a video on every line (DAVIS folders).
    """

    section = "data"
    added = frozenset(
        {"leave_out", "labels", "composites", "select_root", "memory", "labelled", *SCENES}
    )
    root: Place = "generated"
    layout: Literal["auto", "davis", "youtubevos", "generated"] = "auto"
    year: Literal["auto", 2016, 2017] = "auto"
    train: Place | Videos = "train"
    # teacher, none: of a video of `train` only the masks that give its objects are read
    labels: Labels = "truth"
    labelled: Positive | None = None  # generated clips that have true labels; null: all
    select_root: Place | None = None  # folder of `select`; null: root
    select: Place = "val"
    report: Place | None = None
    static: Images | None = None
    select_height: Height = 240  # px
    select_stride: Positive = 2  # frames
    report_height: Rows | None = None  # rows the network sees; scores are at full size
    # rule by which the student remembers frames, in training, scoring and its checkpoints:
    # first,last[,KxE]; null: student.options, or else the model's own
    memory: RuleText | None = None
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

    @field_validator("labelled")
    @classmethod
    def _counted_clips_are_generated(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not cls.draws(info.data.get("root"), info.data.get("layout")):
            raise errors.broken_rule(
                "counts generated clips; with a folder set data.labelled=null data.labels=truth "
                "teacher.labelled=null, or say of each folder of data.train what labels it has",
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

    @property
    def drawn(self) -> bool:
        """True where training clips are generated, not cut from videos."""
        return self.generated and isinstance(self.train, str)

    @staticmethod
    def draws(root: str | None, layout: str | None) -> bool:
        """Return whether a root and a layout mean generated clips."""
        return layout == "generated" or (layout == "auto" and root == "generated")
