"""Read a YouTube-VOS split's meta.json: videos, objects, and each object's frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from vosmodels.data.listing import natural_key
from vosmodels.errors import InputError
from vosmodels.support.messages import together

META = "meta.json"


@dataclass(frozen=True)
class VideoMeta:
    """A video's entry in meta.json, by object id.

    frames: stems of the frames listed for the object, ascending; categories: the object's category,
    if meta.json has one.
    """

    frames: Mapping[int, tuple[str, ...]]
    categories: Mapping[int, str] = field(default_factory=dict)

    @property
    def begins(self) -> dict[int, str]:
        """Return, by object id, the stem of the frame whose mask gives the object."""
        return {i: stems[0] for i, stems in self.frames.items()}

    @property
    def start(self) -> str:
        """Return the stem of the video's first frame; earlier files are ignored."""
        return min(self.begins.values(), key=natural_key)

    @property
    def asked(self) -> tuple[str, ...]:
        """Return the stems of all frames listed for an object, ascending."""
        stems = {stem for stems in self.frames.values() for stem in stems}
        return tuple(sorted(stems, key=natural_key))

    def judged(self, labelled: Collection[str]) -> tuple[str, ...]:
        """Return the stems of the frames that scores are computed on, ascending.

        These are the listed frames if all of them have a mask (`labelled`), else none: the masks
        of valid and test only give the objects.
        """
        return self.asked if set(self.asked) <= set(labelled) else ()


class _Object(BaseModel):
    frames: Annotated[list[str], Field(min_length=1)]
    category: str | None = None


class _Video(BaseModel):
    objects: Annotated[dict[Annotated[int, Field(ge=1, le=254)], _Object], Field(min_length=1)]


class _Meta(BaseModel):
    videos: Annotated[dict[str, _Video], Field(min_length=1)]


def read_meta(path: Path) -> dict[str, VideoMeta]:
    """Read the videos of a meta.json, by name.

    Raises InputError if the file is missing, is not JSON or does not have YouTube-VOS's form.
    """
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
            ".".join(map(str, entry["loc"])) + (": " if entry["loc"] else "") + entry["msg"]
            for entry in error.errors()
        ]
        raise InputError(
            together(f"{path}: not the meta.json of YouTube-VOS", problems)
            + '; wanted {"videos": {NAME: {"objects": {"1": {"frames": ["00000", ...]}}}}}'
        ) from error
    return {
        name: VideoMeta(
            {i: tuple(sorted(entry.frames, key=natural_key)) for i, entry in video.objects.items()},
            {i: entry.category for i, entry in video.objects.items() if entry.category is not None},
        )
        for name, video in videos.items()
    }
