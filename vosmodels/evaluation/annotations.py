"""List the masks of an annotations folder that a benchmark scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vosmodels.data import held_out
from vosmodels.data.masks import object_ids, read_mask
from vosmodels.data.youtubevos_meta import META, VideoMeta, read_meta
from vosmodels.errors import InputError

MIN_FRAMES = 3  # least frames of a DAVIS video, whose first and last frames are not scored


@dataclass(frozen=True)
class AnnotatedVideo:
    """The annotated masks of a video that are scored.

    judged: paths of the masks that are scored; begins: by object id, the stem of the frame that
    gives the object, which is scored on later masks alone; merge: all ids are one object; unseen:
    as in `ScoredVideo`.
    """

    name: str
    judged: tuple[Path, ...]
    begins: Mapping[int, str]
    merge: bool = False
    unseen: frozenset[int] | None = None


def annotated(
    folder: Path, names: Sequence[str], *, merge: bool
) -> tuple[list[AnnotatedVideo], list[str]]:
    """List the named videos of an annotations folder, and their problems, a line each.

    YouTube-VOS's rules apply if a meta.json lies beside the folder and ids are not merged. Else
    DAVIS's rules apply: objects are those of the first mask, and the first and the last frame are
    not scored.
    """
    beside = folder.parent / META
    metas = read_meta(beside) if beside.is_file() and not merge else None
    videos, problems = [], []
    for name in names:
        try:
            if metas is None:
                videos.append(_of_davis(folder / name, merge))
            elif name in metas:
                videos.append(_of_youtubevos(folder / name, metas[name]))
            else:
                problems.append(f"{folder / name}: {beside} names no such video")
        except InputError as error:
            problems.append(str(error))
    return videos, problems


def _of_davis(folder: Path, merge: bool) -> AnnotatedVideo:
    paths = sorted(folder.glob("*.png"))
    if len(paths) < MIN_FRAMES:
        raise InputError(f"{folder}: {len(paths)} PNG, wanted at least {MIN_FRAMES}")
    ids = object_ids(read_mask(paths[0], merge=merge))
    if not ids:
        raise InputError(f"{paths[0]}: no object in the first mask, so nothing to score")
    return AnnotatedVideo(folder.name, tuple(paths[1:-1]), dict.fromkeys(ids, paths[0].stem), merge)


def _of_youtubevos(folder: Path, meta: VideoMeta) -> AnnotatedVideo:
    paths = {path.stem: path for path in folder.glob("*.png")}
    judged = tuple(paths[stem] for stem in meta.judged(paths) if stem > meta.start)
    if not judged:
        raise InputError(
            f"{folder}: {len(paths)} PNG for {len(meta.asked)} frames that {META} lists; masks "
            "that only give the objects cannot be scored here, only by the benchmark's server"
        )
    unseen = held_out.unseen(folder.name, meta.categories)
    return AnnotatedVideo(folder.name, judged, meta.begins, unseen=unseen)
