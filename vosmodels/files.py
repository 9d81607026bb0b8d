"""Files that are there whole or not at all, also after a kill or a power cut."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


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
