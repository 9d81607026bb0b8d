"""Make a soup again from the checkpoints that its record names, bit for bit."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from soups.average import average_of
from soups.recipe import info_of
from soups.records import SoupRecord
from vosmodels import checkpoint
from vosmodels.errors import InputError
from vosmodels.support.digests import sha256_of


@dataclass(frozen=True)
class Replayed:
    """A soup that was made again. there: whether its sound file lay in storage before."""

    path: Path
    sha256: str
    ingredients: tuple[str, ...]
    there: bool


def replay(record: SoupRecord) -> Replayed:
    """Average the ingredients of a record again, and put the file where the soup's belongs.

    The file is written only if its sha256 is the recorded one, so it is the soup, bit for bit, or
    nothing; a lost or corrupt file of the soup is replaced. Raises InputError where an ingredient
    is gone, naming it, and where the mean of the ingredients is not the soup.
    """
    members, file = record.members, record.file
    loads, names = record.loads(members), [member.name for member in members]
    info = info_of(
        record.config.student, ancestor=file.ancestor, step=file.step, scores=file.scores
    )
    weights = average_of(loads, names)
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
