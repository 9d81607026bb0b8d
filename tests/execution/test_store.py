"""Test jobs on nodes that share no file system, only a store: from it alone each goes on exactly.

A node is a storage folder of its own; a kill is what the store has right before one of its changes.
"""

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.execution import job as jobs
from orchestrator.planning import calibration
from orchestrator.planning.plan import Plan
from orchestrator.tracking import leases
from orchestrator.tracking.events import Code
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.storage import Storage
from orchestrator.training import resume
from tests.conftest import write_davis
from tests.execution import one_job
from tests.execution.test_exact_resume import ended, started
from tests.execution.test_job import plan_on
from vosmodels.support.digests import sha256_of

CHANGES = ("_write", "rm_file")  # of what a store holds


@dataclass(frozen=True)
class Begun:
    """A plan, and the store of a node that has trained its teacher and its stem."""

    plan: Plan
    store: Path

    def store_of(self, name):
        """Another store, with the same in it."""
        return shutil.copytree(self.store, self.store.with_name(name))


@pytest.fixture(scope="module", autouse=True)
def few_calibration_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "BATCHES", 1)
        yield


@pytest.fixture(autouse=True)
def leases_run_out_at_once(monkeypatch):
    monkeypatch.setattr(leases, "LEASE_S", -1.0)
    monkeypatch.setattr(leases, "RENEW_S", 1000.0)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    plan = plan_on(write_davis(folder / "davis", 2016))
    store = folder / "store"
    for number, job in enumerate((plan.teacher, *plan.stems)):  # each on a node of its own
        jobs.run([job], node(folder / f"node-{number}", store))
    return Begun(plan, store)


@pytest.fixture(scope="module")
def unbroken(begun, tmp_path_factory):
    """What the second trial ends with on a machine without a store."""
    root = shutil.copytree(begun.store, tmp_path_factory.mktemp("unbroken") / "results")
    jobs.run([begun.plan.trials[1]], Storage(root))
    return made(Storage(root), begun.plan.trials[1])


def node(folder, store):
    return Storage(folder, f"file://{store}")


def made(storage, job):
    """What must be the same, whatever happened on the way."""
    record = Ledger(storage.root).job(job.key)
    assert record.state == "done"
    return [(each.step, each.sha256, each.scores) for each in record.checkpoints()]


@pytest.fixture(scope="module")
def kills(begun, tmp_path_factory):
    """The store as it is right before each of its changes by the second trial, and at the end.

    That is what a process leaves there which is killed at that moment.
    """
    folder, left = tmp_path_factory.mktemp("kills"), list[Path]()
    store, call = begun.store_of("store of kills"), Mirror._call

    def keeping(self, operation, *args, **kwargs):
        if operation.__name__ in CHANGES:
            left.append(shutil.copytree(store, folder / f"store-{len(left)}"))
        return call(self, operation, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mirror, "_call", keeping)
        patch.setattr(leases, "RENEW_S", 1000.0)
        jobs.run([begun.plan.trials[1]], node(folder / "lost", store))
    assert len(left) > 25
    return [*left, store]


def goes_on(store, job, folder):
    """What a job ends with on a node that has nothing but a store."""
    storage = node(folder, store)
    jobs.run([job], storage)
    Ledger.of(storage).pull([job.key], anew=True)
    return made(storage, job)


def test_at_every_moment_the_store_has_what_its_records_and_descriptions_name(kills, begun):
    key = begun.plan.trials[1].key
    steps = []
    for store in kills:
        storage = Storage(store)
        record = Ledger(store).job(key)
        for event in record.events():
            assert not hasattr(event, "path") or (store / event.path).is_file()
        assert {path.stem for path in storage.checkpoints.iterdir()} == {
            sha256_of(path) for path in storage.checkpoints.iterdir()
        }
        states = resume.steps(storage.resume(key))
        for step in states:
            resume.read(storage.resume(key), step)
        assert set(states) <= {made.step for made in record.checkpoints()}
        steps.append(max(states, default=0))
    assert set(steps) == {0, 2, 4}
    assert steps[-1] == 0  # a job that is done needs none
    first, last = steps.index(2), len(steps) - steps[::-1].index(4)
    assert all(steps[first:last]), "no state to go on from, once there was one"


def test_a_job_killed_beside_its_resume_state_goes_on_elsewhere_with_equal_bits(
    begun, unbroken, kills, tmp_path
):
    """Right after the first state is whole; all other moments are tested among the slow ones."""
    trial = begun.plan.trials[1]
    first = next(store for store in kills if resume.steps(Storage(store).resume(trial.key)))
    store = shutil.copytree(first, tmp_path / "store")
    assert goes_on(store, trial, tmp_path / "node") == unbroken
    codes = Ledger(tmp_path / "node").job(trial.key).of(Code)
    assert [code.at for code in codes] == [0, 2]


@pytest.mark.slow
@pytest.mark.soak
def test_a_job_killed_between_any_two_puts_goes_on_elsewhere_with_equal_bits(
    begun, unbroken, kills, tmp_path
):
    for number, store in enumerate(kills):
        other = shutil.copytree(store, tmp_path / f"store-{number}")
        assert goes_on(other, begun.plan.trials[1], tmp_path / f"node-{number}") == unbroken, number


@pytest.mark.slow
def test_two_workers_on_two_nodes_go_on_elsewhere_as_two_that_share_a_folder(begun, tmp_path):
    trial = begun.plan.trials[1]
    shared = shutil.copytree(begun.store, tmp_path / "shared")
    store = begun.store_of("store of two nodes")

    def run(roots, *more):
        meeting = tmp_path / f"meeting-{roots[0].name}"
        group = [
            started(one_job.together, rank, 2, [trial], root, meeting, *more)
            for rank, root in enumerate(roots)
        ]
        return [ended(process) for process in group]

    assert run([shared, shared]) == [0, 0]
    codes = run([tmp_path / "a", tmp_path / "b"], f"file://{store}", True)
    assert codes[0] == -signal.SIGKILL
    assert resume.steps(Storage(store).resume(trial.key)) == [2]
    other = [tmp_path / "c", tmp_path / "d"]
    assert run(other, f"file://{store}") == [0, 0]
    assert made(Storage(other[0]), trial) == made(Storage(shared), trial)
    assert [code.at for code in Ledger(other[0]).job(trial.key).of(Code)] == [0, 2]
