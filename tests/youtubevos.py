"""Write a tiny YouTube-VOS folder of two videos in three splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vosmodels.data.masks import write_palette

BEGINS = {"fox": {1: 0, 2: 10}, "owl": {7: 5}}  # object id: first frame of the 30 fps video
LAST, GAP, HEIGHT, WIDTH = 20, 5, 48, 64
SIDE = {1: 14, 2: 10, 7: 18}
CATEGORY = {1: "cat", 2: "person", 7: "eagle"}  # of which eagle is held out offline


def ids(video: str, frame: int) -> np.ndarray:
    """(H, W) ids: squares, one above the other, that move right by a pixel a frame."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for row, (number, first) in enumerate(BEGINS[video].items()):
        if frame >= first:
            top, left = 4 + 22 * row, 6 + frame
            mask[top : top + SIDE[number], left : left + SIDE[number]] = number
    return mask


def stems(first: int) -> list[str]:
    """Every fifth frame from `first` on."""
    return [f"{frame:05d}" for frame in range(first, LAST + 1, GAP)]


def picture(root: Path, split: str, video: str, frame: int) -> Path:
    return root / split / "JPEGImages" / video / f"{frame:05d}.jpg"


def mask(root: Path, split: str, video: str, frame: int) -> Path:
    return root / split / "Annotations" / video / f"{frame:05d}.png"


def write(root: Path) -> Path:
    """train: labels every fifth frame, all pictures of fox, every fifth of owl, where nothing is
    labelled before frame 5. valid: every fifth picture, masks where an object begins.
    valid_all_frames: every picture, nothing else."""
    sparse, dense = range(0, LAST + 1, GAP), range(LAST + 1)
    for video, begins in BEGINS.items():
        first, given = min(begins.values()), set(begins.values())
        _pictures(root, "train", video, dense if video == "fox" else sparse)
        _pictures(root, "valid", video, sparse)
        _pictures(root, "valid_all_frames", video, dense)
        _masks(root, "train", video, [frame for frame in sparse if frame >= first])
        _masks(root, "valid", video, sorted(given))
    for split in ("train", "valid"):
        write_meta(root / split / "meta.json", BEGINS)
    return root


def write_meta(
    path: Path, begins: dict[str, dict[int, int]], category: dict[int, str] = CATEGORY
) -> None:
    objects = {
        video: {
            "objects": {
                str(i): {"category": category.get(i, "dog"), "frames": stems(t)}
                for i, t in these.items()
            }
        }
        for video, these in begins.items()
    }
    path.write_text(json.dumps({"videos": objects}))


def _pictures(root: Path, split: str, video: str, frames: range) -> None:
    rng = np.random.default_rng(0)
    for frame in frames:
        noise = rng.integers(0, 60, (HEIGHT, WIDTH, 3)) + 40 * (ids(video, frame) % 5)[..., None]
        path = picture(root, split, video, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.astype(np.uint8)).save(path, quality=95)


def _masks(root: Path, split: str, video: str, frames: list[int]) -> None:
    for frame in frames:
        path = mask(root, split, video, frame)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_palette(path, ids(video, frame))
