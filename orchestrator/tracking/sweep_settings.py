"""Read what was decided for a sweep at its first run."""

from __future__ import annotations

from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import read_json


def threads_of(storage: Storage, sweep: str) -> int | None:
    """Read on how many CPU threads the workers of a sweep run; None where it never ran here.

    Scores of the same weights are equal at equal threads. Raises InputError if the file that holds
    the number is broken.
    """
    path = storage.sweeps / f"{sweep}.json"
    storage.mirror.fetch(path)
    try:
        settings = read_json(path)
        return None if settings is None else int(settings["threads"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: does not say on how many threads the sweep runs ({error}); give the number "
            "of its first run, which is part of its trials' keys: cluster.threads=N"
        ) from error
