"""`python -m orchestrator.sweep SWEEP.yaml`: run or continue a sweep, print its table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orchestrator import experiment
from orchestrator.config import load


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return experiment.command(
        "orchestrator.sweep",
        argv,
        file="SWEEP.yaml",
        does="Run a sweep, or continue it: what is done is not done again.",
        example="sweeps/omega.yaml data.root=/data/DAVIS",
        load=load,
    )


if __name__ == "__main__":
    sys.exit(main())
