"""Report the jobs that failed: the error, the last lines of the log, and how one runs alone."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.sections import ClusterConfig
from orchestrator.planning.plan import Job, Plan
from orchestrator.tracking.events import Failed
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels.support.memory import is_out_of_memory
from vosmodels.support.provenance import command_line

TRAIN = "orchestrator.train"
TAIL = 4  # lines of a log
LONGEST = 160  # letters of a line
READ = 1 << 16  # bytes of a log's end that are looked at
LOGGED = re.compile(rb"^\d{4}-\d\d-\d\d .*$", re.MULTILINE)
STOOD_STILL = re.compile(rb"^Timeout \(\d+:\d\d:\d\d", re.MULTILINE)  # what faulthandler writes
OURS = re.compile(rb'^.*File ".*(?:orchestrator|soups|vosmodels)/.*$', re.MULTILINE)


# Of a RuntimeError of torch: a process or a device that may be there another time.
PASSING = re.compile("DataLoader worker|CUDA error|NCCL", re.IGNORECASE)
LASTING = {  # what the system says of a file, and will say again
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}


@dataclass(frozen=True)
class Failure:
    """A job that did not finish: its error, and the path of its log."""

    job: Job
    error: str
    log: str

    def lines(self, alone: str) -> list[str]:
        """Describe the failure. alone: the command that runs the job alone."""
        tail = [f"  | {line}" for line in log_tail(Path(self.log))]
        return [
            f"failed: {self.job.name}: {self.error}; log: {self.log}",
            *tail,
            f"  alone again: {alone}",
        ]


def retry_can_help(error: Exception) -> bool:
    """Tell whether the same steps may pass on another try: a job repeats them to the bit."""
    if isinstance(error, OSError):
        return error.errno not in LASTING
    passing = isinstance(error, RuntimeError) and PASSING.search(str(error)) is not None
    return passing or is_out_of_memory(error)


def failures(jobs: Sequence[Job], storage: Storage) -> list[Failure]:
    """List the jobs that ended without being done or stopped, and mark those killed as failed."""
    ledger = Ledger.of(storage)
    found = []
    for job in jobs:
        record, log = ledger.job(job.key), storage.log(job.key)
        state = record.state
        if state in ("done", "stopped"):
            continue
        failure = record.failed()
        storage.mirror.pull(log)
        error = failure.error if failure else _silent(log, job.config.cluster)
        if state == "running":
            with record.claim():
                record.write(Failed(error=error, log=str(log)))
        found.append(Failure(job, error, str(log)))
    return found


def reports(
    failures: Sequence[Failure], plan: Plan, command: str, alone: Sequence[str] | None
) -> list[str]:
    """Describe jobs of a plan that failed, each with the command that runs it alone.

    command: the one that ran them; alone: words by which `orchestrator.train` runs one of them,
    None where the same command does.
    """
    names = Counter(job.name for job in plan.jobs)
    lines = []
    for failure in failures:
        job = failure.job
        name = job.name if names[job.name] == 1 else job.key
        again = command if alone is None else command_line(TRAIN, [*alone, "--job", name])
        lines += failure.lines(again)
    return lines


def log_tail(path: Path) -> list[str]:
    """Return the last lines of a log, or where in our code a process stood that stood still."""
    end = _end(path)
    if stood := _stood(end):
        lines = OURS.findall(stood)[:TAIL]  # the innermost call is first
    else:
        lines = [line for line in end.splitlines() if line.strip()][-TAIL:]
    return [line.decode(errors="replace").rstrip()[:LONGEST] for line in lines]


def _silent(log: Path, cluster: ClusterConfig) -> str:
    """Say how a process ended that wrote no error."""
    if _stood(_end(log)):
        return f"its process stood still for {cluster.stall_s:g} s (cluster.stall_s)"
    lost = f", or it lost {cluster.storage}" if cluster.storage else ""
    return f"its process was killed, by hand or by the system for want of memory{lost}"


def _stood(end: bytes) -> bytes:
    """Return what faulthandler wrote after the last message of a log; empty where nothing."""
    last = LOGGED.split(end)[-1]
    return last if STOOD_STILL.search(last) else b""


def _end(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - READ))
            return file.read()
    except FileNotFoundError:
        return b""
