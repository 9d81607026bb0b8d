"""Merge YAML text, overlays and `key=value` overrides into one plain mapping.

Nothing here depends on the schema.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vosmodels.errors import UsageError
from vosmodels.support.paths import expanded

COMMAND_LINE = "command line"
LARGEST = 1_000_000  # bytes of a file; PyYAML reads about 100 kB a second
DEEPEST = 50  # lists and mappings within each other
MOST = 100_000  # values, those behind an alias counted each time


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
    """SafeLoader with YAML 1.2's plain values that refuses what a configuration cannot mean.

    1e-5 and 010 are numbers, off, no and dates are text. Refused: duplicate keys, tags, aliases
    of what they lie in, and more nesting or values than the code below can walk through.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._above: list[str | None] = []  # anchors of the nodes around the next one
        self._extents: dict[int, tuple[int, int]] = {}  # id of a node -> height, values in it

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        alias = isinstance(event, yaml.AliasEvent)
        if alias and event.anchor in self._above:
            _refuse(f"*{event.anchor} lies within &{event.anchor}, so it has no end", event)
        if len(self._above) >= DEEPEST:
            _refuse(f"nested more than {DEEPEST} deep", event)
        self._above.append(None if alias else event.anchor)
        node = super().compose_node(parent, index)
        self._above.pop()
        if node is not None and id(node) not in self._extents:
            parts = [] if isinstance(node, yaml.ScalarNode) else node.value
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            below = [self._extents[id(part)] for part in parts]
            height = 1 + max((height for height, _ in below), default=0)
            count = 1 + sum(count for _, count in below)
            self._extents[id(node)] = height, count
            if height > DEEPEST:
                _refuse(f"nested more than {DEEPEST} deep", event)
            if count > MOST:
                _refuse(f"more than {MOST} values, those of aliases included", event)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value != "<<" and str(key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is there twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _refuse(problem: str, place: Any) -> NoReturn:
    """Raise an error at an event or a node of PyYAML."""
    raise yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    """Read 0x1f, 0b11, 1_000 and 010, which is ten."""
    text = node.value.replace("_", "").lower()
    base = 16 if "0x" in text else 2 if "0b" in text else 10
    try:
        return int(text, base)
    except ValueError:
        _refuse(f"a number of {len(text)} digits", node)


def _tagged(loader: _Loader, node: yaml.Node) -> NoReturn:
    _refuse(f"tag {node.tag!r} is not read; write the value without a tag", node)


_TAG = "tag:yaml.org,2002:"
_BOOL, _FLOAT, _INT, _TIME = (f"{_TAG}{name}" for name in ("bool", "float", "int", "timestamp"))
_MERGE, _VALUE = f"{_TAG}merge", f"{_TAG}value"
_Loader.yaml_constructors = {
    f"{_TAG}{name}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{name}"]
    for name in ("null", "bool", "float", "str", "seq", "map")
}
_Loader.add_constructor(_INT, _whole_number)
_Loader.add_constructor(None, _tagged)
_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] not in (_BOOL, _FLOAT, _INT, _TIME, _VALUE)]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INT,
    re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)
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


def parse_value(text: str) -> Any:
    """Parse the value of an override `key=value`: one value, which is text unless it says more.

    In quotes, brackets or braces it is YAML. Everything else is a plain value as in YAML, null
    where empty, but with no comment, key, anchor or tag in it: `/data/run #3: last` is that path.
    Raises yaml.YAMLError on text that begins as YAML and is not.
    """
    text = text.strip(" \t\r\n")
    if text[:1] not in ("'", '"', "[", "{"):
        loader: Any = _Loader("")  # PyYAML's own parts have no types
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return text if tag == _MERGE else loader.construct_object(yaml.ScalarNode(tag, text))
    node: Any = yaml.compose(text, _Loader)
    if rest := text[node.end_mark.index :]:
        mark = node.end_mark
        raise yaml.MarkedYAMLError(problem=f"{rest.strip()!r} follows the value", problem_mark=mark)
    return parse(text)


def read(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Read the mapping in a YAML file and apply overrides, of which the last one wins.

    An override `a.b=value` is split on its first `=` and its value read by `parse_value`;
    `stages.0.steps=100` sets a key of a list's first entry. The text after `sweep.parameters.` or
    `sweep.points.NAME.` is one key, since swept keys have dots. An override FILE.yaml is an
    overlay: its values replace the values of the same keys, a list as a whole.
    Raises ConfigError where the file or an overlay cannot be read or holds no mapping.
    """
    values = _read_mapping(path)
    overridden: dict[tuple[str, ...], str] = {}
    problems: list[str] = []
    for text in overrides:
        if "=" not in text and Path(text).suffix in (".yaml", ".yml"):
            place, changes = text, list(_leaves(_read_mapping(expanded(text))))
        else:
            place, changes = COMMAND_LINE, []
            key, equals, value = text.partition("=")
            if not equals or not all(part.strip() for part in key.split(".")):
                problems.append(
                    f"{place}: {text!r}; an override is key=value, e.g. seed=1, or FILE.yaml"
                )
                continue
            try:
                changes.append((split_key(key.strip()), parse_value(value)))
            except yaml.YAMLError as error:
                problems.append(
                    f"{place}: {key}: {value!r:.60} is not YAML: {_reason(error, value)}"
                )
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


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without its mark at the start.

    Raises ConfigError, with the line that is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read as text: {error.strerror}"]) from None
    problem = ""
    if len(data) > LARGEST:
        problem = f"more than {LARGEST} bytes, which is no configuration"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        problem = "it is UTF-16 or UTF-32; save it as UTF-8"
    elif (at := data.find(b"\0")) >= 0:
        problem = f"line {_line(data, at)}: a NUL character; save it as UTF-8, without NULs"
    if not problem:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            byte = f"byte 0x{data[error.start]:02x}"
            problem = f"line {_line(data, error.start)}: {byte} is not UTF-8; save it as UTF-8"
    raise ConfigError([f"{path}: cannot be read as text: {problem}"])


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


def _read_mapping(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        values = parse(text)
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not YAML: {_reason(error, text)}"]) from None
    if values is None:
        raise ConfigError([f"{path}: empty; it needs at least a `sweep` or a `train` section"])
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: {values!r:.60} is not a mapping (`key: value` lines)"])
    return {str(key): value for key, value in values.items()}


def _put(values: dict[str, Any], parts: tuple[str, ...], value: Any) -> str | None:
    """Set a nested key, in a list by index; return what blocks the path, or None.

    Copies what lies on the path, since an alias shares it with other keys.
    """
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
        else:
            here[key] = copy(here[key])
        here = here[key]
    return None


def _reason(error: yaml.YAMLError, text: str) -> str:
    """Shorten an error about a YAML text to one line, with line and column."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: character {chr(error.character)!r} cannot stand in YAML"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return where + problem + ("; indent with spaces" if "'\\t'" in problem else "")


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
