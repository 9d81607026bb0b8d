"""Test resume states on disk: which one is read, and what a full disk leaves."""

import pytest
import torch

from orchestrator.training import resume
from tests.full_disk import room
from vosmodels.errors import InputError
from vosmodels.support.atomic_files import write_whole


def newest(folder):
    found = resume.newest(folder)
    assert found is not None
    return found


def tensors(value):
    return {"a": torch.full((300,), float(value)), "b": torch.tensor(value)}


def three_states(folder):
    for step in (2, 4, 6):
        resume.write(folder, step, tensors(step))
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


KEPT = ["0000004.json", "0000004.safetensors", "0000006.json", "0000006.safetensors"]


def test_the_newest_state_comes_back_and_two_are_kept(tmp_path):
    step, found = newest(three_states(tmp_path))
    assert step == 6
    assert found.keys() == {"a", "b"}
    for name, value in tensors(6).items():
        assert torch.equal(found[name], value)
    assert names(tmp_path) == KEPT


def test_what_a_killed_process_left_behind_goes_with_the_next_state(tmp_path):
    resume.write(tmp_path, 2, tensors(2))
    (tmp_path / "0000001.safetensors").write_bytes(b"its description was deleted first")
    (tmp_path / ".0000004.safetensors.0123").write_bytes(b"half of")
    assert newest(tmp_path)[0] == 2
    resume.write(tmp_path, 4, tensors(4))
    resume.write(tmp_path, 6, tensors(6))
    assert names(tmp_path) == KEPT


def one_bit(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize(
    "tear",
    [lambda data: b"", lambda data: data[:9], lambda data: data[:-1], one_bit],
    ids=["empty", "9 bytes", "a byte short", "one bit"],
)
def test_a_torn_newest_state_is_named_and_the_one_before_taken(tmp_path, caplog, suffix, tear):
    path = three_states(tmp_path) / f"0000006{suffix}"
    path.write_bytes(tear(path.read_bytes()))
    step, found = newest(tmp_path)
    assert step == 4
    assert torch.equal(found["a"], tensors(4)["a"])
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "0000006.safetensors: resume state is not what was written" in record.message
    resume.write(tmp_path, 6, tensors(6))
    assert newest(tmp_path)[0] == 6
    assert names(tmp_path) == KEPT


def test_where_every_state_is_torn_there_is_none(tmp_path, caplog):
    for path in three_states(tmp_path).glob("*.safetensors"):
        path.unlink()
    assert resume.newest(tmp_path) is None
    assert [r.message.split(":")[0][-19:] for r in caplog.records] == [
        "0000006.safetensors",
        "0000004.safetensors",
    ]


def test_a_full_disk_is_said_in_one_line_and_the_earlier_states_stay(tmp_path):
    three_states(tmp_path)
    said = r"0000008\.safetensors: cannot be written.*free space"
    with room(1000), pytest.raises(InputError, match=said):
        resume.write(tmp_path, 8, tensors(8))
    assert names(tmp_path) == KEPT
    assert newest(tmp_path)[0] == 6


def test_a_disk_that_is_full_after_the_tensors_leaves_nothing_of_the_state(tmp_path, monkeypatch):
    three_states(tmp_path)
    write = write_whole

    def full(path, data):
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(resume, "write_whole", full)
    with pytest.raises(InputError, match="No space left on device"):
        resume.write(tmp_path, 8, tensors(8))
    assert names(tmp_path) == KEPT
