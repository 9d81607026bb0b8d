"""Test Ray's workers on a machine with unusual paths."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, environment

pytestmark = pytest.mark.slow

ASK_A_WORKER = """
import sys
import ray
from orchestrator.execution import ray_workers

ray_workers.start(None, dashboard=False)
try:
    asked = ray.remote(lambda: sys.executable)
    # An environment of its own, as Tune and Train give theirs: such workers go through a shell.
    told = asked.options(runtime_env={"env_vars": {"ANY": "1"}}).remote()
    print(ray.get(told, timeout=120))
finally:
    ray_workers.stop()
"""


def test_workers_start_where_the_interpreters_path_has_a_space(tmp_path):
    home = tmp_path / "with a space" / "venv"
    home.parent.mkdir()
    home.symlink_to(sys.prefix, target_is_directory=True)
    python = home / "bin" / Path(sys.executable).name
    done = subprocess.run(
        [python, "-c", ASK_A_WORKER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split("\n")[0] == str(python)
