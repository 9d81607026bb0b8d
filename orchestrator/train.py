"""`python -m orchestrator.train RUN.yaml`: one student, with the teacher and stem it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator import experiment
from orchestrator.config import SweepConfig, load_run


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return experiment.command(
        "orchestrator.train",
        argv,
        file="RUN.yaml",
        does="Train one student, or continue it. A sweep's file is refused.",
        example="run.yaml loss.omega=0.95 data.root=/data/DAVIS",
        load=_load,
    )


def _load(path: Path, overrides: Sequence[str]) -> SweepConfig:
    """The run as a sweep of one point, so that both go the same way."""
    run = load_run(path, overrides).model_dump()
    return SweepConfig.model_validate({**run, "sweep": {"parameters": {}}})


if __name__ == "__main__":
    sys.exit(main())
