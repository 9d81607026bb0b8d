"""Write and read the resume states that a killed job continues from.

FOLDER/STEP.safetensors holds the tensors, FOLDER/STEP.json their sha256, and the last two states
stay on disk. The JSON is written last, so a state torn by a kill, a full disk or a power cut does
not match its JSON, and the job continues from the state before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_whole
from vosmodels.support.digests import sha256_of

logger = logging.getLogger(__name__)

STATES = 2  # states that stay on disk


def write(folder: Path, step: int, tensors: Mapping[str, Tensor]) -> None:
    """Write the state of a step, and delete all but the last two states.

    Raises InputError where the state cannot be written, which leaves the earlier states unchanged.
    """
    data = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()})
    description = json.dumps({"step": step, "sha256": sha256_of(data)})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _description(folder, step).unlink(missing_ok=True)  # of a torn state
        write_whole(_tensors(folder, step), data)
        write_whole(_description(folder, step), description.encode())
    except OSError as error:
        _tidy(folder)
        raise InputError(
            f"{_tensors(folder, step)}: cannot be written ({error.strerror}); free space, and run "
            "the same command again to continue"
        ) from error
    _tidy(folder)


def read(folder: Path, step: int) -> dict[str, Tensor]:
    """Read the tensors of a step. Raises InputError if they are missing or altered."""
    path = _tensors(folder, step)
    try:
        data = path.read_bytes()
        sha256 = json.loads(_description(folder, step).read_bytes())["sha256"]
    except OSError as error:
        raise InputError(f"{path}: resume state cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError):
        sha256 = None
    if sha256_of(data) != sha256:
        raise InputError(f"{path}: resume state is not what was written")
    tensors: dict[str, Tensor] = safetensors.torch.load(data)
    return tensors


def newest(folder: Path) -> tuple[int, dict[str, Tensor]] | None:
    """Read step and tensors of the newest whole state; warn of each broken state."""
    for step in reversed(steps(folder)):
        try:
            return step, read(folder, step)
        except InputError as error:
            logger.warning("%s; continuing from the state before, or from the start", error)
    return None


def steps(folder: Path) -> list[int]:
    """List the steps with a description, in ascending order."""
    return sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))


def _tidy(folder: Path) -> None:
    """Delete all files but the last two states, also the files of killed processes."""
    last = steps(folder)[-STATES:]
    files = {path(folder, step) for step in last for path in (_tensors, _description)}
    for path in sorted(set(folder.glob("*")) - files):  # a .json before its .safetensors
        path.unlink()


def _tensors(folder: Path, step: int) -> Path:
    return folder / f"{step:07d}.safetensors"


def _description(folder: Path, step: int) -> Path:
    return folder / f"{step:07d}.json"
