"""Describe the provenance of a measured figure: commit, machine, command and date."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = "sweeps/results"  # not code: a changed file here does not mark the commit as changed


def commit() -> str:
    """Return the short hash of the running code, with "+" if tracked files differ.

    "unknown" outside git.
    """
    here = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short=7", "HEAD")
        tracked = ("--untracked-files=no", "--", ".", f":(exclude){RESULTS}")
        changed = git("status", "--porcelain", *tracked)
    except FileNotFoundError:  # git is not installed
        return "unknown"
    return f"{head}{'+' if changed else ''}" if head else "unknown"


def machine() -> str:
    """Describe the machine: usable cores, processor, GPUs and torch's version."""
    import torch  # here, because results are read and printed without torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores = f"{len(os.sched_getaffinity(0))} cores of {processor()}"
    return ", ".join([cores, *gpus, f"torch {torch.__version__}"])


def processor() -> str:
    """Return the processor's name, from /proc/cpuinfo or else from `platform`."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", info.read_text() if info.is_file() else "")
    return match[1].strip() if match else platform.processor() or platform.machine()


def command_line(module: str, arguments: Sequence[str]) -> str:
    """Return the shell line that runs `python -m module` with these arguments."""
    return shlex.join(["python", "-m", module, *arguments])


def today() -> str:
    """Return today's date in UTC, such as 2026-01-31."""
    return datetime.now(UTC).strftime("%Y-%m-%d")
