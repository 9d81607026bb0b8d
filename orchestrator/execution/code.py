"""Tell by which source files weights are shaped, as they are now.

Recorded is all that computes a weight or a label, draws a clip, or scores: a score is written into
the checkpoint, and stops a trial or chooses it. Not recorded is what parses, draws pictures, copies
to MLflow, exports or counts memory, nor the sections of a configuration, whose values are in a
job's key. A soup is not recorded either: it is named by the files of its pool, and its decisions
are in the ledger.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from orchestrator.tracking.events import Code
from vosmodels.support.digests import sha256_of

ROOT = Path(__file__).resolve().parents[2]
SHAPING = (
    "vosmodels/*.py",
    "vosmodels/aot/*.py",
    "vosmodels/data/*.py",
    "vosmodels/distillation/*.py",
    "vosmodels/evaluation/metrics.py",
    "vosmodels/evaluation/runner.py",
    "vosmodels/evaluation/scores.py",
    "vosmodels/inference/*.py",
    "vosmodels/spacetime/*.py",
    "vosmodels/support/channels.py",
    "vosmodels/support/seeding.py",
    "vosmodels/support/tensors.py",
    "orchestrator/config/data.py",
    "orchestrator/config/loss.py",
    "orchestrator/execution/job.py",
    "orchestrator/execution/labelling.py",
    "orchestrator/execution/member.py",
    "orchestrator/execution/recorder.py",
    "orchestrator/execution/scoring.py",
    "orchestrator/execution/teachers.py",
    "orchestrator/planning/calibration.py",
    "orchestrator/planning/datasets.py",
    "orchestrator/planning/plan.py",
    "orchestrator/planning/trials.py",
    "orchestrator/training/*.py",
)
NOT_SHAPING = {
    "vosmodels/data/overlay.py",
    "vosmodels/errors.py",
    "vosmodels/inference/edit_list.py",
    "vosmodels/inference/ensemble.py",
    "vosmodels/inference/film.py",
    "vosmodels/inference/sinks.py",
    "vosmodels/inference/video.py",
    "vosmodels/inference/video_need.py",
}


def code_from(at: int) -> Code:
    """Describe the code of this process, by which a job trains from step `at` on."""
    return Code(at=at, files=shaping_files(), torch=torch.__version__)


@functools.cache  # a process keeps the code that it began with, whatever is edited meanwhile
def shaping_files() -> Mapping[str, str]:
    """Return the sha256 of every source file that shapes weights, by its path from the root."""
    return {path.relative_to(ROOT).as_posix(): sha256_of(path) for path in _paths(ROOT)}


def _paths(root: Path) -> Iterator[Path]:
    for pattern in SHAPING:
        for path in sorted(root.glob(pattern)):
            name = path.relative_to(root).as_posix()
            if name not in NOT_SHAPING and path.name != "__init__.py":
                yield path
