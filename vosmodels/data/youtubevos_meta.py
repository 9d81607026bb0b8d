"""The meta.json of a YouTube-VOS split: its videos, their objects, the frames listed for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from vosmodels.data.listing import together
from vosmodels.errors import InputError

META = "meta.json"


@dataclass(frozen=True)
class VideoMeta:
    """What meta.json says of a video: for each object the frames listed, file stems ascending, and
    its category, where there is one."""

    frames: Mapping[int, tuple[str, ...]]
    categories: Mapping[int, str] = field(default_factory=dict)

    @property
    def begins(self) -> dict[int, str]:
        """The frame whose mask gives the object, by id."""
        return {i: stems[0] for i, stems in self.frames.items()}

    @property
    def start(self) -> str:
        """Where the video begins: frames before it do not exist."""
        return min(self.begins.values())

    @property
    def asked(self) -> tuple[str, ...]:
        """Frames listed for any object, ascending."""
        return tuple(sorted({stem for stems in self.frames.values() for stem in stems}))

    def judged(self, labelled: Collection[str]) -> tuple[str, ...]:
        """Frames asked for, where all of them are labelled; none where masks only give objects."""
        return self.asked if set(self.asked) <= set(labelled) else ()


class _Object(BaseModel):
    frames: Annotated[list[str], Field(min_length=1)]
    category: str | None = None


class _Video(BaseModel):
    objects: Annotated[dict[Annotated[int, Field(ge=1, le=254)], _Object], Field(min_length=1)]


class _Meta(BaseModel):
    videos: Annotated[dict[str, _Video], Field(min_length=1)]


def read_meta(path: Path) -> dict[str, VideoMeta]:
    """Videos of a meta.json by name. InputError where it is missing, not JSON, or says other."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); a split of YouTube-VOS has it beside "
            "JPEGImages and Annotations: unpack it from the split's zip"
        ) from error
    try:
        videos = _Meta.model_validate_json(text).videos
    except ValidationError as error:
        problems = [
            ".".join(str(part) for part in one["loc"]) + (": " if one["loc"] else "") + one["msg"]
            for one in error.errors()
        ]
        raise InputError(
            together(f"{path}: not the meta.json of YouTube-VOS", problems)
            + '; wanted {"videos": {NAME: {"objects": {"1": {"frames": ["00000", ...]}}}}}'
        ) from error
    return {
        name: VideoMeta(
            {i: tuple(sorted(one.frames)) for i, one in video.objects.items()},
            {i: one.category for i, one in video.objects.items() if one.category is not None},
        )
        for name, video in videos.items()
    }
