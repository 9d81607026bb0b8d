"""Open the training clips and scored sequences that a configuration names."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.config.stages import (
    OVERRIDES,
    STAGE_KEYS,
    ImagesConfig,
    StageConfig,
    VideosConfig,
)
from orchestrator.config.train import TrainConfig
from vosmodels.data import generated
from vosmodels.data.clips import SMALLEST_CROP, SequenceClips, VideoSource, frame_gap
from vosmodels.data.composites import PastedClips, composites
from vosmodels.data.davis import DavisDataset
from vosmodels.data.given import GivenVideo, picture_gap
from vosmodels.data.given import fingerprint as given_fingerprint
from vosmodels.data.mask_folder import MaskFolder
from vosmodels.data.scorable import too_short, unscorable
from vosmodels.data.static_clips import StaticClips
from vosmodels.data.static_images import StaticImages
from vosmodels.data.teacher_masks import TaughtVideo
from vosmodels.data.youtubevos import LABEL_GAP, YouTubeVosDataset
from vosmodels.errors import InputError
from vosmodels.support.messages import together
from vosmodels.support.paths import expanded
from vosmodels.support.seeding import seed_of
from vosmodels.types import ClipSource, Labels, ScoredVideo, VideoSequence

Teach = Callable[["Unlabelled"], TaughtVideo]  # gives a video the masks of a teacher


@dataclass(frozen=True)
class Unlabelled:
    """A training video of which only the masks are read that give its objects.

    key: digest of its content, masks after the given ones left out.
    """

    video: GivenVideo
    key: str


@dataclass(frozen=True)
class Stage:
    """A training stage with its settings and its data, in data.train or data.static."""

    name: Literal["static", "bl30k", "video"]
    train: TrainConfig
    data: DataConfig

    @property
    def labels(self) -> frozenset[Labels]:
        """Return the kinds of labels that the folders have; still images have true ones."""
        if self.name == "static":
            return frozenset({"truth"})
        drawn: frozenset[Labels] = frozenset({"truth"} if self.data.drawn else ())
        return drawn | frozenset(self.data.labels_of(self.data.train))

    def labelled(self, clips: int | Literal["all"] | None = None) -> Stage:
        """Return the stage without the folders that have no true labels, unless all are such.

        clips: of generated clips, how many have labels; None: as many as the stage says.
        """
        if self.data.drawn:
            count = self.data.labelled if clips is None else clips
            own = {"labels": "truth", "labelled": None if count == "all" else count}
            return replace(self, data=self.data.model_copy(update=own))
        if isinstance(self.data.train, str) or "truth" not in self.labels:
            return self
        kinds = self.data.labels_of(self.data.train)
        pairs = zip(self.data.train, kinds, strict=True)
        kept = tuple(source for source, kind in pairs if kind == "truth")
        return replace(self, data=self.data.model_copy(update={"train": kept}))

    def per_folder(self) -> list[Stage]:
        """Split the stage into one stage per folder of its data."""
        key = "static" if self.name == "static" else "train"
        sources = getattr(self.data, key)
        if not isinstance(sources, tuple):
            return [self]
        return [
            replace(self, data=self.data.model_copy(update={key: (source,)})) for source in sources
        ]


def staged(config: RunConfig) -> tuple[Stage, ...]:
    """Return the stages of a run; without `stages`, the one that `train` describes."""
    if config.stages is None:
        return (Stage("video", config.train, config.data),)
    return tuple(_stage(config, stage) for stage in config.stages)


def _stage(config: RunConfig, stage: StageConfig) -> Stage:
    update = {key: getattr(stage, key) for key in STAGE_KEYS}
    own = {key: getattr(stage, key) for key in OVERRIDES}
    update |= {key: value for key, value in own.items() if value is not None}
    train = config.train.model_copy(update=update)
    data = config.data
    if stage.data is not None:
        key = "static" if stage.name == "static" else "train"
        data = data.model_copy(update={key: stage.data})
    return Stage(stage.name, train, data)


def training_clips(
    stage: Stage, seed: int, *, labels: bool = True, teach: Teach | None = None
) -> ClipSource:
    """Open the clips of a stage, each a function of (seed, sample index).

    labels: whether the loss reads masks after a clip's first frame; else a DAVIS folder may hold
    the first mask of a video alone. teach: labels the videos of folders with `labels: teacher`;
    without it their clips have a first mask alone, as those of `labels: none`.
    Raises InputError where the data is missing or broken.
    """
    hosts, share = _clips(stage, seed, labels, teach), stage.train.paste
    if share == 0:
        return hosts
    guests = _clips(stage, seed_of(seed, "pasted"), labels, teach)
    return PastedClips(hosts, guests, share, seed)


def _clips(stage: Stage, seed: int, labels: bool, teach: Teach | None) -> ClipSource:
    """Open the clips of a stage as its data holds them."""
    data, train = stage.data, stage.train
    size = {"clip_length": train.clip_length, "crop": train.crop, "seed": seed}
    if stage.name == "static":
        images = [
            (_open_images(expanded(s.root), data.leave_out), s.repeat) for s in data.static or ()
        ]
        slots = data.max_objects if train.paste else 1
        return StaticClips(images, **size, max_objects=slots, augmentation=train.augmentation)
    if data.drawn:
        return generated.GeneratedClips(
            **size,
            max_objects=data.max_objects,
            scene_objects=data.scene_objects,
            scene_scale=data.scene_scale,
            labelled=data.labelled,
            unlabelled=data.labels != "truth",
        )
    return SequenceClips(
        [
            part
            for source in _sources(data)
            for part in _videos(source, data.leave_out, labels, teach, train.clip_length)
        ],
        **size,
        max_objects=data.max_objects,
        max_skip=_max_skip(stage),
        augmentation=train.augmentation,
        smallest_crop=SMALLEST_CROP[stage.name],
    )


def sequences(data: DataConfig, split: str) -> Sequence[ScoredVideo]:
    """Open the videos of a split, or its composites where data.composites asks for them.

    Raises InputError where the split does not exist, or cannot be composed.
    """
    videos = _split(data, split)
    return composites(videos, data.composites) if data.composites else videos


def _split(data: DataConfig, split: str) -> Sequence[ScoredVideo]:
    if data.generated:
        videos = _generated(split, data.scene_objects, data.scene_scale)
        if left := [video for video in videos if video.name not in data.leave_out]:
            return left
        raise InputError(f"data.root generated: no video of split {split!r} is left to use")
    folder = _folder(_own(data, split), data.leave_out)
    if isinstance(folder, DavisDataset):  # masks may be those of a benchmark's test set
        return folder.sequences(split, labels=None)
    return folder.sequences(split)


def unscorable_videos(data: DataConfig, split: str, stride: int) -> dict[str, list[str]]:
    """Return what keeps videos of a split from being scored at a stride, by name, a line each.

    Judges the files of every video, and reads every mask of those whose files are sound. Of
    generated videos only the length is judged. Raises InputError where the split does not exist, or
    where its generated videos are too short.
    """
    if data.generated:
        short = [line for video in _split(data, split) for line in too_short(video, stride=stride)]
        if short:
            raise InputError(
                f"{short[0]}; all generated videos are as long: lower data.select_stride"
            )
        return {}
    folder = _folder(_own(data, split), data.leave_out)
    if isinstance(folder, DavisDataset):
        problems = folder.problems(split, labels=None)
        videos = folder.open(name for name in folder.names(split) if name not in problems)
        return problems | _unscorable(videos, stride)
    problems = folder.problems(split)
    names = (name for name in folder.videos(split) if name not in problems)
    return problems | _unscorable(folder.open(split, names), stride)


def _unscorable(videos: Sequence[ScoredVideo], stride: int) -> dict[str, list[str]]:
    lines = {video.name: unscorable(video, stride=stride) for video in videos}
    return {name: problems for name, problems in lines.items() if problems}


def check_left_out(config: RunConfig) -> None:
    """Raise InputError for names in data.leave_out that no folder of the run has."""
    data = config.data
    lists = [data.train, data.static, *(stage.data.train for stage in staged(config))]
    check_names(data, [s for entries in lists if isinstance(entries, tuple) for s in entries])


def check_names(data: DataConfig, sources: Sequence[VideosConfig | ImagesConfig] = ()) -> None:
    """Raise InputError for names in data.leave_out that neither its root nor a source has."""
    folders: list[DavisDataset | YouTubeVosDataset | StaticImages] = []
    drawn = set[str]()
    for own in (data, data.of_select):
        if own.generated:
            drawn |= {
                v.name for split in get_args(generated.Split) for v in generated.sequences(split)
            }
        else:
            folders.append(_folder(_own(own, own.select), own.leave_out))
    for source in sources:
        if isinstance(source, VideosConfig):
            folders.append(_folder(source, data.leave_out))
        else:
            folders.append(_open_images(expanded(source.root), data.leave_out))
    named = [name for name in data.leave_out if name not in drawn]
    unknown = [name for name in named if not any(folder.has(name) for folder in folders)]
    if unknown:
        roots = ", ".join(dict.fromkeys(str(folder.root) for folder in folders)) or data.root
        raise InputError(
            f"{', '.join(map(repr, unknown))}, to be left out: no such video or image in {roots}; "
            "name a video by its folder, an image by its file"
        )


def fingerprint(data: DataConfig, split: str) -> str:
    """Digest the content of a split, for the keys of jobs and scores."""
    if not data.generated:
        return _folder(_own(data, split), data.leave_out).fingerprint(split)
    scenes = (data.scene_objects, data.scene_scale)
    as_ever = scenes == (generated.MAX_OBJECTS, 1.0)
    content = _generated_fingerprint(split, *scenes)
    if not as_ever:
        content += f" {scenes[0]} objects, scale {scenes[1]:g}"
    names = {video.name for video in _generated(split, *scenes)}
    return ", ".join([content, *(f"not {name}" for name in data.leave_out if name in names)])


def unlabelled(stage: Stage, labels: Labels) -> list[Unlabelled]:
    """Open the videos of a stage's folders that have labels of one kind, `teacher` or `none`.

    A video in several folders is there once. Raises InputError as `training_clips`.
    """
    if labels not in stage.labels or stage.data.drawn:
        return []
    found = {
        video.key: video
        for source in _sources(stage.data)
        if source.labels == labels
        for video in _given(source, stage.data.leave_out, stage.train.clip_length)
    }
    return list(found.values())


def check_masks(stage: Stage, masks: str) -> None:
    """Raise one InputError that names what a folder of masks lacks as labels of a stage's videos.

    Reads every mask. Does nothing where no folder of the stage has labels of the teacher.
    """
    videos = [each.video for each in unlabelled(stage, "teacher")]
    folder = MaskFolder(expanded(masks))
    if problems := folder.problems(videos) if videos else {}:
        lines = [line for of_video in problems.values() for line in of_video]
        raise InputError(
            together(f"{folder.root}: no labels of {len(problems)} of {len(videos)} videos", lines)
            + "; put a mask of each frame there, or leave the videos out: data.leave_out"
        )


def clips_fingerprint(stage: Stage) -> str | list[list[str | int]]:
    """Digest the training data of a stage, with the repeats of each folder.

    Of a folder without true labels, the masks count that give objects, and no others.
    """
    data = stage.data
    if stage.name == "static":
        return [
            [_open_images(expanded(s.root), data.leave_out).fingerprint(), s.repeat]
            for s in data.static or ()
        ]
    if data.drawn:
        assert isinstance(data.train, str)
        few = "" if data.labelled is None else f", {data.labelled} labelled"
        rest = "" if data.labels == "truth" else f", others {data.labels}"
        return fingerprint(data, data.train) + few + rest
    if isinstance(data.train, str) and data.labels == "truth":
        return fingerprint(data, data.train)
    return [[*_source_fingerprint(s, data.leave_out), s.repeat] for s in _sources(data)]


def _source_fingerprint(source: VideosConfig, leave_out: tuple[str, ...]) -> list[str | int]:
    if source.labels == "truth":
        return [_folder(source, leave_out).fingerprint(source.split)]
    return ["given masks", *(video.key for video in _given(source, leave_out, 1))]


def _generated(split: str, objects: int, scale: float) -> list[generated.GeneratedSequence]:
    return generated.sequences(_generated_split(split), objects=objects, scale=scale)


@functools.cache
def _generated_fingerprint(split: str, objects: int, scale: float) -> str:
    """Digest generated frames, so that no version number has to be raised by hand."""
    video = _generated(split, objects, scale)[0]
    content = hashlib.sha256()
    for index in (0, len(video) - 1):
        content.update(video.frame(index).tobytes())
        content.update(video.mask(index).tobytes())
    return content.hexdigest()[:16]


def _generated_split(split: str) -> generated.Split:
    for name in get_args(generated.Split):
        if split == name:
            return cast(generated.Split, name)
    raise InputError(
        f"data.root generated: no split {split!r}; it has {', '.join(get_args(generated.Split))}"
    )


def _sources(data: DataConfig) -> tuple[VideosConfig, ...]:
    """List the folders that a run learns videos from, each with its labels."""
    sources = (_own(data, data.train),) if isinstance(data.train, str) else data.train
    kinds = data.labels_of(data.train)
    return tuple(
        source.model_copy(update={"labels": kind})
        for source, kind in zip(sources, kinds, strict=True)
    )


def _own(data: DataConfig, split: str) -> VideosConfig:
    """Describe a split of the run's own root."""
    layout = "auto" if data.layout == "generated" else data.layout
    return VideosConfig(root=data.root, layout=layout, year=data.year, split=split)


