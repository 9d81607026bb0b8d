"""Measure what a further trial takes beside its training and its scoring.

`python -m tests.benchmarks.overhead` runs a sweep of trials of no step on Ray, one at a time. Their
scores are those of their stem, so that all of their time is overhead: Ray's, of loading stem and
teacher, of ledger and files. A round is a trial after the first. Wall is the time between two
starts in the ledger; CPU is that of the command and all its processes, the copy to MLflow included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil

from orchestrator.tracking.ledger import JobRecord, Ledger
from tests.benchmarks.rounds import Claim, Timing, parsed, report

MODULE = "tests.benchmarks.overhead"
TARGET = 1.0  # s of wall time, the median of the rounds
LOOK_S = 0.2
SWEEP = """
name: overhead
data: {select_height: 64, select_stride: 4}
student: {name: mobilevos_mobilenetv2_noaspp}
teacher: {steps: 0}
stem: {steps: 0}
train: {steps: 0, batch_size: 2, clip_length: 3, crop: 64}
sweep: {parameters: {loss.omega: OMEGAS}}
soup: {after_sweep: false}
cluster: {threads: CORES}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 where a further trial takes no longer than the target, else 1."""
    args = parsed(MODULE, argv, count=10)
    with tempfile.TemporaryDirectory() as folder:
        timing = measure(args.rounds + 1, Path(folder))
    wall = timing.median("wall")
    claims = [Claim("wall s of a further trial, without steps and scoring", wall, TARGET, True)]
    timings = {"a further trial": timing}
    return 0 if report("overhead", args.command, timings, claims, out=args.out) else 1


def measure(trials: int, folder: Path) -> Timing:
    """Run a sweep of so many trials; return the seconds of each but the first."""
    omegas = str([n / trials for n in range(trials)])
    text = SWEEP.replace("OMEGAS", omegas).replace("CORES", str(len(os.sched_getaffinity(0))))
    file = folder / "overhead.yaml"
    file.write_text(text)
    words = [str(file), f"storage={folder / 'results'}", "--json"]
    command = [sys.executable, "-m", "orchestrator.sweep", *words]
    ledger, cpu = Ledger(folder / "results"), dict[str, float]()
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        used: dict[int, float] = {}
        try:
            while process.poll() is None:
                _note_cpu(process.pid, used)
                for record in _trials(ledger):
                    cpu.setdefault(record.key, sum(used.values()))
                time.sleep(LOOK_S)
        finally:
            process.terminate()  # nothing where it has ended; an interrupt here ends it too
    if process.returncode:
        raise SystemExit(f"the sweep failed: exit code {process.returncode}")
    starts = sorted((_start(record), cpu[record.key]) for record in _trials(ledger))
    pairs = list(pairwise(starts))
    return Timing(
        cpu=[after[1] - before[1] for before, after in pairs],
        wall=[after[0] - before[0] for before, after in pairs],
    )


def _trials(ledger: Ledger) -> list[JobRecord]:
    starts = [(record, record.started()) for record in ledger.jobs()]
    return [record for record, start in starts if start and start.role == "trial"]


def _start(record: JobRecord) -> float:
    started = record.started()
    assert started is not None
    return started.time


def _note_cpu(pid: int, used: dict[int, float]) -> None:
    """Note the CPU seconds of a process and its descendants, and keep those of the ended."""
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            used[each.pid] = times.user + times.system
    except psutil.Error:  # one has ended meanwhile
        pass


if __name__ == "__main__":
    sys.exit(main())
