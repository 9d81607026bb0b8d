"""Test a sweep whose storage lies on a disk that is mounted read-only."""

import shlex
import shutil
import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT, environment, make_sweep

pytestmark = pytest.mark.slow


def run_with_read_only(folder, command):
    """Run a command that sees a folder mounted read-only; skip where this user may not mount."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare")
    place = shlex.quote(str(folder))
    mounted = f"mount --bind {place} {place} && mount -o remount,bind,ro {place}"
    for words in ("true", shlex.join(command)):
        done = subprocess.run(
            [unshare, "-rm", "sh", "-c", f"{mounted} && exec {words}"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if words == "true" and done.returncode:
            pytest.skip(f"needs to mount: {done.stderr}")
    return done


@pytest.mark.parametrize("begun", [False, True])
def test_a_read_only_storage_is_an_error_before_anything_starts(tmp_path, begun):
    sweep = make_sweep(tmp_path / "read only")
    sweep.storage.mkdir()
    if begun:
        (sweep.storage / "ledger").mkdir()
    command = [sys.executable, "-m", "orchestrator.sweep", str(sweep.file)]
    done = run_with_read_only(sweep.storage, [*command, f"storage={sweep.storage}"])
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: storage: {sweep.storage}: cannot write")
    assert line.endswith("give another folder")
    assert [path.name for path in sweep.storage.rglob("*")] == ["ledger"] * begun
