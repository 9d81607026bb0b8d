"""Test the record of code, machine and command."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

from vosmodels.support import provenance


def git(*words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that has vosmodels/support/provenance.py, code and a committed result."""
    for name in ("vosmodels/support/provenance.py", "code.py", "sweeps/results/old.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "vosmodels" / "support" / "provenance.py")
    )
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    return tmp_path


def test_commit_is_the_head_of_the_code(repository: Path):
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert provenance.commit() == head.stdout[:7]


def test_commit_has_a_plus_where_code_differs_but_not_for_figures(repository: Path):
    clean = provenance.commit()
    (repository / "sweeps" / "results" / "old.json").write_text("2")
    (repository / "new.py").write_text("2")  # untracked
    assert provenance.commit() == clean
    (repository / "code.py").write_text("2")
    assert provenance.commit() == f"{clean}+"


def test_commit_is_unknown_outside_git_and_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        provenance, "__file__", str(tmp_path / "vosmodels" / "support" / "provenance.py")
    )
    assert provenance.commit() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == "unknown"


def test_machine_names_cores_processor_and_torch():
    told = provenance.machine()
    assert told.startswith(f"{len(os.sched_getaffinity(0))} cores of {provenance.processor()}")
    assert told.endswith(f"torch {torch.__version__}")


def test_a_command_line_can_be_typed_again():
    words = ["--out", "a b.json", "train.lr=1e-4"]
    assert shlex.split(provenance.command_line("x.y", words)) == ["python", "-m", "x.y", *words]


def test_today_is_year_month_day():
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", provenance.today())
