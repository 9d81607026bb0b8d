"""Merge YAML text, overlays and `key=value` overrides into one plain mapping.

Nothing here depends on the schema.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vosmodels.errors import UsageError

COMMAND_LINE = "command line"


class ConfigError(UsageError):
    """Unusable configuration; the message lists every problem, one per line."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Document:
    """A mapping as written, with the source of every key that an override set."""

    path: Path
    values: dict[str, Any]
    overridden: Mapping[tuple[str, ...], str] = field(
        default_factory=dict
    )  # key -> overlay or command line
    problems: tuple[str, ...] = ()  # overrides that could not be read

    def place(self, key: tuple[str, ...]) -> str:
        """Name the source of a value: the file, an overlay or the command line."""
        places = [place for path, place in self.overridden.items() if key[: len(path)] == path]
        return places[-1] if places else str(self.path)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and reads 1e-5, off, no as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value != "<<" and str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] not in (_BOOL, _FLOAT)]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
        r"|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def parse(text: str) -> Any:
    """Parse a YAML text. Raises yaml.YAMLError on text that is not YAML."""
    return yaml.load(text, _Loader)  # safe: _Loader is a SafeLoader


def read(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read the mapping in a YAML file and apply overrides, of which the last one wins.

    An override `a.b=value` is split on its first `=` and its value is YAML; `stages.0.steps=100`
    sets a key of a list's first entry. The text after `sweep.parameters.` or `sweep.points.NAME.`
    is one key, since swept keys have dots. An override FILE.yaml is an overlay: its values replace
    the values of the same keys, a list as a whole.
    Raises ConfigError where the file or an overlay cannot be read or holds no mapping.
    """
    values = _read_mapping(path)
    overridden: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for text in overrides:
        if "=" not in text and Path(text).suffix in (".yaml", ".yml"):
            place, changes = text, list(_leaves(_read_mapping(Path(text))))
        else:
            place, changes = COMMAND_LINE, []
            key, equals, value = text.partition("=")
            if not equals or not all(part.strip() for part in key.split(".")):
                problems.append(
                    f"{place}: {text!r}; an override is key=value, e.g. seed=1, or FILE.yaml"
                )
                continue
            try:
                changes.append((split_key(key.strip()), parse(value)))
            except yaml.YAMLError as error:
                problems.append(f"{place}: {key}: {value!r} is not YAML: {_reason(error)}")
        for parts, parsed in changes:
            if blocked := _put(values, parts, parsed):
                problems.append(f"{place}: {'.'.join(parts)}: {blocked} has no such key")
            overridden.pop(parts, None)  # keeps the newest override last
            overridden[parts] = place
    return Document(path, values, overridden, tuple(problems))


def _leaves(
    values: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value that is not a mapping, with the keys that lead to it."""
    for key, value in values.items():
        path = (*above, str(key))
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value


def split_key(key: str) -> tuple[str, ...]:
    """Split `a.b` into ("a", "b"), a swept key into ("sweep", "parameters", "a.b")."""
    parts = tuple(key.split("."))
    for section, depth in (("parameters", 2), ("points", 3)):
        if parts[:2] == ("sweep", section) and len(parts) > depth:
            return (*parts[:depth], ".".join(parts[depth:]))
    return parts


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read as text: {error}"]) from None
    try:
        values = parse(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{path}: not YAML: {_reason(error)}"]) from None
    if values is None:
        raise ConfigError([f"{path}: empty; it needs at least a `sweep` or a `train` section"])
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: {values!r:.60} is not a mapping (`key: value` lines)"])
    return {str(key): value for key, value in values.items()}


def _put(values: dict[str, Any], parts: tuple[str, ...], value: Any) -> str | None:
    """Set a nested key, in a list by index; return what blocks the path, or None."""
    here: Any = values
    for depth, part in enumerate(parts, 1):
        key: Any = part
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                return f"{'.'.join(parts[: depth - 1])} (a list of {len(here)})"
            key = int(part)
        elif not isinstance(here, dict):
            return f"{'.'.join(parts[: depth - 1])} ({here!r:.60})"
        if depth == len(parts):
            here[key] = value
        elif isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[key]
    return None


def _reason(error: Exception) -> str:
    """Shorten a YAML error to one line, with line and column where it has them."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + (getattr(error, "problem", None) or str(error).splitlines()[0])


def with_keys(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a nested mapping with dotted keys set; a number in a key is a list index."""
    result = dict(values)
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        below = result.get(head)
        if not rest:
            result[head] = value
        elif isinstance(below, (list, tuple)):
            entries = with_keys({str(n): entry for n, entry in enumerate(below)}, {rest: value})
            result[head] = list(entries.values())
        else:
            result[head] = with_keys(below if isinstance(below, dict) else {}, {rest: value})
    return result
