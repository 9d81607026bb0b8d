"""Make a soup again from the checkpoints that its record names, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from soups import recalibration
from soups.average import average_of
from soups.recipe import info_of
from soups.records import SoupRecord
from soups.scoring import Weights
from vosmodels import checkpoint
from vosmodels.errors import InputError
from vosmodels.support.digests import sha256_of

Load = Callable[[], Weights]


@dataclass(frozen=True)
class Replayed:
    """A soup that was made again. there: whether its sound file lay in storage before."""

    path: Path
    sha256: str
    ingredients: tuple[str, ...]
    there: bool


def replay(record: SoupRecord) -> Replayed:
    """Average the ingredients of a record again, and put the file where the soup's belongs.

    BatchNorm statistics that were recalibrated are those that were kept: they depend on training
    clips and threads.

    The file is written only if its sha256 is the recorded one, so it is the soup, bit for bit, or
    nothing; a lost or corrupt file of the soup is replaced. Raises InputError where ingredients or
    the statistics are gone, naming all, and where the mean of the ingredients is not the soup.
    """
    members, file = record.members, record.file
    names = [member.name for member in members]
    loads, statistics = _sources(record)
    info = info_of(
        record.config.student, ancestor=file.ancestor, step=file.step, scores=file.scores
    )
    weights = average_of(loads, names) | statistics
    place = record.storage.checkpoint(file.sha256)
    there = place.is_file() and sha256_of(place) == file.sha256
    with tempfile.TemporaryDirectory() as folder:
        made = checkpoint.write(Path(folder), weights, info)[1]
    if made != file.sha256:
        raise InputError(
            f"{record.job.path}: the mean of {len(members)} ingredients has sha256 {made}, but the "
            f"soup's is {file.sha256}: it was made by another version of this project, or the "
            "record was changed; nothing is written"
        )
    path, _ = checkpoint.write(record.storage.checkpoints, weights, info)
    record.storage.mirror.push([path])
    return Replayed(path, made, tuple(names), there)


def _sources(record: SoupRecord) -> tuple[list[Load], dict[str, Tensor]]:
    """Return what reads the ingredients, and the statistics that were kept, empty without any.

    Raises one InputError that names all that is gone.
    """
    gone, loads, statistics = [], list[Load](), dict[str, Tensor]()
    try:
        loads = record.loads(record.members)
    except InputError as error:
        gone.append(str(error))
    try:
        if record.souped.statistics:
            statistics = recalibration.kept(record.storage, record.souped.statistics)
    except InputError as error:
        gone.append(str(error))
    if gone:
        raise InputError("; ".join(gone))
    return loads, statistics
