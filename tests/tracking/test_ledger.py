"""Test the ledger: crashes, replays, two processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.tracking.events import (
    KINDS,
    Attention,
    Checkpoint,
    Code,
    Done,
    Evaluated,
    Event,
    Failed,
    Gradients,
    Losses,
    Picture,
    Segmented,
    Souped,
    Speed,
    Started,
    Stopped,
    Taught,
    Usage,
    Warned,
)
from orchestrator.tracking.ledger import JobRecord, Ledger
from tests.full_disk import room
from tests.stores import checkpoint_of, sha_of
from vosmodels.errors import InputError

STARTED = Started("trial", "omega=0.2", "sweep", {"loss": {"omega": 0.2}}, "stem", "omega", 12.5)
EVENTS: list[Event] = [
    STARTED,
    Code(0, {"vosmodels/losses.py": "ab"}, "2.14.1"),
    Segmented(1, 3),
    Taught("stcn ab", "video", 0.7, 3, 0.25),
    Losses(10, {"total": 0.5}),
    Speed(10, {"samples": 3.5}),
    Gradients(10, {"ce_z": 0.5}),
    Usage(10, 12.5, {"cpu_utilization_percentage": 50.0}),
    Warned(10, "loss.logit: too much"),
    Evaluated(10, {"jf": 0.4}, {"ant": {"j": 0.1}}, "report"),
    Checkpoint(20, "ab", "checkpoints/ab.safetensors", {"jf": 0.4}, {"ant": {"j": 0.4}}, "stem"),
    Picture(20, "pictures/k/20.png"),
    Attention(20, "pictures/k/attention-20.png"),
    Souped("pool", ["a"], [{"name": "a", "accepted": True}], {"jf": 0.5}),
    Stopped(20, "asha"),
    Failed("ValueError: no", "logs/k.log"),
    Done(3.5, 200.0, {"jf": 0.5}, {"note": "x"}),
]


@pytest.fixture
def job(tmp_path: Path) -> JobRecord:
    return Ledger(tmp_path).job("k")


def write(job: JobRecord, *events: Event) -> None:
    with job.claim():
        for event in events:
            job.write(event)


def state(job: JobRecord) -> str:
    return job.state


def claimed(job: JobRecord) -> bool:
    return job.claimed


def test_every_kind_of_event_comes_back_as_it_was_written(job: JobRecord):
    assert {type(event) for event in EVENTS} == set(KINDS.values())
    write(job, *EVENTS)
    assert job.events() == EVENTS
    assert job.path.read_text().count("\n") == len(EVENTS)


def test_a_line_torn_by_a_crash_is_no_event_and_the_next_writer_cuts_it_off(job: JobRecord):
    write(job, STARTED, Losses(10, {"total": 0.5}))
    whole = job.path.read_bytes()
    for cut in range(1, len(whole) - whole.index(b"\n") - 1):
        job.path.write_bytes(whole[:-cut])
        assert job.events() == [STARTED]
    write(job, Losses(20, {"total": 0.4}))
    assert job.events() == [STARTED, Losses(20, {"total": 0.4})]


@pytest.mark.parametrize(
    "tail", [b"\0" * 4096, b"\0" * 9 + b"\n", b'{"kind":"do\0\0', b"\0\n\0\0\n", b'{"kind":"done"']
)
def test_nuls_of_a_power_cut_are_cut_off_with_a_word_and_no_whole_line_is_lost(
    job: JobRecord, caplog: pytest.LogCaptureFixture, tail: bytes
):
    write(job, *EVENTS[:2])
    whole = job.path.read_bytes()
    job.path.write_bytes(whole + tail)
    assert job.events() == EVENTS[:2]
    assert job.path.read_bytes() == whole + tail  # a reader changes nothing
    with caplog.at_level("WARNING", "orchestrator"):
        write(job, EVENTS[2])
    assert f"{job.path}: its last {len(tail)} bytes are no whole line" in caplog.text
    assert job.path.read_bytes()[: len(whole)] == whole
    assert Ledger(job.storage).job("k").events() == EVENTS[:3]


def test_nuls_between_whole_lines_are_told_with_their_line(job: JobRecord):
    write(job, *EVENTS[:2])
    first, second = job.path.read_bytes().splitlines(keepends=True)
    job.path.write_bytes(first + b"\0" * 8 + b"\n" + second)
    with pytest.raises(InputError, match=r"k\.jsonl: line 2: b'.x00"):
        job.events()


def test_a_reader_sees_what_another_appends_and_reads_no_line_twice(
    job: JobRecord, tmp_path, monkeypatch
):
    write(job, *EVENTS[:-1])
    reader = Ledger(tmp_path).job("k")
    read: list[bytes] = []
    parse = JobRecord._parse

    def noted(job: JobRecord, line: bytes, number: int) -> Event:
        read.append(line)
        return parse(job, line, number)

    monkeypatch.setattr(JobRecord, "_parse", noted)
    reader.events().clear()  # a caller's own copy
    assert reader.events() == EVENTS[:-1]
    last = EVENTS[-1]
    write(job, last)
    whole = job.path.read_bytes()
    job.path.write_bytes(whole[:-3])  # as while it is being written
    assert reader.events() == EVENTS[:-1]
    job.path.write_bytes(whole)
    assert reader.events() == EVENTS
    assert len(read) == len(set(read)) == len(EVENTS)
    job.path.unlink()
    assert reader.events() == []
    write(job, STARTED)
    assert reader.events() == [STARTED]


def test_of_replayed_steps_the_first_record_counts(job: JobRecord):
    first = [Losses(10, {"total": 1.0}), Losses(20, {"total": 2.0}), Evaluated(20, {"jf": 1.0})]
    write(job, STARTED, *first)
    write(job, STARTED, Losses(20, {"total": 9.0}), Evaluated(20, {"jf": 9.0}))
    write(job, Evaluated(20, {"jf": 3.0}, split="report"), Losses(30, {"total": 3.0}))
    assert [(e.step, e.values["total"]) for e in job.losses()] == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert [(e.split, e.scores["jf"]) for e in job.of(Evaluated)] == [
        ("select", 1.0),
        ("report", 3.0),
    ]
    assert len(job.of(Started)) == 2


def test_warnings_are_on_one_line_and_a_job_goes_on_with_them(job: JobRecord):
    write(job, STARTED)
    assert job.warnings() == ""
    write(job, Warned(10, "too much"), Warned(10, "replayed"), Warned(20, "too little"))
    assert job.warnings() == "too much; too little"
    assert state(job) == "running"


def test_the_state_is_that_of_the_newest_turn_and_done_is_for_good(job: JobRecord):
    assert state(job) == "new"
    write(job, STARTED)
    assert state(job) == "running"
    write(job, Failed("boom"))
    assert (state(job), job.failed()) == ("failed", Failed("boom"))
    write(job, STARTED, Losses(1, {}))
    assert (state(job), job.failed()) == ("running", None)
    write(job, Done(1.0))
    write(job, Evaluated(1, {"jf": 0.1}, split="report"), Failed("too late"))
    assert (state(job), job.failed()) == ("done", None)
    assert job.done() == Done(1.0)


def test_writing_without_the_claim_is_refused(job: JobRecord):
    with pytest.raises(ValueError, match="write 'losses' without its claim"):
        job.write(Losses(1, {}))
    assert not job.path.exists()


def test_numbers_that_are_not_finite_are_refused_and_leave_no_line(job: JobRecord):
    write(job, STARTED)
    with pytest.raises(ValueError, match="JSON compliant"):
        write(job, Losses(1, {"total": float("nan")}))
    assert job.events() == [STARTED]


def test_a_line_that_the_disk_has_no_room_for_is_said_and_leaves_no_part(job: JobRecord):
    write(job, STARTED)
    whole = job.path.read_bytes()
    with job.claim():
        said = r"k\.jsonl: cannot be written.*free space"
        with room(len(whole) + 10), pytest.raises(InputError, match=said):
            job.write(Losses(10, {"total": 0.5}))
        assert job.path.read_bytes() == whole
        job.write(Done(3.5))
    assert job.events() == [STARTED, Done(3.5)]


def test_a_second_claim_is_refused_with_the_holders_name(job: JobRecord, tmp_path: Path):
    other = Ledger(tmp_path).job("k")
    with job.claim():
        assert claimed(job)
        assert claimed(other)
        with pytest.raises(InputError, match=rf"process {os.getpid()} on "), other.claim():
            pass
    assert not claimed(other)
    with other.claim():
        pass


def test_asking_whether_a_job_is_claimed_leaves_nothing_behind(job: JobRecord, tmp_path: Path):
    assert not claimed(job)
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_killed_process_is_free_again(job: JobRecord, tmp_path: Path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from orchestrator.tracking.ledger import Ledger\n"
        "with Ledger(Path(sys.argv[1])).job('k').claim():\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert claimed(job)
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 5
    while claimed(job) and time.monotonic() < deadline:
        time.sleep(0.01)
    write(job, STARTED)
    assert state(job) == "running"


@pytest.mark.parametrize("line", ["{}", "[1]", "not json", '{"kind": "later"}', '{"kind":"done"}'])
def test_a_broken_line_in_the_middle_is_told_with_its_number(job: JobRecord, line: str):
    write(job, STARTED)
    job.path.write_text(job.path.read_text() + line + "\n")
    with pytest.raises(InputError, match=r"k\.jsonl: line 2: "):
        job.events()


def test_the_ledger_lists_the_jobs_that_were_started(tmp_path: Path):
    ledger = Ledger(tmp_path)
    assert ledger.jobs() == []
    for key in ("b", "a"):
        write(ledger.job(key), STARTED)
    with ledger.job("c").claim():
        pass
    assert [job.key for job in ledger.jobs()] == ["a", "b"]


def test_a_key_that_is_no_file_name_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'\.\./x'"):
        Ledger(tmp_path).job("../x")


def test_the_last_checkpoints_file_is_given_only_where_it_is_the_one_recorded(ledger: Ledger):
    job = ledger.job("k")
    assert job.last_file() is None
    with job.claim():
        for step, label in ((10, "early"), (20, "late")):
            job.write(checkpoint_of(ledger.storage, step, label, 0.5))
    path = ledger.storage / "checkpoints" / f"{sha_of('late')}.safetensors"
    assert job.last_file() == (sha_of("late"), path)
    path.write_text("weights late, and more")
    anew = f"move {job.path} away and run the same command again to train it anew"
    with pytest.raises(InputError, match=rf"{path}: corrupt: .*recorded in {job.path}; .*{anew}"):
        job.last_file()
    path.unlink()
    with pytest.raises(InputError, match=rf"{path}: no such file; .*{anew}"):
        job.last_file()


def test_a_stopped_job_is_stopped_until_it_starts_again(job: JobRecord):
    write(job, STARTED, Evaluated(10, {"jf": 0.4}), Stopped(10, "asha"))
    assert state(job) == "stopped"
    assert job.stopped() == Stopped(10, "asha")
    write(job, STARTED)
    assert state(job) == "running"
    assert job.stopped() is None
    write(job, Stopped(10, "sweep.max_hours"))  # before it came any further
    assert job.stopped() == Stopped(10, "sweep.max_hours")
    write(job, Done(1.0))
    assert state(job) == "done"


def test_scores_are_those_of_select_by_step(job: JobRecord):
    checkpoint = Checkpoint(20, "ab", "checkpoints/ab.safetensors", {"jf": 0.5})
    write(job, Evaluated(10, {"jf": 0.4}), checkpoint, Evaluated(20, {"fps": 3.0}))
    write(job, Evaluated(20, {"jf": 0.9}, split="report"), Evaluated(30, {"jf": 0.6}))
    assert job.scores() == [(10, 0.4), (20, 0.5), (30, 0.6)]
