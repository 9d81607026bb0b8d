"""Write files atomically: whole or not at all, even after a kill or a power cut."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from vosmodels.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file atomically: a reader sees the old or the new file, never a part.

    The new file is on disk when the function returns. Raises OSError if the file cannot be written;
    the old file is then unchanged, and nothing of the new file remains.
    """
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with scratch.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the rename also survives a power cut
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Write a value as a JSON file, atomically as `write_whole`; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read the value in a JSON file; None if there is no such file.

    Raises InputError if the file cannot be read, or is not JSON, as after a torn write. A caller
    that can make the value anew does so; another one passes the error on.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        size = path.stat().st_size
        raise InputError(f"{path}: {size} bytes that are not JSON ({error})") from error