def _videos(
    source: VideosConfig,
    leave_out: tuple[str, ...],
    labels: bool,
    teach: Teach | None,
    shortest: int,
) -> list[VideoSource]:
    """Open the videos of a source, with labelled frames only where `labels` are read.

    shortest: least number of frames.
    """
    folder = _folder(source, leave_out)
    if source.labels != "truth":
        return _unlabelled_sources(
            _given(source, leave_out, shortest),
            source.repeat,
            teach if labels and source.labels == "teacher" else None,
        )
    if isinstance(folder, DavisDataset):
        sequences = folder.sequences(source.split, labels=labels, shortest=shortest)
        first_only = frozenset(video.name for video in sequences if not video.labelled)
        return [VideoSource(sequences, source.repeat, first_masks_only=first_only)]
    videos = [v.labelled_only() for v in folder.sequences(source.split, shortest=shortest)]
    return [VideoSource(videos, source.repeat, label_gap=LABEL_GAP)]


def _unlabelled_sources(
    videos: Sequence[Unlabelled], repeat: int, teach: Teach | None
) -> list[VideoSource]:
    """Group videos by the gap between their pictures, with the labels of a teacher if any."""
    by_gap: dict[int, list[VideoSequence]] = {}
    for each in videos:
        video = teach(each) if teach else each.video
        by_gap.setdefault(picture_gap(each.video), []).append(video)
    first_only = frozenset() if teach else frozenset(each.video.name for each in videos)
    return [
        VideoSource(group, repeat, label_gap=gap, first_masks_only=first_only)
        for gap, group in by_gap.items()
    ]


