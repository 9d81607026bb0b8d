"""Time a student's exported graphs for memories and numbers of objects, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from vosmodels.errors import InputError
from vosmodels.evaluation.speed.timing import Speed
from vosmodels.export.folder import Request, export
from vosmodels.memory_rule import MemoryRule

MODULE = "vosmodels.evaluation.speed"


def queue_rule(frames: int) -> MemoryRule:
    """Return the rule of a queue of so many frames: the first one and the latest ones.

    MobileVOS, arXiv:2303.07815, section 4.4: a queue of 1 is the first frame alone.
    """
    return MemoryRule(older=max(0, frames - 2), every=1, last=frames > 1)


def measure_graphs(
    file: Path,
    *,
    size: tuple[int, int],
    queue: int,
    objects: int,
    frames: int,
    threads: int | None = None,
) -> Speed:
    """Export a checkpoint for a queue and so many objects as ONNX, and time `frames` frames of it.

    size: (H, W). The graphs run in another process than the exporter, whose memory would hide
    theirs. Raises InputError as `export` and `measure_folder`.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "exported"
        export(file, Request(*size, objects, queue_rule(queue)), folder)
        return measure_folder(folder, objects=objects, frames=frames, threads=threads)


def measure_folder(folder: Path, *, objects: int, frames: int, threads: int | None = None) -> Speed:
    """Time `frames` frames of an exported folder, in a process of its own.

    Raises InputError where that process fails, with what it said.
    """
    command = [sys.executable, "-m", MODULE, "--exported", str(folder), "--json"]
    command += ["--frames", str(frames), "--objects", str(objects)]
    command += ["--threads", str(threads)] if threads else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{folder}: {done.stderr.strip()[-500:]}")
    return Speed(**json.loads(done.stdout))
