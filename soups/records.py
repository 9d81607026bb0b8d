"""Find the record of a soup in a ledger, and the checkpoints that it names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config import RunConfig
from orchestrator.config.sections import EXPERIMENT, MODEL, STORAGE
from orchestrator.tracking.checkpoint_refs import open_reader
from orchestrator.tracking.events import Checkpoint, Role, Souped, Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_names import CheckpointRecord
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.storage import Storage
from vosmodels.data.listing import visible
from vosmodels.errors import InputError
from vosmodels.support.digests import SHA256, check_file, sha256_of
from vosmodels.support.messages import together
from vosmodels.support.paths import expanded

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

MAKE_ONE = "make one with: python -m soups.greedy --runs"


@dataclass(frozen=True)
class Member:
    """A checkpoint that a record names."""

    name: str
    sha256: str


@dataclass(frozen=True)
class SoupRecord:
    """A soup's job in the ledger, and the places where its checkpoints may lie.

    folders: where those are that a soup of a folder took; reader: of the MLflow store that has
    copies; None where no store was named.
    """

    job: JobRecord
    storage: Storage
    folders: tuple[Path, ...] = ()
    reader: MlflowReader | None = None

    @cached_property
    def started(self) -> Started:
        """The first start of the job."""
        return self.job.of(Started)[0]

    @cached_property
    def souped(self) -> Souped:
        """Hold what was tried and taken."""
        return self.job.of(Souped)[-1]

    @cached_property
    def file(self) -> Checkpoint:
        """The soup itself."""
        return self.job.checkpoints()[-1]

    @property
    def config(self) -> RunConfig:
        """The run that the soup belongs to, with the videos that chose it."""
        return RunConfig.model_validate(dict(self.started.config))

    @property
    def pool(self) -> list[Member]:
        """Every checkpoint that was tried, once, in the order of their first tries."""
        turns = self.souped.decisions
        return list(dict.fromkeys(Member(turn["name"], turn["sha256"]) for turn in turns))

    @property
    def members(self) -> list[Member]:
        """The checkpoints whose mean the soup is, one as often as it was taken, in any bag."""
        turns = [turn for turn in self.souped.decisions if turn["accepted"]]
        return [Member(turn["name"], turn["sha256"]) for turn in turns]

    def loads(self, members: list[Member]) -> list[Callable[[], Mapping[str, Tensor]]]:
        """Return what reads each checkpoint, from wherever a sound copy lies.

        Raises one InputError that names every checkpoint that is gone, and where it was looked for.
        """
        found = {member.sha256: self.place(member.sha256) for member in members}
        gone = [
            f"{member.name} (sha256 {member.sha256})"
            for member in dict.fromkeys(members)
            if found[member.sha256] is None
        ]
        if gone:
            places = [str(self.storage.checkpoints), *map(str, self.folders)]
            places += [self.reader.store.uri] if self.reader else []
            head = f"{len(gone)} of {len(found)} checkpoints of {self.job.path} are gone"
            raise InputError(
                f"{together(head, gone)}; looked for in {', '.join(places)}: put a copy there, or "
                "name a folder that has them with --runs FOLDER"
            )
        return [_reading(found[member.sha256], member.sha256) for member in members]

    def place(self, sha256: str) -> Path | None:
        """Find a file with this content, copying it from a store if need be; None without one."""
        own = self.storage.checkpoint(sha256)
        self.storage.mirror.fetch(own)
        if own.is_file() and sha256_of(own) == sha256:
            return own
        if path := self._in_folders.get(sha256):
            return path
        return self._download(sha256)

    @cached_property
    def _in_folders(self) -> Mapping[str, Path]:
        files = [path for folder in self.folders for path in sorted(visible(folder))]
        return {sha256_of(path): path for path in files if path.suffix == ".safetensors"}

    def _download(self, sha256: str) -> Path | None:
        if self.reader is None:
            return None
        try:
            return self.reader.download_content(self.started.experiment, self.started.sweep, sha256)
        except InputError as error:
            logger.debug("%s", error)
            return None


def _reading(path: Path | None, sha256: str) -> Callable[[], Mapping[str, Tensor]]:
    from vosmodels import checkpoint  # here, as a wrong reference is refused without torch

    assert path is not None  # the others are refused
    return lambda: checkpoint.read_tensors(path, sha256)


def find(
    reference: str,
    tracking_uri: str | None,
    *,
    folders: tuple[Path, ...] = (),
    storage: Path = Path(STORAGE),
) -> SoupRecord:
    """Find the record of the soup behind a file, models:/ID or mlflow:EXPERIMENT[@SWEEP].

    A file is looked for by its content, or where it is gone or corrupt by the sha256 that it is
    named by, in the ledger beside it and else in that of `storage`. An experiment means its best
    soup by select J&F. Raises InputError where there is no such soup, or its ledger is not here.
    """
    if reference.startswith((EXPERIMENT, MODEL)):
        reader = open_reader(tracking_uri, storage)
        if reference.startswith(MODEL):
            model = reader.model(reference.removeprefix(MODEL).rstrip("/"))
            experiment = reader.experiment_of(model)
            if model.role != "soup":
                raise InputError(
                    f"{reference}: {model.name} is a {model.role}, no soup; {MAKE_ONE} "
                    f"{EXPERIMENT}{experiment}"
                )
        else:
            experiment, sweep = reader.resolve(reference.removeprefix(EXPERIMENT))
            model = _best_soup(reader, experiment, sweep)
            logger.info("%s is %s (%s%s)", reference, model.name, MODEL, model.model_id)
        place = _storage_of(reader, model, experiment, storage)
        return SoupRecord(Ledger.of(place).job(model.key), place, folders, reader)
    path = expanded(reference)
    named = SHA256.fullmatch(path.stem)
    if not named:
        check_file(path, f"give a soup's file, {MODEL}ID or {EXPERIMENT}EXPERIMENT")
    sha256 = path.stem if named else sha256_of(path)
    roots = [path.absolute().parent.parent, storage.absolute()]
    for root in dict.fromkeys(roots):
        place = Storage(root)
        for job in jobs_of(place, "soup"):
            if any(event.sha256 == sha256 for event in job.checkpoints()):
                return SoupRecord(job, place, folders)
    ledgers = ", ".join(str(Storage(root).ledger) for root in dict.fromkeys(roots))
    raise InputError(
        f"{reference}: no soup with sha256 {sha256} in {ledgers}; run the command where the ledger "
        f"lies, or {MAKE_ONE} mlflow:X"
    )


def jobs_of(storage: Storage, role: Role) -> Iterator[JobRecord]:
    """Yield the jobs of a role in a ledger; one that cannot be read is named and left out."""
    for job in Ledger.of(storage).jobs():
        try:
            first = next(iter(job.of(Started)), None)
        except InputError as error:
            logger.warning("a job is left out: %s", error)
            continue
        if first is not None and first.role == role:
            yield job


def _best_soup(reader: MlflowReader, experiment: str, sweep: str) -> CheckpointRecord:
    soups = reader.checkpoints(experiment, sweep, ("soup",))
    if not soups:
        raise InputError(
            f"{reader.store.uri}: no soup in sweep {sweep} of {experiment!r}; {MAKE_ONE} "
            f"{EXPERIMENT}{experiment}"
        )
    return min(soups, key=lambda record: (-record.scores.get("jf", 0.0), record.sha256))


def _storage_of(
    reader: MlflowReader, model: CheckpointRecord, experiment: str, storage: Path
) -> Storage:
    """Find the storage folder whose ledger has a soup's job, beside the store, as said, or here.

    Raises InputError where none has.
    """
    places = [Storage(reader.store.file.parent)] if reader.store.file else []
    for sweep in sorted(model.sweeps):
        try:
            config = reader.config_of(experiment, sweep)
        except InputError:  # the soup of a folder, which no sweep trained
            continue
        places.append(Storage(config.storage_root, config.remote))
    places.append(Storage(storage.absolute()))
    for place in places:
        job = Ledger.of(place).job(model.key)
        job.pull()
        if job.path.is_file():
            return place
    ledgers = ", ".join(dict.fromkeys(str(place.ledger) for place in places))
    raise InputError(
        f"{model.name}: its job {model.key} is in none of {ledgers}; the record of a soup is in "
        "the ledger: run the command where the sweep ran"
    )
