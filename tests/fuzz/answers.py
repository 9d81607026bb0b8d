"""Change the answers of a benchmark: masks on disk, a folder a video."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fuzz import pictures
from tests.fuzz.draw import Draw


def _inner(draw: Draw, video: Path) -> Path:
    """Draw a mask that is scored: neither the first nor the last."""
    masks = sorted(video.glob("*.png"))
    return draw.one(masks[1:-1] or masks)


def _drop(draw: Draw, video: Path) -> list[str]:
    path = _inner(draw, video)
    path.unlink()
    return [f"{video.name} lacks the answer {path.name}"]


def _drop_video(draw: Draw, video: Path) -> list[str]:
    shutil.rmtree(video)
    return []


def _add_video(draw: Draw, video: Path) -> list[str]:
    shutil.copytree(video, video.with_name("stranger"))
    return ["answers for the video stranger, which has no annotations"]


def _add_mask(draw: Draw, video: Path) -> list[str]:
    shutil.copy(_inner(draw, video), video / "00099.png")
    return [f"{video.name} has an answer 00099.png for no frame"]


def _later(draw: Draw, video: Path) -> list[str]:
    for path in sorted(video.glob("*.png"), reverse=True):
        path.rename(path.with_name(f"{int(path.stem) + 1:05d}.png"))
    return [f"the answers of {video.name} are numbered one later"]


def _damage(draw: Draw, video: Path) -> list[str]:
    path = _inner(draw, video)
    what = draw.one(sorted(pictures.DAMAGED))
    pictures.DAMAGED[what](path, draw)
    return [f"the answer {path.name} of {video.name} is damaged: {what}"]


def _widen(draw: Draw, video: Path) -> list[str]:
    path = _inner(draw, video)
    pictures.UNFIT["other size"](path, pictures.ids(48, 64))
    return [f"the answer {path.name} of {video.name} has another size"]


def _hide(draw: Draw, video: Path) -> list[str]:
    (video / "._00001.png").write_bytes(b"\0\5\26\7" + b"\0" * 60)
    (video.parent / ".ipynb_checkpoints").mkdir()
    return []


# How the answers of a benchmark can be changed.
CHANGES: Mapping[str, Callable[[Draw, Path], list[str]]] = {
    "an answer is missing": _drop,
    "a video's answers are missing": _drop_video,
    "answers of another video": _add_video,
    "an answer for no frame": _add_mask,
    "answers numbered one later": _later,
    "a damaged answer": _damage,
    "an answer of another size": _widen,
    "hidden files in the answers": _hide,
}
