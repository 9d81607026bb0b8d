"""The clips and sequences that a configuration names."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from orchestrator.config import DataConfig, TrainConfig
from vosmodels.data import generated
from vosmodels.data.clips import SequenceClips
from vosmodels.data.davis import DavisDataset
from vosmodels.types import ClipSource, InputError, VideoSequence


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
        _davis(data).sequences(_split(data)),
        clip_length=train.clip_length,
        crop=train.crop,
        seed=seed,
        max_objects=data.max_objects,
    )


def sequences(data: DataConfig, split: str) -> Sequence[VideoSequence]:
    """The videos of a split, to be scored. InputError where there is no such split."""
    if data.generated:
        return generated.sequences(_generated_split(split))
    return _davis(data).sequences(split)


def fingerprint(data: DataConfig, split: str) -> str:
    """Changes when the split's content does; part of the key of whatever it shaped."""
    if not data.generated:
        return _davis(data).fingerprint(split)
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


def _davis(data: DataConfig) -> DavisDataset:
    return _open_davis(Path(data.root).expanduser(), data.year)


@functools.cache
def _open_davis(root: Path, year: Literal["auto", 2016, 2017]) -> DavisDataset:
    """One reading of a folder per process: it is asked for by every job of a plan."""
    return DavisDataset(root, year)


def _split(data: DataConfig) -> str:
    assert isinstance(data.train, str)  # lists are refused by the configuration
    return data.train
