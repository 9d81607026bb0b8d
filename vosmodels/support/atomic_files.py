"""Files that are there whole or not at all, also after a kill or a power cut."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once: a reader sees the old one or the new one, never a part.

    When this returns, it is on disk. Raises OSError where it cannot be written; then the old file
    is as it was, and nothing of the new one is left.
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
        os.fsync(folder)  # the rename too must survive a power cut
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file at once, as `write_whole` does; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file, None where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
