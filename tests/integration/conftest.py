"""Run one small sweep as a person would, for all tests of its outputs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from orchestrator.tracking.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
KEPT = 3  # videos of each split that is scored, so that a sweep takes a minute
LEFT_OUT = [f"generated-val-{k:02d}" for k in range(KEPT, 12)]
LEFT_OUT += [f"generated-test-{k:02d}" for k in range(KEPT, 24)]
DATA = f"select_height: 64, select_stride: 4, report: test, max_objects: 1, leave_out: {LEFT_OUT}"
SWEEP = f"data: {{{DATA}}}"
SWEEP += """
name: tiny
student: {name: mobilevos_mobilenetv2_noaspp}
teacher: {steps: 4}
loss: {dice: 1.0}
stem: {steps: 4}
train:
  {steps: 20, checkpoint_every: 10, batch_size: 2, clip_length: 3, crop: 64, lr: 1.0e-6, amp: "off"}
sweep: {parameters: {train.lr: [1.0e-6, 1.0e+30]}}
cluster: {retries: 0, threads: 1}
"""


@dataclass(frozen=True)
class Sweep:
    """A sweep's file and storage; the folder has a space in its name, as people's have."""

    file: Path
    storage: Path

    @property
    def store(self):
        return f"sqlite:///{self.storage / 'mlflow.db'}"

    @property
    def told(self):
        return self.file.with_suffix(".stderr")

    def run(self, *overrides, timeout=900):
        return command("orchestrator.sweep", *self._words(overrides), timeout=timeout)

    @contextmanager
    def started(self, *overrides):
        """The sweep running in a process group of its own, as a shell's foreground job does: it
        heeds SIGINT even where this process was told to ignore it. What it says goes to `told`;
        whatever is left of it at the end is killed."""
        with self.told.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.sweep", *self._words(overrides)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment(),
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def take_teacher_and_stem(self, other):
        """Take from another sweep's storage all but what trials and soups left, and no store."""
        for kind in ("ledger", "checkpoints", "scores", "pictures"):
            shutil.copytree(other.storage / kind, self.storage / kind)
        for job in (*jobs(self, "trial"), *jobs(self, "soup")):
            for made in job.checkpoints():
                (self.storage / made.path).unlink(missing_ok=True)  # a soup may be one of them
            job.path.unlink()

    def _words(self, overrides):
        return [str(self.file), f"storage={self.storage}", *overrides]

    def command(self, module, *words, timeout=600):
        return command(module, *words, "--tracking-uri", self.store, timeout=timeout)


def command(module, *words, timeout=600):
    """Run `python -m module words` in another process, with its output kept."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(),
    )


def environment():
    """This process's, without a store that would be taken for the sweep's."""
    return {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}


def answer(done, code=0):
    """The JSON a command printed; the test fails with its stderr where the code is another."""
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout)


def jobs(sweep, role):
    """The records of the jobs of a role that have begun."""
    starts = [(job, job.started()) for job in Ledger(sweep.storage).jobs()]
    return [job for job, started in starts if started and started.role == role]


def make_sweep(folder):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiny.yaml"
    file.write_text(SWEEP)
    return Sweep(file, folder / "results of a sweep")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The sweep after its first run, and what that run said: one trial diverges, one ends well.

    Of several processes of pytest one runs it, the others take a copy.
    """
    folder = tmp_path_factory.mktemp("a sweep")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        sweep = make_sweep(folder)
        return sweep, sweep.run("--json")
    shared = tmp_path_factory.getbasetemp().parent / "a shared sweep"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            sweep = make_sweep(shared)
            done = sweep.run("--json")
            told = {"returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
            (shared / "told.json").write_text(json.dumps(told))
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    told = (folder / "told.json").read_text().replace(str(shared), str(folder))
    return make_sweep(folder), subprocess.CompletedProcess((), **json.loads(told))
