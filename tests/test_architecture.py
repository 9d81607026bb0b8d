"""Test that the product keeps to the rules of tests/architecture.py."""

from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import LIBRARIES, PACKAGES, House

ROOT = Path(__file__).resolve().parent.parent


def sources():
    texts = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            texts[name.removesuffix(".__init__")] = path.read_text()
    assert len(texts) > 80
    return texts


HOUSE = House(sources())


@pytest.mark.parametrize(
    "rule",
    [
        architecture.homeless,
        architecture.upward,
        architecture.foreign,
        architecture.circle,
        architecture.strangers,
        architecture.burdened_errors,
        architecture.parsing_models,
        architecture.burdened_commands,
    ],
    ids=lambda rule: rule.__name__,
)
def test_the_product_breaks_no_rule(rule):
    assert rule(HOUSE) == []


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_room_that_may_use_a_heavy_library_does(library):
    assert set(architecture.users(HOUSE, library).values()) == LIBRARIES[library]


def test_every_command_is_known():
    known = {"orchestrator.sweep", "soups.greedy", "vosmodels.data.check.__main__"}
    assert known <= HOUSE.commands
    assert len(HOUSE.commands) >= 10


def test_folders_of_tests_mirror_the_rooms():
    rooms = {path.name for package in PACKAGES for path in folders(ROOT / package)}
    tests = {path.name for path in folders(ROOT / "tests")}
    assert len(rooms) > 10
    assert architecture.unmirrored(tests, rooms | {"soups"}) == []


def folders(parent):
    return [path for path in parent.iterdir() if path.is_dir() and any(path.glob("*.py"))]


def test_no_text_names_a_path_of_this_machine():
    files = [p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".yaml", ".toml", ".txt"}]
    files = [p for p in files if not {".venv", "results"} & set(p.relative_to(ROOT).parts)]
    assert len(files) > 50
    for path in files:
        assert str(ROOT.parent) + "/" not in path.read_text(), path
