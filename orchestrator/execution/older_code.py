"""Find the finished jobs of a plan that other code trained than is here, and set them aside."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.execution.code import code_from
from orchestrator.planning.plan import Job, Plan
from orchestrator.tracking.events import Code
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage

FINISHED = ("done", "stopped")
NAMED = 4  # names that a line shows at most
LINES = 4  # lines that show files at most
DATE = "%Y%m%dT%H%M%S"
RESULTS = (".json", ".csv", ".png")  # of a sweep, beside its lock and the journal of its search


@dataclass(frozen=True)
class OlderCode:
    """Finished jobs of a plan by the code that trained them.

    older: trained by other code than is here; again: those, and the finished ones that need them;
    unknown: finished before the ledger held the code; differs: keys of jobs by what differs: a
    source file, or torch with its version then.
    """

    finished: tuple[Job, ...]
    older: tuple[Job, ...]
    again: tuple[Job, ...]
    unknown: tuple[Job, ...]
    differs: Mapping[str, tuple[str, ...]]

    def lines(self, rerun: bool) -> list[str]:
        """Say which jobs are done by older code, file by file, and what becomes of them."""
        lines = []
        if self.older:
            fate = "they are kept; --rerun-changed trains them again"
            if rerun:
                fate = f"trained again, with those that need them: {len(self.again)}"
            lines.append(
                f"done, older code: {len(self.older)} of {len(self.finished)} finished jobs; {fate}"
            )
            files = defaultdict(list)
            for file, keys in self.differs.items():
                files[keys].append(file)
            for keys, alike in list(files.items())[:LINES]:
                names = [job.name for job in self.older if job.key in keys]
                lines.append(f"  {_some(alike)}: {_some(names)}")
            if rest := sum(map(len, list(files.values())[LINES:])):
                lines.append(f"  and {rest} more files")
        if self.unknown:
            lines.append(
                f"code unknown: {_some([job.name for job in self.unknown])}: finished before the "
                "ledger held it; kept"
            )
        return lines


def older_code(plan: Plan, storage: Storage) -> OlderCode:
    """Compare the code that trained a plan's finished jobs with the code that runs here."""
    ledger, here = Ledger.of(storage), code_from(0)
    records = {job.key: ledger.job(job.key) for job in plan.jobs}
    finished = [job for job in plan.jobs if records[job.key].state in FINISHED]
    differs = defaultdict[str, list[str]](list)
    older, unknown, again = list[Job](), list[Job](), list[Job]()
    for job in finished:
        trained_by = codes_of(records[job.key])
        if trained_by is None:
            unknown.append(job)
            continue
        what = {what for code in trained_by for what in _differences(code, here)}
        for each in sorted(what):
            differs[each].append(job.key)
        if what:
            older.append(job)
    for job in finished:  # those that a job needs stand before it
        if job in older or {each.key for each in again} & set(job.needs.values()):
            again.append(job)
    return OlderCode(
        finished=tuple(finished),
        older=tuple(older),
        again=tuple(again),
        unknown=tuple(unknown),
        differs={what: tuple(keys) for what, keys in differs.items()},
    )


def codes_of(record: JobRecord) -> list[Code] | None:
    """Return the codes that trained a job in turn; None where its first steps have none recorded.

    An attempt that was resumed from no later a step than it began at has shaped nothing.
    """
    codes = list[Code]()
    for code in record.of(Code):
        codes = [*(before for before in codes if before.at < code.at), code]
    return codes if codes and codes[0].at == 0 else None


def set_aside(jobs: Sequence[Job], sweep: str, storage: Storage) -> None:
    """Give what the storage has of jobs and of their sweep's results a name with today's date.

    The jobs are new then. Nothing is deleted, and checkpoints stay where they are. The ledger's
    file is the last of a job, and a job comes before those it needs, so that a second call goes on
    where the first was interrupted. Raises InputError where a process works on one of them.
    """
    date = time.strftime(DATE)
    for job in reversed(jobs):
        record = Ledger.of(storage).job(job.key)
        with record.claim():
            for path in (storage.resume(job.key), storage.pictures(job.key), storage.log(job.key)):
                _date(path, date, storage)
            _date(record.path, date, storage)
    results = sorted(storage.sweeps.glob(f"{sweep}-*")) if jobs else []
    for path in results:
        if path.suffix in RESULTS:
            _date(path, date, storage)


def keep_dated(path: Path) -> None:
    """Copy a file that is going to be replaced to a name with today's date."""
    shutil.copy2(path, _dated(path, time.strftime(DATE)))


def _date(path: Path, date: str, storage: Storage) -> None:
    if path.exists():
        path.rename(_dated(path, date))
    storage.mirror.rename(path, _dated(path, date))


def _dated(path: Path, date: str) -> Path:
    return path.with_name(f"{path.name}.{date}")  # no suffix by which it would be read


def _differences(then: Code, here: Code) -> list[str]:
    """List the source files that are not as they were, and torch where its version is not."""
    files = then.files.keys() | here.files.keys()
    differing = [file for file in files if then.files.get(file) != here.files.get(file)]
    return differing + ([f"torch {then.torch}, here {here.torch}"] * (then.torch != here.torch))


def _some(names: Sequence[str]) -> str:
    """Join the first of many names."""
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED + 1 else []
    return ", ".join([*(names[:NAMED] if more else names), *more])
