"""Find the checkpoint file behind a path, demo, models:/ID or mlflow:EXPERIMENT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.sections import EXPERIMENT, MODEL, REFERENCES, STORAGE
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from vosmodels import demo
from vosmodels.errors import InputError, UsageError
from vosmodels.support.atomic_files import write_whole
from vosmodels.support.digests import SHA256, check_file, sha256_of
from vosmodels.support.outputs import check_output

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint file and a line that says which checkpoint it is."""

    path: Path
    origin: str


def find(reference: str, tracking_uri: str | None, storage: Path = Path(STORAGE)) -> CheckpointFile:
    """Find the checkpoint file behind a reference.

    `demo` means the student that ships, `mlflow:X` the best checkpoint of experiment X by select
    J&F, among trials, soups and stems of its newest sweep, `mlflow:X@SWEEP` of that one.
    storage: folder of the default store, for a reference into MLflow without a tracking URI.
    Raises InputError where the file or model is missing, naming the store and its contents;
    UsageError on a reference that names nothing.
    """
    if reference.strip("/ ") in ("", EXPERIMENT, MODEL.rstrip("/")):
        raise UsageError(f"reference {reference!r}: names nothing; give {REFERENCES}")
    if reference.startswith(EXPERIMENT):
        reader = open_reader(tracking_uri, storage)
        best = reader.best_checkpoint(*reader.resolve(reference.removeprefix(EXPERIMENT)))
        model = f"{best.name} (models:/{best.model_id})"
        origin = f"{reference} is {model}, select J&F {best.scores['jf']:.3f}"
        return CheckpointFile(reader.download(best), origin)
    if reference.startswith(MODEL):
        reader = open_reader(tracking_uri, storage)
        record = reader.model(reference.removeprefix(MODEL).rstrip("/"))
        return CheckpointFile(reader.download(record), f"{reference} is {record.name}")
    path = demo.file_of(reference)
    check_file(path, f"give {REFERENCES}")
    if reference == demo.DEMO:
        return CheckpointFile(path, f"{demo.WORDS}, sha256 {sha256_of(path)[:12]}")
    return CheckpointFile(path, str(path))


def check_name(file: Path) -> None:
    """Raise UsageError where a checkpoint is to be written to a file of another name."""
    if file.suffix != SUFFIX:
        name = file / f"best{SUFFIX}" if file.is_dir() else file.with_suffix(SUFFIX)
        raise UsageError(f"FILE {file}: a checkpoint's name ends in {SUFFIX}; give such as {name}")


def copy(source: CheckpointFile, file: Path, *, half: bool = False) -> None:
    """Copy a checkpoint to `file`, which is replaced, unless it is the checkpoint itself.

    half: its weights are rounded to float16, as `checkpoint.halved` does. Raises InputError where
    the checkpoint is not whole or `file` cannot be written, and as `halved`; nothing is written
    then. Raises UsageError as `check_output`.
    """
    from vosmodels import checkpoint  # here, because it loads torch

    check_output(file, {"the file of REF": source.path}, folder=False, overwrite=True, name="FILE")
    if half:
        data = checkpoint.halved(source.path)
    else:
        checkpoint.read_tensors(source.path)
        data = source.path.read_bytes()
    if SHA256.fullmatch(file.stem) and file.stem != sha256_of(data):
        raise InputError(
            f"FILE {file}: named by a sha256 that is not this checkpoint's; give another name"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, data)
    except OSError as error:
        raise InputError(
            f"FILE {file}: cannot be written ({error.strerror}); free space or give another place"
        ) from error


def open_reader(tracking_uri: str | None, storage: Path = Path(STORAGE)) -> MlflowReader:
    """Open an MLflow store for reading. Raises InputError where it does not exist."""
    return MlflowReader(Connection(locate(tracking_uri, storage), create=False))
