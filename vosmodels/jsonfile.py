"""JSON files that are replaced whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file at once: a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    scratch.replace(path)


def read_json(path: Path) -> Any:
    """The value in a JSON file, None where there is no such file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
