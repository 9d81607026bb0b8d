"""Test that one process at a time holds a lease, and that one which ran out is taken over."""

import itertools
import shutil
import threading
import time
from datetime import timedelta

import pytest

from orchestrator.tracking import leases
from orchestrator.tracking.leases import Lease, held
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.storage import Storage
from tests.tracking.test_mirror import KEY, STARTED
from vosmodels.errors import InputError


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(leases, "LOOK_S", 0.01)


@pytest.fixture
def node(tmp_path):
    def make(name):
        mirror = Storage(tmp_path / name, f"memory://{tmp_path}").mirror
        mirror.begin()
        return mirror

    return make


@pytest.fixture
def later(monkeypatch):
    """Moves the clock of the store forward."""
    ahead = [timedelta()]
    modified = Mirror.modified

    def shifted(self, path):
        clock = "clock" in path.name
        return modified(self, path) + (ahead[0] if clock else timedelta())

    monkeypatch.setattr(Mirror, "modified", shifted)

    def move(seconds):
        ahead[0] = timedelta(seconds=seconds)

    return move


def killed(mirror, name):
    """A lease of a process that was killed: nobody renews or releases it."""
    lease = Lease(mirror, name)
    lease.take()
    lease._closing.set()
    return lease


def test_a_second_driver_is_refused_by_the_name_of_the_first(node, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_S", 0.02)
    first, second = node("a"), node("b")
    with (
        held(first, "sweep"),
        pytest.raises(InputError, match=r"sweep is held by process \d+ on .*; wait for it, or"),
        held(second, "sweep", hasty=True),
    ):
        pytest.fail("two drivers")
    with held(second, "sweep") as lease:
        lease.check()


def test_a_lease_that_ran_out_is_taken_over_and_its_holder_notices(node, later):
    first, second = node("a"), node("b")
    old = killed(first, "job")
    later(leases.LEASE_S + 1)
    with held(second, "job") as new:
        assert new.number == old.number + 1
        new.check()
        old._renewed = -1e9  # it stood still
        with pytest.raises(InputError, match="job was taken over by process"):
            old.check()
        new.check()


def test_a_lease_is_not_taken_over_before_it_runs_out(node, later, monkeypatch):
    killed(node("a"), "job")
    later(leases.LEASE_S - 1)
    monkeypatch.setattr(leases, "LOOK_S", leases.LEASE_S)  # the second look is the last
    ticks = itertools.count(0, 100)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(time, "sleep", lambda s: None)
    with pytest.raises(InputError, match="job is held by"), held(node("b"), "job"):
        pytest.fail("two writers")


def test_a_lease_of_the_same_working_copy_is_taken_over_at_once(node):
    mirror = node("a")
    killed(mirror, "job")
    with held(mirror, "job", wait_s=0.0) as lease:
        assert lease.number == 2


def test_a_copied_folder_is_another_working_copy(node, tmp_path):
    mirror = node("a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert Mirror(tmp_path / "b", mirror.url).copy != mirror.copy


def test_of_many_that_take_a_lease_at_once_one_gets_it(node, monkeypatch):
    """Stores create an object in one step, as memory:// does only under a lock."""
    lock, create = threading.Lock(), Mirror.create

    def atomic(self, path, data):
        with lock:
            return create(self, path, data)

    monkeypatch.setattr(Mirror, "create", atomic)
    monkeypatch.setattr(leases, "LEASE_S", 0.5)
    inside, most, meet = [], [], threading.Barrier(4)

    def work(mirror):
        meet.wait()
        with held(mirror, "job", wait_s=30.0):
            inside.append(mirror)
            most.append(len(inside))
            inside.remove(mirror)

    threads = [threading.Thread(target=work, args=(node(f"n{n}"),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


def test_a_renewal_leaves_a_lease_that_another_took_as_it_is(node, later):
    first, second = node("a"), node("b")
    old = killed(first, "job")
    later(leases.LEASE_S + 1)
    new = killed(second, "job")
    old._renew()
    assert "process" in old.lost
    assert new._newest() == new.number
    new._renew()
    assert not new.lost


def test_a_writer_that_was_overtaken_writes_nothing_more_to_the_store(node, later, tmp_path):
    nodes = [Storage(tmp_path / name, f"memory://{tmp_path}") for name in "ab"]
    for storage in nodes:
        storage.mirror.begin()
    first, second = (Ledger.of(storage).job(KEY) for storage in nodes)
    with first.claim():
        lease = first._lease
        assert lease is not None
        lease._closing.set()
        later(leases.LEASE_S + 1)
        with second.claim():
            second.write(STARTED)
            lease._renewed = -1e9
            with pytest.raises(InputError, match="taken over"):
                first.write(STARTED)
            assert nodes[0].mirror.get(first.path) == second.path.read_bytes()
