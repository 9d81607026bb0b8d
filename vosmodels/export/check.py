"""Run an exported folder on its own clip and compare the answers with those of the model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from vosmodels.errors import InputError
from vosmodels.export.runner import SIDECAR, Runner, RunnerError
from vosmodels.export.sidecar import Sidecar

LIMIT = 1e-3  # share of pixels that may differ: ties, and what rounding makes of them


@dataclass(frozen=True)
class Checked:
    """What the check found: frames, the share of pixels that differ, and seconds of a frame."""

    frames: int
    differing: float
    median_ms: float

    @property
    def passed(self) -> bool:
        """Say whether the graphs do what the model does."""
        return self.differing <= LIMIT


def check(folder: Path, *, threads: int | None = None) -> Checked:
    """Run the clip of a folder. Raises InputError on a folder that is not a whole export."""
    sidecar = read(folder)
    try:
        runner = Runner(folder, threads=threads)
    except RunnerError as error:
        raise InputError(str(error)) from error
    names = sorted(path.name for path in (folder / sidecar.clip.frames).glob("*.png"))
    if not names:
        raise InputError(f"{folder / sidecar.clip.frames}: no frame; export again")
    wrong, seconds = 0, []
    for name in names:
        frame = _picture(folder / sidecar.clip.frames / name).transpose(2, 0, 1) / np.float32(255)
        given = folder / sidecar.clip.given / name
        mask = _picture(given) if given.is_file() else None
        start = time.perf_counter()
        ids = runner.step(frame, mask)
        seconds.append(time.perf_counter() - start)
        wrong += int((ids != _picture(folder / sidecar.clip.expected / name)).sum())
    pixels = len(names) * sidecar.frame.height * sidecar.frame.width
    return Checked(len(names), wrong / pixels, 1000 * float(np.median(seconds)))


def read(folder: Path) -> Sidecar:
    """Read and check the description of a folder. Raises InputError naming what is wrong."""
    path = folder / SIDECAR
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a folder of vosmodels.export") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()
        )
        raise InputError(f"{path}: {found}; export again") from error


def _picture(path: Path) -> np.ndarray:
    try:
        return np.asarray(Image.open(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); export again") from error
