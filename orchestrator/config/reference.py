"""Write the page of all YAML keys: `python -m orchestrator.config.reference`.

Key, type and default come from the schema. The meaning comes from the page, where a person writes
it; a rewrite keeps the meaning of each key.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import canonical
from orchestrator.config.errors import models_in
from vosmodels.errors import InputError
from vosmodels.support import cli
from vosmodels.support.atomic_files import write_whole

MODULE = "orchestrator.config.reference"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"
TOP = "top level"  # heading of the keys that are in no section
HEAD = "| key | type | default | meaning |\n|---|---|---|---|"
WORDS = {
    str: "text",
    bool: "`true` or `false`",
    NoneType: "`null`",
    dict: "mapping",
    tuple: "list",
}
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "a multiple of"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = cli.parser(
        MODULE,
        "Rewrite the table of all YAML keys on a page, after a change of the schema. Meanings\n"
        "stay; the meaning of a new key is empty, for you to write.",
        f"python -m {MODULE} sweeps/README.md",
    )
    parser.add_argument("page", metavar="PAGE.md", type=cli.path)

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        cli.check_exists(args.page, "file", "give the Markdown page whose keys to rewrite")
        text = args.page.read_text(encoding="utf-8")
        page = refreshed(text, str(args.page))
        write_whole(args.page, page.encode())
        empty = without_meaning(page)
        if not args.json:
            print(f"{args.page}: {'changed' if page != text else 'as it was'}")
            for key in empty:
                print(f"  write the meaning of {key}")
        return {"page": str(args.page), "changed": page != text, "without_meaning": empty}

    return cli.run(parser, argv, work)


def keys() -> dict[str, tuple[str, str]]:
    """List every key of a sweep's YAML with type and default, in schema order.

    Returns dotted key -> (type, default); a list index is written N: `stages.N.lr`.
    """
    return {
        ".".join(path): (_type(field.annotation, field.metadata), _default(field))
        for path, field in _leaves(SweepConfig, ())
    }


def refreshed(page: str, name: str) -> str:
    """Rewrite the table of `keys` between the markers of a page; meanings stay.

    name: path of the page, for messages. Raises InputError where the page lacks a marker.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise InputError(f"{name}: needs one line {BEGIN!r} and one {END!r}, the keys between")
    before, rest = page.split(BEGIN)
    inside, after = rest.split(END)
    meanings = _meanings(inside)
    tables: dict[str, list[str]] = {}
    for key, (kind, default) in keys().items():
        section = key.partition(".")[0] if "." in key else TOP
        cells = (f"`{key}`", kind, f"`{default}`" if default else "", meanings.get(key, ""))
        tables.setdefault(section, []).append(f"| {' | '.join(cells)} |")
    parts = ["\n".join((f"### {name}\n", HEAD, *rows)) for name, rows in tables.items()]
    return before + "\n\n".join((BEGIN, *parts, END)) + after


def without_meaning(page: str) -> list[str]:
    """List the keys of a page whose meaning is still to be written."""
    return [key for key, meaning in _meanings(page).items() if not meaning]


def _meanings(page: str) -> dict[str, str]:
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    cells = [row.strip("|").split(" | ", 3) for row in rows]
    return {row[0].strip().strip("`"): row[3].strip() for row in cells if len(row) == 4}


def _leaves(
    model: type[BaseModel], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield every key that is not a section.

    For a list of sections, yield the list and then the keys of an entry.
    """
    for name, field in model.model_fields.items():
        path = (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, path)
            continue
        yield path, field
        for entry in models_in(field.annotation):
            yield from _leaves(entry, (*path, "N"))


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Describe the type of a value in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds: list[Any] = []
        for part in parts[1:]:
            bounds += part.metadata if isinstance(part, FieldInfo) else [part]
        return _type(parts[0], bounds)
    if origin in (Union, UnionType):
        return " or ".join(_type(part, metadata) for part in parts)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if annotation in (int, float):
        return ", ".join(("whole number" if annotation is int else "number", *_bounds(metadata)))
    return WORDS[origin or annotation]


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for part in metadata:
        if isinstance(part, str):  # words that a validator adds
            yield part
        for name, words in BOUNDS.items():
            if (value := getattr(part, name, None)) is not None:
                yield f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}"


def _default(field: FieldInfo) -> str:
    """Write a default as in a YAML file; empty where a value must be given."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return canonical(value)


if __name__ == "__main__":
    sys.exit(main())
