"""Make YAML files of sweeps and runs that were edited by hand, well and badly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.config import SweepConfig
from orchestrator.config.document import parse
from tests.fuzz.draw import Draw
from tests.fuzz.runner import ROOT, Case, Command
from tests.fuzz.values import HUGE, VALUES, WORDS

COUNT = 300
KIND = "configurations"
FILE = "odd.yaml"
TINY: Mapping[str, Any] = {
    "name": "tiny",
    "student": {"name": "mobilevos_mobilenetv2_noaspp"},
    "stem": {"steps": 2},
    "teacher": {"steps": 2},
    "train": {"steps": 2, "batch_size": 1, "clip_length": 2, "crop": 32},
    "sweep": {"parameters": {"loss.omega": [0.0, 1.0]}, "points": {"a": {}, "b": {"loss.tau": 1}}},
}


def is_huge(index: int) -> bool:
    """Tell the cases that ask for more memory or time than there is."""
    return index % 25 == 24


def is_process(index: int) -> bool:
    """Tell the cases that are run as a process; those with huge values always are."""
    return index % 25 == 12 or is_huge(index)


def case(index: int, folder: Path) -> Case:
    """Make the files of a case and the command that reads them."""
    draw = Draw(KIND, index)
    made = Case(KIND, index, folder, process=is_process(index), limited=is_huge(index))
    made.work.mkdir(parents=True)
    train = draw.chance(0.2)
    values = _base(draw)
    if train:
        values.pop("sweep", None)
    raw: dict[str, str] = {}
    edits: list[Callable[[Draw, Case, dict, dict], None]] = [_value, _value, _value, _key, _no_key]
    for edit in (draw.one(edits) for _ in range(draw.whole(0, 3))):
        edit(draw, made, values, raw)
    if is_huge(index):
        key, value = HUGE[index // 25 % len(HUGE)]
        made.changes.append(f"huge {key}")
        words = [f"{key}={value}"]
    else:
        words = draw.several(WORDS, 0, 2) if draw.chance(0.5) else []
    text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
    for token, spelled in raw.items():
        text = text.replace(token, spelled)
    path = made.work / FILE
    if draw.chance(0.35):
        name = draw.one(sorted(WRITTEN))
        made.changes.append(name)
        WRITTEN[name](path, text)
    else:
        path.write_text(text, encoding="utf-8")
    if draw.chance(0.15):
        words.append(_overlay(draw, made))
    made.changes += words
    module = "orchestrator.train" if train else "orchestrator.sweep"
    keys = [change.split(" ")[-1].split("=")[0] for change in made.changes]
    tops = [word.split("=")[0].split(".")[0] for word in words]
    named = {FILE, "overlay.yaml", "command line", *words, *keys, *tops} - {""}
    if "data.root" in keys:  # a folder that cannot be read is told by what is read from it
        named |= {"data.train", "data.select", "stages.0"}
    made.commands.append(
        Command(
            module=module,
            words=(FILE, "--dry-run", *words),
            names=tuple(sorted(named)),
            judge=_plan,
        )
    )
    return made


def _plan(reply: Any) -> Iterator[str]:
    if not reply.out.strip() and not reply.err.strip():
        yield "a dry run that printed nothing"


def _base(draw: Draw) -> dict[str, Any]:
    """Start from a sweep that is shipped, from every key written out, or from a tiny file."""
    what = draw.whole(0, 3)
    if what == 0:
        shipped = sorted((ROOT / "sweeps").glob("*.yaml")) + sorted(
            (ROOT / "sweeps" / "paper").glob("*.yaml")
        )
        values = parse(draw.one(shipped).read_text())
        assert isinstance(values, dict)
        return values
    if what == 1:
        return SweepConfig(**TINY).model_dump(mode="json")
    return copy.deepcopy(dict(TINY))


def _leaves(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in pairs:
        yield (*above, key)
        if isinstance(value, (dict, list)):
            yield from _leaves(value, (*above, key))


def _holder(values: Any, path: tuple[Any, ...]) -> Any:
    for part in path[:-1]:
        values = values[part]
    return values


def _value(draw: Draw, made: Case, values: dict, raw: dict) -> None:
    """Replace a value by one of another kind."""
    if not values:
        return
    path = draw.one(list(_leaves(values)))
    kind = draw.one(sorted(VALUES))
    token = f"token-{len(raw)}-"
    _holder(values, path)[path[-1]] = token
    raw[token] = VALUES[kind]
    made.changes.append(f"{kind} as {'.'.join(map(str, path))}")


def _key(draw: Draw, made: Case, values: dict, raw: dict) -> None:
    """Misspell a key, or write it twice."""
    paths = [path for path in _leaves(values) if isinstance(path[-1], str)]
    if not paths:
        return
    path = draw.one(paths)
    holder, key = _holder(values, path), path[-1]
    place = draw.whole(0, len(key))
    other = draw.one(
        [key.upper(), f"{key} ", key[:place] + "x" + key[place:], key[1:], f"{key}é", f"{key}."]
    )
    holder[other] = copy.deepcopy(holder[key])
    if draw.chance(0.7):
        del holder[key]
    made.changes.append(f"{other!r} for {'.'.join(map(str, path))}")


def _no_key(draw: Draw, made: Case, values: dict, raw: dict) -> None:
    """Take a key away."""
    if not values:
        return
    path = draw.one(list(_leaves(values)))
    holder = _holder(values, path)
    del holder[path[-1]]
    made.changes.append(f"without {'.'.join(map(str, path))}")


def _overlay(draw: Draw, made: Case) -> str:
    name = "overlay.yaml"
    key = draw.one(["train", "seed", "sweep", "stages", "nosuch", "data"])
    kind = draw.one(sorted(VALUES))
    (made.work / name).write_text(f"{key}: {VALUES[kind]}\n", encoding="utf-8")
    made.changes.append(f"overlay with {kind} as {key}")
    return name


def _nested(depth: int) -> str:
    return "{a: " * depth + "1" + "}" * depth


_BOMB = "".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9 if n else ['x'] * 9)}]\n" for n in range(5)
)

# How a text can be written to a file.
WRITTEN: Mapping[str, Callable[[Path, str], Any]] = {
    "byte order mark": lambda path, text: path.write_text(text, encoding="utf-8-sig"),
    "UTF-16": lambda path, text: path.write_text(text, encoding="utf-16"),
    "Latin-1": lambda path, text: path.write_bytes("# größer\n".encode("latin-1") + text.encode()),
    "CRLF": lambda path, text: path.write_bytes(text.replace("\n", "\r\n").encode()),
    "old Mac line ends": lambda path, text: path.write_bytes(text.replace("\n", "\r").encode()),
    "an empty file": lambda path, text: path.write_text(""),
    "comments alone": lambda path, text: path.write_text("# nothing\n"),
    "three dashes": lambda path, text: path.write_text(f"---\n{text}...\n"),
    "two documents": lambda path, text: path.write_text(f"{text}---\n{text}"),
    "a tab": lambda path, text: path.write_text(text + "train:\n\tlr: 1\n"),
    "a bracket more": lambda path, text: path.write_text(text + "]\n"),
    "a NUL": lambda path, text: path.write_text(text + "\0"),
    "the second half": lambda path, text: path.write_text(text[len(text) // 2 :]),
    "the first half": lambda path, text: path.write_text(text[: len(text) // 2]),
    "twice the same": lambda path, text: path.write_text(text + text),
    "a list": lambda path, text: path.write_text("- 1\n- seed: 2\n"),
    "a word": lambda path, text: path.write_text("omega\n"),
    "a JSON file": lambda path, text: path.write_text('{"seed": 1, "sweep": {"parameters": {}}}'),
    "an alias": lambda path, text: path.write_text(text + "x: &x {lr: 1}\ntrain: *x\n"),
    "an alias of nothing": lambda path, text: path.write_text(text + "stem: *nothing\n"),
    "an alias of itself": lambda path, text: path.write_text(text + "extra: &e {a: *e}\n"),
    "a merge key": lambda path, text: path.write_text(text + "x: &x {a: 1}\ny: {<<: *x, b: 2}\n"),
    "an alias bomb": lambda path, text: path.write_text(text + _BOMB),
    "3,000 mappings deep": lambda path, text: path.write_text(f"{text}extra: {_nested(3000)}\n"),
    "3,000 lists deep": lambda path, text: path.write_text("a: " + "[" * 3000 + "]" * 3000),
    "a folder": lambda path, text: path.mkdir(),
    "no file": lambda path, text: None,
    "a link to itself": lambda path, text: path.symlink_to(path.name),
    "a picture": lambda path, text: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
}
