"""Match the masks of a folder with the annotated frames that a benchmark scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from vosmodels.data import held_out, split_file
from vosmodels.data.davis import DavisDataset, Year
from vosmodels.data.images import image_size
from vosmodels.data.listing import folders_in, listing, masks_in, pictures
from vosmodels.data.masks import object_ids, read_mask
from vosmodels.data.scorable import MIN_FRAMES
from vosmodels.data.youtubevos import YouTubeVosDataset
from vosmodels.data.youtubevos_meta import META, VideoMeta, read_meta
from vosmodels.errors import InputError
from vosmodels.support.messages import near
from vosmodels.support.paths import expanded

logger = logging.getLogger(__name__)

ON_SERVER = "masks that only give the objects cannot be scored here, only by the benchmark's server"
YEARS: tuple[Year, ...] = (2017, 2016)
_NAMED = 5  # names that a line lists


@dataclass(frozen=True)
class AnnotatedVideo:
    """The annotated masks of a video that are scored.

    masks: all of its masks by stem, in the order of their numbers; judged: the places in that order
    of the masks that are scored, and their stems; begins: by object id, the place of the mask that
    gives the object, which is scored on later masks alone; answers: the masks to score, by stem;
    grows: an id that a judged mask shows first is an object that begins there; merge: all ids are
    one object; unlabelled: stems of frames that need no annotation; unseen: as in `ScoredVideo`.
    """

    name: str
    masks: Mapping[str, Path]
    judged: Mapping[int, str]
    begins: Mapping[int, int]
    answers: Mapping[str, Path] = field(default_factory=dict)
    grows: bool = False
    merge: bool = False
    unlabelled: frozenset[str] = frozenset()
    unseen: frozenset[int] | None = None


def answered(masks: Path) -> list[str]:
    """Return the names of the videos that a folder of masks has a folder for, ascending.

    Raises InputError if there is none.
    """
    names = folders_in(masks)
    if names:
        return names
    flat = " (the PNG there belong into a folder named as their video)" if masks_in(masks) else ""
    raise InputError(f"{masks}: no folder with a folder of PNG masks for each video{flat}")


def asked(annotations: Path, answers: Sequence[str], split: str | None) -> list[str]:
    """Return the names of the annotated videos that are to be scored, ascending.

    split: the name of a split of the dataset that `annotations` belongs to, or a FILE.txt of
    names. None: the listed split whose videos are those of `answers`, or else all annotated videos,
    so that a video without masks is missed.
    Raises InputError if there is no video, or no such split.
    """
    names = folders_in(annotations)
    if not any(masks_in(annotations / name) for name in names):
        raise InputError(
            f"{annotations}: no folder with PNG masks in it; it has {listing(annotations)}; "
            "give the folder that holds that of each video, such as DAVIS/Annotations/480p"
        )
    if split is None:
        return _split_of(set(answers) & set(names), annotations) or names
    if split_file.is_file(split):
        return sorted(split_file.read(expanded(split), names, annotations))
    lists_by_name = _lists(annotations)
    if split not in lists_by_name:
        there = ", ".join(sorted(lists_by_name)) or "none"
        raise InputError(
            f"{annotations}: its dataset has no split {split!r}; there are: {there}"
            f"{near(split, lists_by_name)}; a FILE.txt of video names is a split too"
        )
    return sorted(lists_by_name[split][0])


def matched(
    masks: Path, annotations: Path, names: Sequence[str], *, merge: bool
) -> tuple[list[AnnotatedVideo], list[str]]:
    """Match masks with the named videos' annotations, by the stems of the files.

    Returns the videos whose masks can be scored, and the problems of all others, a line each; a
    folder of masks that belongs to no annotated video is a problem too. Looks at listings, headers
    and first masks. YouTube-VOS's rules apply if a meta.json lies beside `annotations` and ids are
    not merged. Else DAVIS's rules apply: the first and the last frame are not scored, so that no
    mask is needed there.
    """
    beside = annotations.parent / META
    metas = read_meta(beside) if beside.is_file() and not merge else None
    known, answers = set(folders_in(annotations)), answered(masks)
    problems = [
        f"{masks / name}: belongs to no annotated video of {annotations}{near(name, known)}"
        for name in answers
        if name not in known
    ]
    missing = [name for name in names if name not in answers]
    if missing:
        problems.append(
            f"no masks of {len(missing)} of {len(names)} annotated videos ({_some(missing)}); "
            "make them, or name the videos that are wanted with --split"
        )
    videos = []
    for name in names:
        if name in missing:
            continue
        try:
            if metas is None:
                video = _of_davis(annotations / name, merge)
            elif name in metas:
                video = _of_youtubevos(annotations / name, metas[name])
            else:
                raise InputError(f"{annotations / name}: {beside} names no such video")
            video = replace(video, answers=masks_in(masks / name))
            of_video = list(_mismatches(masks / name, video))
        except InputError as error:
            of_video = [str(error)]
        problems += of_video
        videos += [] if of_video else [video]
    return videos, problems


def _split_of(names: set[str], annotations: Path) -> list[str]:
    """Return the names, ascending, if they are those of a list of the dataset, else nothing.

    The parts of train have no list and may be a single video, so they must be asked for.
    """
    for split, of_years in _lists(annotations).items():
        if names in of_years and split not in (held_out.TRAIN, held_out.VAL):
            logger.info("%s: these are the videos of split %r", annotations, split)
            return sorted(names)
    return []


def _lists(annotations: Path) -> dict[str, list[set[str]]]:
    """Return the videos of each split of the dataset that the annotations belong to, if any.

    A split has two lists where a DAVIS folder holds those of 2017 and of 2016.
    """
    lists: dict[str, list[set[str]]] = {}
    for splits, videos in _datasets(annotations):
        for split in splits:
            try:
                lists.setdefault(split, []).append(set(videos(split)))
            except InputError:  # an empty list, or objects without a category
                continue
    return lists


def _datasets(annotations: Path) -> Iterator[tuple[Sequence[str], Callable[[str], Iterable[str]]]]:
    """Yield the splits of each dataset that the annotations belong to, and what names a split's.

    A folder of annotations may lie alone; then there is none.
    """
    if (annotations.parent / META).is_file():
        with suppress(InputError):
            own = YouTubeVosDataset(annotations.parent)
            yield own.splits(), own.videos
        return
    absolute = annotations.absolute()
    for folder in (absolute, absolute.parent):
        if folder.name == "Annotations" and (folder.parent / "ImageSets").is_dir():
            for year in YEARS:
                with suppress(InputError):
                    davis = DavisDataset(folder.parent, year)
                    yield davis.splits(), davis.names


def _mismatches(folder: Path, video: AnnotatedVideo) -> Iterator[str]:
    """Yield what keeps the answers in a folder from being scored as the video's, a line each."""
    answers = video.answers
    missing = [f"{stem}.png" for stem in video.judged.values() if stem not in answers]
    frames = video.masks.keys() | video.unlabelled
    extra = [path.name for stem, path in answers.items() if stem not in frames]
    if missing:
        count = f"{len(missing)} of {len(video.judged)} scored frames"
        yield f"{folder}: no mask of {count} ({_some(missing)})"
    if extra:
        yield f"{folder}: {len(extra)} of {len(answers)} masks belong to no frame ({_some(extra)})"
    if (missing or extra) and answers:
        first, annotated = next(iter(answers)), next(iter(video.masks))
        if first != annotated:
            yield (
                f"{folder}: masks start at {first}, annotations at {annotated}: "
                "are they numbered otherwise?"
            )
    odd = [
        problem
        for stem in video.judged.values()
        if stem in answers and (problem := _size_problem(answers[stem], video.masks[stem]))
    ]
    if odd:
        yield odd[0] + (f" (and {len(odd) - 1} more masks there)" if len(odd) > 1 else "")


