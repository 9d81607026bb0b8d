"""Resume states on disk: what a killed job continues from, its last two.

FOLDER/STEP.safetensors holds the tensors, FOLDER/STEP.json beside it their sha256. The JSON is
written last: a state that a kill, a full disk or a power cut has torn does not match it, and the
one before is taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_whole

logger = logging.getLogger(__name__)

KEPT = 2  # states on disk


def write(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Add the state of a step, and delete all but the last two.

    Raises InputError where it cannot be written; then the earlier states are as they were.
    """
    data = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
    described = json.dumps({"step": step, "sha256": hashlib.sha256(data).hexdigest()})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _description(folder, step).unlink(missing_ok=True)  # of one that was torn
        write_whole(_tensors(folder, step), data)
        write_whole(_description(folder, step), described.encode())
    except OSError as error:
        _tidy(folder)
        raise InputError(
            f"{_tensors(folder, step)}: cannot be written ({error.strerror}); free space, and run "
            "the same command again to continue"
        ) from error
    _tidy(folder)


def read(folder: Path, step: int) -> dict[str, Tensor]:
    """The tensors of a step. Raises InputError where they are missing, torn or altered."""
    path = _tensors(folder, step)
    try:
        data = path.read_bytes()
        sha256 = json.loads(_description(folder, step).read_bytes())["sha256"]
    except OSError as error:
        raise InputError(f"{path}: resume state cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError):
        sha256 = None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{path}: resume state is not what was written")
    tensors: dict[str, Tensor] = safetensors.torch.load(data)
    return tensors


def newest(folder: Path) -> tuple[int, dict[str, Tensor]] | None:
    """Step and tensors of the newest whole state; a warning for each that is not."""
    for step in reversed(steps(folder)):
        try:
            return step, read(folder, step)
        except InputError as error:
            logger.warning("%s: going on from the one before, or from the start", error)
    return None


def steps(folder: Path) -> list[int]:
    """Steps with a description, ascending."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def _tidy(folder: Path) -> None:
    """Delete what belongs to none of the last two states, a killed process's leavings too."""
    last = steps(folder)[-KEPT:]
    kept = {path(folder, step) for step in last for path in (_tensors, _description)}
    for path in sorted(set(folder.glob("*")) - kept):  # a .json before its .safetensors
        path.unlink()


def _tensors(folder: Path, step: int) -> Path:
    return folder / f"{step:07d}.safetensors"


def _description(folder: Path, step: int) -> Path:
    return folder / f"{step:07d}.json"
