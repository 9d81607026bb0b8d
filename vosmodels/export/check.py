"""Run an exported folder on its own clip and compare the answers with those of the model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vosmodels.errors import InputError
from vosmodels.export.sidecar import open_folder

LIMIT = 1e-3  # share of pixels that may differ: ties, and what rounding makes of them


@dataclass(frozen=True)
class Checked:
    """Hold what the check found: frames, share of pixels that differ, time of a frame."""

    frames: int
    differing: float
    median_ms: float

    @property
    def passed(self) -> bool:
        """Say whether the graphs do what the model does."""
        return self.differing <= LIMIT


def check(folder: Path, *, threads: int | None = None) -> Checked:
    """Run the clip of a folder. Raises InputError on a folder that is not a whole export."""
    sidecar, runner = open_folder(folder, threads=threads)
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


def _picture(path: Path) -> np.ndarray:
    try:
        return np.asarray(Image.open(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); export again") from error