def _size_problem(mask: Path, annotation: Path) -> str | None:
    """Compare the sizes of a mask and its annotation from their headers."""
    try:
        size, wanted = image_size(mask), image_size(annotation)
    except InputError as error:
        return str(error)
    if size == wanted:
        return None
    return (
        f"{mask}: {size[1]}x{size[0]} pixels, its annotation has {wanted[1]}x{wanted[0]}; "
        "save it at that size"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _of_davis(folder: Path, merge: bool) -> AnnotatedVideo:
    masks = masks_in(folder)
    paths = list(masks.values())
    if len(paths) < MIN_FRAMES:
        why = f"; {ON_SERVER}" if len(paths) == 1 else ""
        raise InputError(f"{folder}: {len(paths)} PNG, wanted at least {MIN_FRAMES}{why}")
    ids = object_ids(read_mask(paths[0], merge=merge))
    if not ids:
        raise InputError(f"{paths[0]}: no object in the first mask, so nothing to score")
    judged = dict(list(enumerate(masks))[1:-1])
    begins = dict.fromkeys(ids, 0)
    return AnnotatedVideo(folder.name, masks, judged, begins, grows=not merge, merge=merge)


def _of_youtubevos(folder: Path, meta: VideoMeta) -> AnnotatedVideo:
    masks = masks_in(folder)
    places = {stem: place for place, stem in enumerate(masks)}
    judged = {places[stem]: stem for stem in meta.judged(list(masks)) if stem > meta.start}
    if not judged:
        raise InputError(
            f"{folder}: {len(masks)} PNG for {len(meta.asked)} frames that {META} lists; "
            f"{ON_SERVER}"
        )
    begins = {i: places[stem] for i, stem in meta.begins.items()}
    images = folder.parent.with_name("JPEGImages") / folder.name
    return AnnotatedVideo(
        folder.name,
        masks,
        judged,
        begins,
        unlabelled=frozenset(pictures(images)) if images.is_dir() else frozenset(),
        unseen=held_out.unseen(folder.name, meta.categories),
    )
