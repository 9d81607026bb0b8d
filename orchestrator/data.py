"""The clips and sequences that a configuration names."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from orchestrator.config import DataConfig, TrainConfig
from vosmodels.data import generated
from vosmodels.data.clips import SequenceClips, VideoSource
from vosmodels.data.davis import DavisDataset
from vosmodels.data.youtubevos import LABEL_GAP, YouTubeVosDataset
from vosmodels.types import ClipSource, InputError, ScoredVideo


def training_clips(data: DataConfig, train: TrainConfig, seed: int) -> ClipSource:
    """Clips of `data.train`, each a function of (seed, sample index)."""
    if data.generated:
        return generated.GeneratedClips(
            seed=seed,
            clip_length=train.clip_length,
            crop=train.crop,
            max_objects=data.max_objects,
        )
    return SequenceClips(
        [_training_videos(data)],
        clip_length=train.clip_length,
        crop=train.crop,
        seed=seed,
        max_objects=data.max_objects,
    )


def sequences(data: DataConfig, split: str) -> Sequence[ScoredVideo]:
    """The videos of a split. InputError where there is no such split."""
    if data.generated:
        return generated.sequences(_generated_split(split))
    return _folder(data).sequences(split)


def scored_sequences(data: DataConfig, split: str) -> Sequence[ScoredVideo]:
    """As `sequences`, of a split that has anything to score; InputError otherwise."""
    videos = sequences(data, split)
    if any(max(video.judged, default=0) > 0 for video in videos):
        return videos
    raise InputError(
        f"{data.root}: split {split!r} has nothing to score, as its masks only give the objects; "
        "take a split whose frames are labelled"
    )


def fingerprint(data: DataConfig, split: str) -> str:
    """Changes when the split's content does; part of the key of whatever it shaped."""
    if not data.generated:
        return _folder(data).fingerprint(split)
    return _drawn(_generated_split(split))


@functools.cache
def _drawn(split: generated.Split) -> str:
    """What is drawn, not a version number that someone must remember to raise."""
    video = generated.sequences(split)[0]
    content = hashlib.sha256()
    for index in (0, len(video) - 1):
        content.update(video.frame(index).tobytes())
        content.update(video.mask(index).tobytes())
    return content.hexdigest()[:16]


def _generated_split(split: str) -> generated.Split:
    for known in get_args(generated.Split):
        if split == known:
            return cast(generated.Split, known)
    raise InputError(
        f"data.root generated: no split {split!r}; it has {', '.join(get_args(generated.Split))}"
    )


def _training_videos(data: DataConfig) -> VideoSource:
    """Videos with a mask for every frame."""
    assert isinstance(data.train, str)  # lists are refused by the configuration
    folder = _folder(data)
    if isinstance(folder, DavisDataset):
        return VideoSource(folder.sequences(data.train))
    videos = [video.labelled_only() for video in folder.sequences(data.train)]
    return VideoSource(videos, label_gap=LABEL_GAP)


def _folder(data: DataConfig) -> DavisDataset | YouTubeVosDataset:
    root = Path(data.root).expanduser()
    auto = data.layout == "auto" and YouTubeVosDataset.recognises(root)
    if auto or data.layout == "youtubevos":
        return _open_youtubevos(root)
    return _open_davis(root, data.year)


# One reading of a folder per process: it is asked for by every job of a plan.
@functools.cache
def _open_davis(root: Path, year: Literal["auto", 2016, 2017]) -> DavisDataset:
    return DavisDataset(root, year)


@functools.cache
def _open_youtubevos(root: Path) -> YouTubeVosDataset:
    return YouTubeVosDataset(root)
