"""Test the copy of a storage folder in a store: what it holds after each put, what it refuses."""

import importlib
import logging
import sys
from pathlib import Path

import pytest

from orchestrator.tracking import leases, mirror
from orchestrator.tracking.events import Checkpoint, Failed, Losses, Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mirror import BOUND, Mirror, Unreachable
from orchestrator.tracking.storage import Storage
from tests import s3
from vosmodels.errors import InputError

STARTED = Started("trial", "omega=0.2", "sweep", {}, "stem", "omega", 12.5)
KEY = "ab12"


@pytest.fixture(scope="module")
def bucket():
    with s3.served() as url:
        yield url


@pytest.fixture(params=["memory", "file", "s3"])
def url(request, tmp_path):
    """The URL of an empty store."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return f"{request.param}://{tmp_path}/store"


@pytest.fixture
def node(tmp_path, url):
    """Maker of nodes, each a folder of its own beside the store."""

    def make(name):
        storage = Storage(tmp_path / name, url)
        storage.mirror.begin()
        return storage

    return make


def write(storage, *events):
    with Ledger.of(storage).job(KEY).claim() as record:
        for event in events:
            record.write(event)


def checkpoint(storage, name):
    path = storage.checkpoint(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    return Checkpoint(20, name, path.relative_to(storage.root).as_posix(), {"jf": 0.4}, {}, "stem")


def test_another_node_takes_a_record_with_the_files_that_it_names(node):
    here, there = node("here"), node("there")
    event = checkpoint(here, "c0ffee")
    write(here, STARTED, event)
    Ledger.of(there).pull([KEY])
    assert Ledger(there.root).job(KEY).events() == [STARTED, event]
    assert there.checkpoint("c0ffee").read_bytes() == b"c0ffee"


def test_a_record_is_in_the_store_only_after_the_checkpoint_that_it_names(node, monkeypatch):
    here, order = node("here"), []
    call = Mirror._call

    def noting(self, operation, name, *args, **kwargs):
        if args:  # what is put there
            order.append(name.split("/")[-2])
        return call(self, operation, name, *args, **kwargs)

    monkeypatch.setattr(Mirror, "_call", noting)
    write(here, checkpoint(here, "c0ffee"))
    puts = [name for name in order if name in ("ledger", "checkpoints")]
    assert puts == ["checkpoints", "ledger"]


def test_a_writer_goes_on_after_the_last_event_of_another_node(node):
    here, there = node("here"), node("there")
    write(here, STARTED)
    write(there, Losses(10, {"total": 0.5}))
    write(here, Losses(20, {"total": 0.4}))
    Ledger.of(there).pull([KEY])
    assert [e.step for e in Ledger(there.root).job(KEY).losses()] == [10, 20]


def test_an_old_copy_never_replaces_what_is_newer(node):
    """The writer here lost its store at once; another node went on."""
    here, there = node("here"), node("there")
    write(here, STARTED)
    with Ledger(here.root).job(KEY).claim() as record:  # of a process that cannot put
        record.write(Losses(10, {"total": 9.0}))
    write(there, Losses(10, {"total": 0.5}))
    write(here, Losses(20, {"total": 0.4}))
    for storage in (here, there):
        Ledger.of(storage).pull([KEY])
        losses = Ledger(storage.root).job(KEY).losses()
        assert [e.values["total"] for e in losses] == [0.5, 0.4]
    (kept,) = here.ledger.glob("*.jsonl.*")
    assert b"9.0" in kept.read_bytes()


def test_a_put_that_was_held_up_for_long_replaces_nothing_newer_in_s3(bucket, tmp_path):
    """Its writer has noticed nothing yet: the lease was looked at before the put."""
    here, there = (Storage(tmp_path / name, f"{bucket}/held-up") for name in ("here", "there"))
    for storage in (here, there):
        storage.mirror.begin()
    write(here, STARTED)
    with Ledger.of(here).job(KEY).claim() as slow, pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "LEASE_S", -1.0)
        write(there, Losses(10, {"total": 0.5}))
        patch.setattr(leases.Lease, "check", lambda lease: None)
        with pytest.raises(InputError, match=f"another process has put {KEY}.jsonl meanwhile"):
            slow.write(Losses(10, {"total": 9.0}))
    Ledger.of(there).pull([KEY], anew=True)
    assert [e.values["total"] for e in Ledger(there.root).job(KEY).losses()] == [0.5]


def test_a_driver_keeps_the_error_that_a_job_beside_it_could_not_put(node):
    here = node("here")
    write(here, STARTED)
    with Ledger(here.root).job(KEY).claim() as record:
        record.write(Failed("store is lost", "log"))
    Ledger.of(here).pull([KEY])
    assert Ledger(here.root).job(KEY).failed()
    Ledger.of(here).pull([KEY], anew=True)
    assert not Ledger(here.root).job(KEY).failed()


def test_a_record_that_was_set_aside_in_the_store_is_set_aside_here(node):
    here, there = node("here"), node("there")
    write(here, STARTED)
    Ledger.of(there).pull([KEY])
    path = Ledger(here.root).job(KEY).path
    here.mirror.rename(path, path.with_name(f"{KEY}.jsonl.20260101T000000"))
    Ledger.of(there).pull([KEY], anew=True)
    assert Ledger(there.root).jobs() == []


def test_a_folder_is_made_what_the_store_has(node):
    here, there = node("here"), node("there")
    for storage, names in ((here, ("1.json", "1.safetensors")), (there, ("2.json",))):
        storage.resume(KEY).mkdir(parents=True)
        for name in names:
            (storage.resume(KEY) / name).write_text(f"{storage.root.name} {name}")
    here.mirror.push_folder(here.resume(KEY), "1")
    there.mirror.pull_folder(there.resume(KEY))
    assert {p.name: p.read_text() for p in there.resume(KEY).iterdir()} == {
        "1.json": "here 1.json",
        "1.safetensors": "here 1.safetensors",
    }


def test_a_folder_with_jobs_of_its_own_is_refused_and_left_as_it_is(tmp_path, url):
    storage = Storage(tmp_path / "old")
    write(storage, STARTED)
    before = storage.ledger.joinpath(f"{KEY}.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"old has jobs that are no copy of .*give a new folder"):
        Storage(storage.root, url).mirror.begin()
    assert storage.ledger.joinpath(f"{KEY}.jsonl").read_bytes() == before
    assert not (storage.root / BOUND).exists()


@pytest.mark.parametrize("other", [None, "memory://other"])
def test_a_working_copy_is_refused_for_another_store_and_for_none(node, other):
    here = node("here")
    with pytest.raises(InputError, match=f"is a working copy of {here.remote}, but cluster.stor"):
        Storage(here.root, other).mirror.begin()


def test_the_storage_folder_itself_is_refused_as_its_store(tmp_path):
    with pytest.raises(InputError, match="is the folder `storage` itself"):
        Mirror(tmp_path, f"file://{tmp_path}").begin()


def test_a_store_without_its_package_is_named_with_the_extra(tmp_path, monkeypatch):
    importlib.import_module("fsspec")
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)  # its import fails
    with pytest.raises(InputError, match=r"s3://b/p needs an extra: pip install '\.\[s3\]'"):
        Mirror(tmp_path, "s3://b/p").begin()


def test_an_unknown_protocol_is_refused_by_its_url(tmp_path):
    with pytest.raises(InputError, match=r"cluster.storage: nope://x: .*give a shared path"):
        Mirror(tmp_path, "nope://x").begin()


def test_a_store_that_does_not_answer_is_asked_again_with_one_line(node, monkeypatch, caplog):
    here = node("here")
    monkeypatch.setattr(mirror, "FIRST_WAIT_S", 0.01)
    write_, left = Mirror._write, [3]

    def flaky(self, *args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise TimeoutError("no route")
        return write_(self, *args, **kwargs)

    monkeypatch.setattr(Mirror, "_write", flaky)
    with caplog.at_level(logging.WARNING):
        here.mirror.put(here.root / "x", b"1")
    assert here.mirror.get(here.root / "x") == b"1"
    assert sum("no route" in record.message for record in caplog.records) == 1


def test_a_store_that_is_lost_is_an_error_with_place_and_remedy(node, monkeypatch):
    here = node("here")
    monkeypatch.setattr(mirror, "RETRY_S", 0.0)

    def lost(*args, **kwargs):
        raise OSError("no route")

    record = Ledger.of(here).job(KEY)
    with record.claim():
        record.write(STARTED)
        for put in ("_write", "_replace"):
            monkeypatch.setattr(Mirror, put, lost)
        with pytest.raises(Unreachable, match=f"{here.remote} cannot be reached.*no route.*same"):
            record.write(Losses(10, {"total": 0.5}))


def test_a_lost_store_is_waited_for_once_and_not_by_each_put(node, monkeypatch):
    here, tries, real = node("here"), [], Mirror._write
    monkeypatch.setattr(mirror, "RETRY_S", 0.1)
    monkeypatch.setattr(mirror, "FIRST_WAIT_S", 0.02)

    def lost(*args, **kwargs):
        tries.append(1)
        raise OSError("no route")

    def put():
        tries.clear()
        with pytest.raises(Unreachable):
            here.mirror.put(here.root / "x", b"1")
        return len(tries)

    monkeypatch.setattr(Mirror, "_write", lost)
    assert put() > 1
    assert put() == 1
    monkeypatch.setattr(Mirror, "_write", real)
    here.mirror.put(here.root / "x", b"1")
    monkeypatch.setattr(Mirror, "_write", lost)
    assert put() > 1


def test_a_job_of_another_node_is_seen_to_be_claimed(node):
    here, there = node("here"), node("there")
    with Ledger.of(here).job(KEY).claim():
        assert Ledger.of(there).job(KEY).claimed
    assert not Ledger.of(there).job(KEY).claimed


def test_a_node_refuses_a_token_that_its_store_lacks(node, tmp_path):
    from orchestrator.execution.nodes import look, object_of

    here = node("here")
    with object_of(here) as token:
        assert look(token, here).storage == ""
        other = Storage(here.root, f"memory://{tmp_path}/another")
        assert "is not seen" in look(token, other).storage
    assert here.mirror.names(here.leases) == {}


def test_without_a_store_nothing_is_done(tmp_path):
    alone = Mirror(tmp_path / "results", None)
    alone.begin()
    alone.push([Path(__file__)])
    with leases.held(alone, "job") as lease:
        lease.check()
    assert alone.names(tmp_path) == {}
    assert not (tmp_path / "results").exists()
