"""What several test files share: a tiny DAVIS folder, written anew for each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosmodels.data.masks import write_palette

SPLITS = {"train": ["ant", "bee"], "val": ["cat"]}
FRAMES, HEIGHT, WIDTH = 6, 48, 64


def write_davis(root: Path, year: int) -> Path:
    """Sequences ant, bee, cat; object 1 moves right over noise, 2017 has an object 2 at rest."""
    rng = np.random.default_rng(0)
    for name in (*SPLITS["train"], *SPLITS["val"]):
        images, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t in range(FRAMES):
            ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            ids[12:30, 8 + 4 * t : 26 + 4 * t] = 1
            if year == 2017:
                ids[34:44, 40:56] = 2
                write_palette(masks / f"{t:05d}.png", ids)
            else:
                Image.fromarray(ids * 255).save(masks / f"{t:05d}.png")
            frame = rng.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8) + 90 * ids[..., None]
            Image.fromarray(frame.astype(np.uint8)).save(images / f"{t:05d}.jpg", quality=95)
    (root / "ImageSets" / str(year)).mkdir(parents=True)
    for split, names in SPLITS.items():
        (root / "ImageSets" / str(year) / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture
def davis_root(tmp_path: Path) -> Path:
    return write_davis(tmp_path / "davis", 2016)


@pytest.fixture
def davis17_root(tmp_path: Path) -> Path:
    return write_davis(tmp_path / "davis17", 2017)
