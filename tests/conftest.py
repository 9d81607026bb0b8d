"""Share fixtures: tiny datasets, an empty ledger with its MLflow store.

Every test gets new ones. pytest reads the options of the conformance tests here only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_writer import Tracker
from tests import youtubevos
from tests.conformance import golden
from tests.stores import empty_tracker
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


@pytest.fixture
def youtubevos_root(tmp_path: Path) -> Path:
    return youtubevos.write(tmp_path / "youtubevos")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "with space")


@pytest.fixture
def tracker(ledger: Ledger) -> Tracker:
    """Open a tracker of an empty store beside the ledger."""
    return empty_tracker(ledger.storage)


@pytest.fixture
def reader(tracker: Tracker) -> MlflowReader:
    """Open a reader of the tracker's store."""
    return MlflowReader(tracker.connection)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Give each test one thread of torch, whatever the last one left.

    The tests' tensors are so small that a second thread mostly waits for the first, and on a busy
    machine it does so many times as long as the work takes.
    """
    torch.set_num_threads(1)
    return (yield)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("golden", "numbers of the public code")
    group.addoption("--golden", type=Path, metavar="DIR", help="folder of *.npz to hold to")
    group.addoption(
        "--golden-require", default="", metavar="NAME,...", help="files or patterns DIR must hold"
    )


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # also while tests are collected
    folder = config.getoption("--golden")
    names = [name for name in config.getoption("--golden-require").split(",") if name]
    if folder is None:
        if names:
            raise pytest.UsageError("--golden-require needs --golden DIR")
        return
    files = golden.found(folder)
    if not files:
        raise pytest.UsageError(f"--golden {folder}: no stcn_*, aot*, deaot* or r50_*.npz there")
    if lacking := golden.missing(names, files):
        there = ", ".join(path.stem for path in files)
        raise pytest.UsageError(f"--golden {folder}: no {', '.join(lacking)}; there are {there}")


def pytest_report_header(config: pytest.Config) -> str | None:
    folder = config.getoption("--golden")
    if folder is None:
        return None
    counts = Counter(golden.pattern(path) for path in golden.found(folder))
    return "golden: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder = metafunc.config.getoption("--golden")
    for family in golden.FAMILIES.keys() & metafunc.fixturenames:
        files = golden.found(folder, family) if folder else []
        metafunc.parametrize(family, files, ids=[path.stem for path in files])
