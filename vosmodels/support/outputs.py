"""Refuse outputs that would replace a user's files or lie among them."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path

from vosmodels.errors import InputError, UsageError

FILMS = (".mp4", ".mov", ".avi")  # that can be written
OTHER_FILES = {  # besides those that Python's own table knows
    *(".mkv", ".m4v", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv"),
    *(".npy", ".npz", ".safetensors", ".yaml", ".yml", ".rar", ".7z", ".xz", ".zst"),
}


def is_film(out: Path) -> bool:
    """Say whether `out` is to be a film, by its suffix; else it is a folder.

    Raises UsageError on the suffix of any other kind of file, unless a folder has that name.
    """
    suffix = out.suffix.lower()
    if suffix in FILMS:
        return True
    known = any(mimetypes.MimeTypes().guess_type(f"x{suffix}", strict=False))
    if (known or suffix in OTHER_FILES) and not out.is_dir():
        raise UsageError(
            f"--out {out}: no {suffix} is written; give a folder for masks, or a film: "
            f"{', '.join(FILMS)}"
        )
    return False


def check_output(
    out: Path, inputs: Mapping[str, Path], *, folder: bool, overwrite: bool, name: str = "--out"
) -> None:
    """Refuse `out` where writing to it would harm what lies on disk.

    inputs: files and folders that the command reads, by their name on the command line; folder:
    files are written into a folder `out`, else `out` is one file; overwrite: what an earlier run
    wrote may be replaced, an input never; name: what the command line calls `out`.
    Files are compared, not spellings: links, `..` and upper case lead to the same file. Raises
    UsageError if `out` is an input, lies inside an input folder or holds an input; InputError if it
    exists and `overwrite` is not given, is of the wrong kind, or cannot be written.
    """
    place = f"{name} {out}"
    for given, path in inputs.items():
        relation = _relation(out, path)
        if relation:
            raise UsageError(
                f"{place}: {relation} {given} {path}, and an input is never written to; "
                "give a place of its own"
            )
    _check_place(out, place)
    if os.path.lexists(out):
        if folder != out.is_dir():
            kinds = ("a file", "a folder") if folder else ("a folder", "a file")
            raise InputError(
                f"{place}: {kinds[0]} is there, and {kinds[1]} is to be written; give another name"
            )
        if not overwrite:
            _check_empty(out, place)


def _relation(out: Path, path: Path) -> str | None:
    """Say how `out` clashes with an input, in words that fit before its name."""
    if not path.exists():
        return None
    if _same(out, path):
        return "the same as"
    if any(_same(parent, path) for parent in out.resolve().parents):
        return "inside"
    if out.is_dir() and any(_same(out, parent) for parent in path.resolve().parents):
        return "the folder that holds"
    return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False


def _check_place(out: Path, place: str) -> None:
    """Raise InputError if the nearest folder that exists above `out` takes no file."""
    try:
        os.path.lexists(out) or out.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long, a file where a folder should be
        raise InputError(f"{place}: cannot be written ({error.strerror})") from error
    ground = out if out.is_dir() else out.absolute().parent
    while not ground.exists():
        ground = ground.parent
    if not ground.is_dir():
        raise InputError(f"{place}: {ground} is a file, and would have to be a folder")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise InputError(f"{place}: no right to write in {ground}; give another place")


def _check_empty(out: Path, place: str) -> None:
    if not out.is_dir():
        raise InputError(
            f"{place}: exists already; give another name, or --overwrite to replace it"
        )
    names = sorted(entry.name for entry in out.iterdir() if not entry.name.startswith("."))
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"{place}: holds {len(names)} file{'s' if len(names) > 1 else ''} already ({shown}); "
            "give a new folder, or --overwrite to write among them"
        )