@functools.cache  # every job of a plan asks for them several times
def _given(
    source: VideosConfig, leave_out: tuple[str, ...], shortest: int
) -> tuple[Unlabelled, ...]:
    """Open the videos of a source with the masks alone that give their objects."""
    folder = _folder(source, leave_out)
    videos: Sequence[GivenVideo] = folder.given(source.split, shortest=shortest)
    return tuple(Unlabelled(video, given_fingerprint(video, folder.layout)) for video in videos)


def _max_skip(stage: Stage) -> int | Callable[[int], int]:
    """Return the widest gap between two frames, in frames.

    A curriculum is a function of the sample index.
    """
    train, name = stage.train, stage.name
    if train.max_skip != "curriculum":
        return train.max_skip
    assert name != "static"  # still images have no gaps
    samples = max(1, train.steps * train.batch_size)
    return functools.partial(_gap_of, samples=samples, stage=name)


def _gap_of(index: int, *, samples: int, stage: Literal["bl30k", "video"]) -> int:
    """Compute the widest gap of a sample; at module level, since loaders pickle it."""
    return frame_gap(min(1.0, index / samples), stage)


def _folder(source: VideosConfig, leave_out: tuple[str, ...]) -> DavisDataset | YouTubeVosDataset:
    root = expanded(source.root)
    auto = source.layout == "auto" and YouTubeVosDataset.recognises(root)
    if auto or source.layout == "youtubevos":
        return _open_youtubevos(root, leave_out)
    return _open_davis(root, source.year, leave_out)


# A process reads a folder once, although every job of a plan opens it.
@functools.cache
def _open_davis(
    root: Path, year: Literal["auto", 2016, 2017], leave_out: tuple[str, ...]
) -> DavisDataset:
    return DavisDataset(root, year, leave_out)


@functools.cache
def _open_youtubevos(root: Path, leave_out: tuple[str, ...]) -> YouTubeVosDataset:
    return YouTubeVosDataset(root, leave_out)


@functools.cache
def _open_images(root: Path, leave_out: tuple[str, ...]) -> StaticImages:
    return StaticImages(root, leave_out)
