"""Test each rule of the layout on a tiny tree that breaks it, and on a mended one."""

import pytest

from tests import architecture
from tests.architecture import OTHER_TESTS, House, unmirrored

COMMAND = "if __name__ == '__main__':\n    main()\n"


def house(changes=None):
    """A small house that keeps every rule; `changes` replaces sources of modules."""
    sources = {
        "orchestrator": "",
        "orchestrator.config": "from orchestrator.config.sections import load",
        "orchestrator.config.sections": "from vosmodels import errors",
        "orchestrator.execution.driver": "import ray\nfrom orchestrator.planning import plan",
        "orchestrator.pipeline": "from soups.recipe import cook",
        "orchestrator.planning.plan": "from orchestrator import config",
        "orchestrator.sweep": f"import argparse\ndef main():\n    map(abs, [])\n{COMMAND}",
        "orchestrator.training.loop": "from vosmodels.spacetime import network",
        "soups.recipe": "from orchestrator.config import load",
        "vosmodels": "",
        "vosmodels.data": "",
        "vosmodels.data.davis": "from vosmodels.errors import InputError\nfrom . import masks",
        "vosmodels.data.masks": "import cv2",
        "vosmodels.errors": "class InputError(Exception): ...",
        "vosmodels.spacetime.network": "",
    }
    return House(sources | (changes or {}))


RULES = [
    architecture.homeless,
    architecture.upward,
    architecture.foreign,
    architecture.circle,
    architecture.strangers,
    architecture.burdened_errors,
    architecture.parsing_models,
    architecture.burdened_commands,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_house_in_order_breaks_no_rule(rule):
    assert rule(house()) == []


@pytest.mark.parametrize(
    ("rule", "module", "source", "problem"),
    [
        ("homeless", "vosmodels.attic", "", "vosmodels.attic"),
        (
            "upward",
            "orchestrator.planning.plan",
            "import orchestrator.execution.driver",
            "orchestrator.planning.plan imports orchestrator.execution.driver",
        ),
        (  # inside a function, by the room's name
            "upward",
            "vosmodels.errors",
            "def f():\n    from vosmodels.data import masks",
            "vosmodels.errors imports vosmodels.data.masks",
        ),
        (
            "upward",
            "vosmodels.data.masks",
            "from ..spacetime.network import Network",
            "vosmodels.data.masks imports vosmodels.spacetime.network",
        ),
        (
            "upward",
            "orchestrator.training.loop",
            "from orchestrator.planning.plan import Plan",
            "orchestrator.training.loop imports orchestrator.planning.plan",
        ),
        (
            "foreign",
            "vosmodels.data.masks",
            "from orchestrator.config import load",
            "vosmodels.data.masks imports orchestrator.config",
        ),
        (
            "foreign",
            "orchestrator.training.loop",
            "import soups.recipe",
            "orchestrator.training.loop imports soups.recipe",
        ),
        (
            "foreign",
            "soups.recipe",
            "from orchestrator.execution import driver",
            "soups.recipe imports orchestrator.execution.driver",
        ),
        ("circle", "vosmodels.data.masks", "from vosmodels.data import davis", None),
        (
            "strangers",
            "orchestrator.training.loop",
            "def f():\n    from ray import train",
            "orchestrator.training.loop imports ray",
        ),
        (
            "strangers",
            "orchestrator.pipeline",
            "import mlflow.tracking",
            "orchestrator.pipeline imports mlflow",
        ),
        ("burdened_errors", "vosmodels.errors", "import os", "os"),
        ("parsing_models", "vosmodels.data.masks", "import argparse", "vosmodels.data.masks"),
        (
            "burdened_commands",
            "orchestrator.pipeline",
            "from orchestrator.sweep import main",
            "orchestrator.pipeline imports orchestrator.sweep",
        ),
        (
            "burdened_commands",
            "orchestrator.sweep",
            f"import logging\n{COMMAND}",
            "orchestrator.sweep imports logging",
        ),
        (
            "burdened_commands",
            "orchestrator.sweep",
            f"class Held: ...\n{COMMAND}",
            "orchestrator.sweep defines Held",
        ),
        (
            "burdened_commands",
            "orchestrator.sweep",
            f"def work(): ...\npool.submit(work)\n{COMMAND}",
            "orchestrator.sweep calls submit",
        ),
        (
            "burdened_commands",
            "orchestrator.sweep",
            f"def work(): ...\npool.map(work, [])\n{COMMAND}",
            "orchestrator.sweep calls map",
        ),
        (
            "burdened_commands",
            "vosmodels.data.check.__main__",
            f"from vosmodels.support.processes import helpers\nhelpers(2)\n{COMMAND}",
            "vosmodels.data.check.__main__ calls helpers",
        ),
    ],
)
def test_a_rule_sees_what_breaks_it(rule, module, source, problem):
    problems = getattr(architecture, rule)(house({module: source}))
    if problem is None:
        assert {"vosmodels.data.davis", "vosmodels.data.masks"} == set(problems)
    else:
        assert problems == [problem]


def test_a_folder_of_tests_without_a_room_and_a_room_without_tests_are_seen():
    assert unmirrored({"data", *OTHER_TESTS}, {"data"}) == []
    assert unmirrored({"data", "attic", *OTHER_TESTS}, {"data", "config"}) == [
        "tests/attic mirrors no room",
        "tests/config is missing",
    ]
