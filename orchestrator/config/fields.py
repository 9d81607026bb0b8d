"""Define the base class and the number types that all sections of the YAML share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from orchestrator.config.errors import broken_rule
from vosmodels.errors import UsageError
from vosmodels.support.paths import expanded


def _no_bool(value: object) -> object:
    """Refuse booleans, which pydantic would read as 0 and 1 (`steps: true`)."""
    if isinstance(value, bool):
        raise broken_rule("must be a number")
    return value


Number = BeforeValidator(_no_bool)
# Upper bounds lie far above any use; a slip of the keyboard is named here, before it costs time.
# What a machine has room for is checked by planning/memory_need.py.
MOST = 10**9
Count = Annotated[int, Number, Field(ge=0, le=MOST)]
Positive = Annotated[int, Number, Field(ge=1, le=MOST)]
Seed = Annotated[int, Number, Field(ge=0, le=2**63 - 1)]
Rows = Annotated[int, Number, Field(ge=16, le=16384)]  # height of a frame for the network
Height = Annotated[int, Number, Field(ge=1, le=16384)]  # px
Objects = Annotated[int, Number, Field(ge=1, le=255)]  # ids of a mask have eight bits
BatchSize = Annotated[int, Number, Field(ge=1, le=65536)]  # clips
Processes = Annotated[int, Number, Field(ge=1, le=4096)]  # or threads
Loaders = Annotated[int, Number, Field(ge=0, le=1024)]
Repeats = Annotated[int, Number, Field(ge=1, le=1000)]
Weight = Annotated[float, Number, Field(ge=0)]
Above0 = Annotated[float, Number, Field(gt=0)]
Unit = Annotated[float, Number, Field(ge=0, le=1)]
ClipLength = Annotated[int, Number, Field(ge=2, le=1024)]  # frames


def _side(value: int) -> int:
    """Refuse a side that no model takes; `models.check_crop` checks the run's models."""
    if value % CROP_MULTIPLE > 1:
        raise broken_rule("must be a multiple of 16, or one more than that")
    return value


def _layer(value: int) -> int:
    """Refuse layer 0: layers count from 1, or from the end."""
    if value == 0:
        raise broken_rule("layers count from 1, or from the end: -1 is the last")
    return value


Layer = Annotated[int, Number, Field(ge=-64, le=64), AfterValidator(_layer)]
CROP_MULTIPLE = 16
Crop = Annotated[  # px
    int, Number, Field(ge=16, le=8193), AfterValidator(_side), "a multiple of 16, or one more"
]
Name = Annotated[str, Field(min_length=1)]


def _list_of_names(value: object) -> object:
    if isinstance(value, str):
        raise broken_rule(f'must be a list, such as ["{value}"]')
    return value


Names = Annotated[tuple[Name, ...], BeforeValidator(_list_of_names)]


def _place(value: str) -> str:
    """Refuse a URI, and a path that begins with `~NAME` where no such user has a home folder."""
    if "://" in value and value.partition("://")[0].isalnum():
        raise broken_rule("is a URI; give a path on this machine")
    try:
        expanded(value)
    except UsageError as error:
        raise broken_rule(str(error), prefix="") from None
    return value


Place = Annotated[Name, AfterValidator(_place)]  # a path, kept as written: `expanded` when used


def _store(value: str) -> str:
    """Refuse a URL without a name after its protocol, and a path as `_place` does."""
    protocol, found, name = value.partition("://")
    if not found:
        return _place(value)
    if not (protocol.isalnum() and name.strip("/")):
        raise broken_rule("is no URL; give a shared path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    return value.rstrip("/")


Store = Annotated[Name, AfterValidator(_store)]  # a URL for fsspec, or a path

# Values that the schema names and the code lacks: (section, key) -> (predicate, description).
NOT_BUILT: Mapping[tuple[str, str], tuple[Callable[[Any], bool], str]] = {
    ("train", "keep"): (lambda v: v in ("last", "soup"), "keeping fewer than all checkpoints"),
}


_UNUSABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of a character


class Section(BaseModel):
    """Base of every section: frozen, refuses unknown keys and features not built yet."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    section: ClassVar[str] = ""
    # Keys newer than the first content keys; a content key leaves them out at their default.
    added: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, str) and (odd := _UNUSABLE.search(value)):
            raise broken_rule(f"holds {odd[0]!r}, which no file name and no page can")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _is_built(cls, value: Any, info: ValidationInfo) -> Any:
        matches, what = NOT_BUILT.get((cls.section, str(info.field_name)), (None, ""))
        if matches is not None and matches(value):
            raise broken_rule(f"{what} is not built yet")
        return value
