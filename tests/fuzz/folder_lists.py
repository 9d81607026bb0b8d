"""Change the lists, the meta.json and the numbers of frames of a dataset folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fuzz.draw import Draw
from tests.fuzz.folders import Folder

LISTS: Mapping[str, Callable[[list[str]], bytes]] = {
    "UTF-16": lambda names: "\n".join(names).encode("utf-16"),
    "byte order mark": lambda names: "\n".join(names).encode("utf-8-sig"),
    "Latin-1 comment": lambda names: "\n".join([*names, "# für"]).encode("latin-1"),
    "CRLF": lambda names: "\r\n".join([*names, ""]).encode(),
    "blank lines and blanks": lambda names: "\n\n".join(f"  {n}\t" for n in names).encode(),
    "comments": lambda names: "\n".join(["# mine", *names, f"# {names[0]}"]).encode(),
    "a name twice": lambda names: "\n".join([*names, names[0]]).encode(),
    "an unknown name": lambda names: "\n".join([*names, "nosuch"]).encode(),
    "a path": lambda names: "\n".join(f"../{name}/" for name in names).encode(),
    "upper case": lambda names: "\n".join(names).upper().encode(),
    "nothing": lambda names: b"",
    "NUL bytes": lambda names: b"\0" * 64,
}


SAME = ("byte order mark", "CRLF", "blank lines and blanks", "a name twice")


def changed_split(draw: Draw, data: Folder) -> list[str]:
    split, how = draw.one(sorted(data.splits)), draw.one(sorted(LISTS))
    (path,) = (data.root / "ImageSets").rglob(f"{split}.txt")
    data.benign = data.benign and how in SAME
    if how == "an unknown name":
        data.unlisted[split] = f"the list {split} names a video that is not there"
    path.write_bytes(LISTS[how](list(data.splits[split])))
    return [f"list {split}: {how}"]


def split_file(draw: Draw, data: Folder, path: Path) -> tuple[str, tuple[str, ...], str]:
    """Write a split file; return its name, the videos it names, and how it was written."""
    videos, how = tuple(draw.several(data.videos, 1, 3)), draw.one(sorted(LISTS))
    path.write_bytes(LISTS[how](list(videos)))
    return str(path), videos, f"{path.name}: {how}"


def changed_meta(draw: Draw, data: Folder) -> list[str]:
    data.benign = False
    path = data.root / "valid" / "meta.json"
    content = json.loads(path.read_text())
    video = draw.one(sorted(content["videos"]))
    objects = content["videos"][video]["objects"]
    number = draw.one(sorted(objects))
    how = draw.one(
        [
            "cut",
            "empty",
            "absent",
            "a list",
            "no such frame",
            "no frames",
            "id 0",
            "id 300",
            "twice",
        ]
    )
    if how == "no such frame":
        objects[number]["frames"].append("00777")
    elif how == "no frames":
        objects[number]["frames"] = []
    elif how == "id 0":
        objects["0"] = objects.pop(number)
    elif how == "id 300":
        objects["300"] = objects.pop(number)
    elif how == "twice":
        objects[f"0{number}"] = objects[number]
    text = json.dumps([content] if how == "a list" else content)
    path.write_text({"cut": text[: len(text) // 2], "empty": ""}.get(how, text))
    if how == "absent":
        path.unlink()
    return [f"meta.json of valid: {how}, {video}"]


def renumbered(draw: Draw, data: Folder) -> list[str]:
    how = draw.one(["7 to 12", "from 00001", "tens", "mixed widths", "by name"])
    video = draw.one(data.videos)
    paths = data.pictures(video)
    names = {
        "7 to 12": [str(number + 7) for number in range(99)],
        "from 00001": [f"{number + 1:05d}" for number in range(99)],
        "tens": [f"{number * 10:05d}" for number in range(99)],
        "mixed widths": [f"{number + 98:0{2 + number % 3}d}" for number in range(99)],
        "by name": [f"frame {number + 8} ü#" for number in range(99)],
    }[how]
    data.renumbered.add(video)
    renamed = dict(zip(dict.fromkeys(path.stem for path in paths), names, strict=False))
    for path in [*paths, *data.labels(video)]:
        if path.stem in renamed:
            path.rename(path.with_name(f"{renamed[path.stem]}.renamed{path.suffix}"))
    for path in [*data.pictures(video), *data.labels(video)]:
        path.rename(path.with_name(path.name.replace(".renamed", "")))
    return [f"{video} numbered {how}"]
