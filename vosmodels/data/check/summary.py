"""Inspect every item of a dataset folder, sum up the results and print them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from vosmodels.data.check.inspection import Facts, Item
from vosmodels.data.check.inventory import Folder
from vosmodels.support.grid import Grid, screen
from vosmodels.support.processes import helpers

TELL_S = 5.0  # seconds between two lines of progress

logger = logging.getLogger(__name__)


def look_at(folder: Folder, decode: bool, workers: int) -> dict[Item, Facts]:
    """Inspect each video or image once, even if several splits list it.

    decode: read every picture whole; workers: number of processes.
    """
    items = list(dict.fromkeys(item for split in folder.splits.values() for item in split))
    total = f"{len(items)} {'images' if folder.sets else 'videos'}"
    workers = min(workers, len(items))
    if workers < 2:
        looks = (item.look(decode) for item in items)
        return dict(zip(items, _log_progress(looks, len(items), total), strict=True))
    with helpers(workers) as pool:
        facts = pool.map(partial(_look_at, decode), items)
        return dict(zip(items, _log_progress(facts, len(items), total), strict=True))


def _look_at(decode: bool, item: Item) -> Facts:
    return item.look(decode)


def _log_progress(looks: Iterable[Facts], count: int, total: str) -> Iterator[Facts]:
    """Pass the facts on, logging rate and time left every TELL_S seconds."""
    start = last_log = time.monotonic()
    files = 0
    for done, facts in enumerate(looks, 1):
        yield facts
        files += facts.frames + facts.labelled
        now = time.monotonic()
        if now - last_log >= TELL_S and done < count:
            last_log = now
            rate, left_s = files / (now - start), (now - start) * (count - done) / done
            logger.info("%d of %s, %.0f files a second, %.0f s left", done, total, rate, left_s)


def summarise(root: Path, folder: Folder, looks: Mapping[Item, Facts]) -> dict[str, Any]:
    """Return the command's result: set, licence, counts by split, and all problems."""
    splits = {name: [looks[item] for item in items] for name, items in folder.splits.items()}
    problems = [*folder.problems, *(p for facts in looks.values() for p in facts.problems)]
    notes = [note for facts in looks.values() for note in facts.notes]
    result: dict[str, Any] = {"root": str(root), "set": folder.name}
    if folder.sets:
        result["sets"] = {name: _sum_images(folder, name, splits[name]) for name in splits}
    else:
        for videos in splits.values():
            if not _is_test(videos):
                problems += [facts.only_first for facts in videos if facts.only_first]
        result["licence"] = folder.licence()
        result["splits"] = {name: _sum(splits[name], name in folder.merged) for name in splits}
    return result | {
        "problems": list(dict.fromkeys(problems)),
        "notes": list(dict.fromkeys(notes)),
    }


def _is_test(videos: Sequence[Facts]) -> bool:
    """Return True if the masks of all videos only give objects, as in DAVIS's test sets."""
    return all(facts.only_first for facts in videos)


def _sum(videos: Sequence[Facts], merged: bool) -> dict[str, Any]:
    """Count the videos, frames, masks and objects of one split."""
    ids = sorted({i for v in videos for i in v.ids})
    return {
        "videos": len(videos),
        "frames": sum(v.frames for v in videos),
        "labelled": sum(v.labelled for v in videos),
        "objects": sum(min(v.objects, 1) if merged else v.objects for v in videos),
        "ids": ids,
        "merged": merged,
        "sizes": _sizes(videos),
        "first_masks_only": _is_test(videos),
    }


def _sum_images(folder: Folder, name: str, images: Sequence[Facts]) -> dict[str, Any]:
    """Count the folders, images and masks of one set of still images."""
    return {
        "licence": folder.licence(name),
        "folders": folder.sets[name].folders,
        "images": len(images),
        "masks": sum(i.labelled for i in images),
        "sizes": _sizes(images),
    }


def _sizes(items: Sequence[Facts]) -> list[list[int]]:
    """Return (width, height) of the smallest and the largest picture by area."""
    sizes = sorted({s for item in items for s in item.sizes}, key=lambda s: s[0] * s[1])
    return [[width, height] for height, width in (sizes[:1] + sizes[-1:] if sizes else [])]


def show(result: Mapping[str, Any]) -> None:
    """Print the result of `summarise` on stdout."""
    out = screen()
    out.print(f"{result['root']}: {result['set']}")
    if "sets" in result:
        _print_images(out, result["sets"])
    else:
        out.print(f"licence: {result['licence']}")
        _print_videos(out, result["splits"])
    how = "every file was read" if result["decoded"] else "by headers; --decode reads every file"
    problems = result["problems"]
    out.print(f"{len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'} ({how})")
    for problem in problems:
        out.print(f"  {problem}")
    if result["notes"]:
        out.print(f"{len(result['notes'])} to look at, which are used as they are:")
    for note in result["notes"]:
        out.print(f"  {note}")


def _print_videos(out: Console, splits: Mapping[str, Mapping[str, Any]]) -> None:
    counts = ("videos", "frames", "labelled", "objects")
    rows = []
    for name, split in splits.items():
        as_one = split["merged"] and len(split["ids"]) > 1
        ids = _ranges(split["ids"]) + (" as one" if as_one else "")
        rows.append([name, *(str(split[key]) for key in counts), ids, _span(split["sizes"])])
    out.print(Grid(["split", *counts, "ids", "size"], rows, left=(0, 5, 6)).terminal())
    for name, split in splits.items():
        if split["first_masks_only"]:
            out.print(
                f"{name}: masks only where objects begin: nothing to train on or to score here; "
                "evaluate --out writes the masks that a benchmark's server scores"
            )


def _print_images(out: Console, sets: Mapping[str, Mapping[str, Any]]) -> None:
    several = len(sets) > 1
    for name, images in sets.items():
        out.print(f"licence{f' of {name}' if several else ''}: {images['licence']}")
    counts = ("folders", "images", "masks")
    rows = [
        [name, *(str(images[key]) for key in counts), _span(images["sizes"])]
        for name, images in sets.items()
    ]
    out.print(Grid(["set", *counts, "size"], rows, left=(0, 4)).terminal())
    if several:
        out.print("several sets: data.static takes a list of their folders")


def _span(sizes: Iterable[Sequence[int]]) -> str:
    return " to ".join(dict.fromkeys(f"{width}x{height}" for width, height in sizes))


def _ranges(ids: Sequence[int]) -> str:
    """Write ids as ranges: 1, 2, 3, 7 -> "1-3, 7"."""
    starts = [i for i in ids if i - 1 not in ids]
    ends = [i for i in ids if i + 1 not in ids]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
