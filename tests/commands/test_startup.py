"""Test that help and wrong command lines are answered without heavy libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests import misuse

HEAVY = ("torch", "torchvision", "ray", "mlflow", "cv2", "matplotlib", "numpy")
SOME = {"cv2", "numpy"}  # may be loaded for what lies on disk, by a command's own readers
TREE = Path(__file__).resolve().parents[2]

# One process for all: what a command loads is blamed on it, as none has loaded it before.
RUN_ALL = """
import importlib, json, os, sys
heavy, lines = json.load(sys.stdin)
ends = []
with open(os.devnull, "w") as sys.stdout, open(os.devnull, "w") as sys.stderr:
    for name, module, words in lines:
        before = set(sys.modules)
        code = importlib.import_module(module).main(words)
        ends.append((name, code, sorted((set(sys.modules) - before) & set(heavy))))
json.dump(ends, sys.__stdout__)
"""


def test_help_and_wrong_command_lines_load_no_heavy_library(tmp_path):
    misuse.write_files(tmp_path)
    cases = sorted(misuse.cases(), key=lambda case: case.code == 1)  # these may load SOME
    lines = [(case.name, _module(case.module), case.words) for case in cases]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input=json.dumps((HEAVY, lines)),
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(TREE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert [(name, code) for name, code, _ in ends] == [(case.name, case.code) for case in cases]
    allowed = {case.name: SOME if case.code == 1 else set() for case in cases}
    assert [(name, loaded) for name, _, loaded in ends if set(loaded) - allowed[name]] == []


def test_every_command_is_among_those_misused():
    files = [p for package in ("orchestrator", "soups", "vosmodels") for p in _python(package)]
    with_main = {_name(path) for path in files if "\nif __name__ == " in path.read_text()}
    assert len(with_main) >= 10
    assert with_main == {_module(command) for command in misuse.COMMANDS}


def _python(package):
    return (TREE / package).rglob("*.py")


def _name(path):
    return ".".join(path.relative_to(TREE).with_suffix("").parts)


def _module(command):
    """The module behind `python -m command`: a package's is its __main__."""
    folder = TREE.joinpath(*command.split("."))
    return f"{command}.__main__" if folder.is_dir() else command
