"""Let a database that was moved or copied with its artifacts point to them again.

MLflow keeps the absolute path of every artifact folder, as it was when the folder was made.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

logger = logging.getLogger(__name__)

# Table and column of every path below an experiment's folder.
BELOW = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))


def point_to(database: Path, artifacts: Path) -> None:
    """Rewrite the paths of experiments whose folders lie in `artifacts`, and not where they say.

    An experiment named NAME is taken for moved where its path ends in artifacts/NAME elsewhere and
    `artifacts` has a folder NAME. Writes only where there is such a path.
    """
    if not database.is_file() or not artifacts.is_dir():
        return
    with closing(sqlite3.connect(database)) as connection:
        try:
            rows = connection.execute(
                "SELECT experiment_id, name, artifact_location FROM experiments"
            )
            moved = [
                (number, str(location), artifacts / name)
                for number, name, location in rows
                if _is_moved(str(name), str(location), artifacts)
            ]
        except sqlite3.DatabaseError:  # an empty file, or tables that MLflow has yet to make
            return
        with connection:  # one transaction
            for number, old, new in moved:
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                    (str(new), number),
                )
                for table, column in BELOW:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE experiment_id = ? AND substr({column}, 1, ?) = ?",
                        (str(new), len(old) + 1, number, len(old) + 1, f"{old}/"),
                    )
    for _, old, new in moved:
        logger.info("%s: its artifacts were at %s, and are taken from %s now", database, old, new)


def _is_moved(name: str, location: str, artifacts: Path) -> bool:
    old = Path(unquote(urlsplit(location).path) if location.startswith("file:") else location)
    ours = artifacts / name
    elsewhere = old.parent.name == artifacts.name and old.name == name and old != ours
    return elsewhere and ours.is_dir() and old.resolve() != ours.resolve()
