"""Test what is said and set aside of jobs that other code trained."""

from dataclasses import replace

import pytest

from orchestrator.execution.code import code_from
from orchestrator.execution.older_code import codes_of, older_code, set_aside
from orchestrator.tracking.events import Code, Done, Started, Stopped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.planning.test_plan import plan
from vosmodels.errors import InputError

HERE = code_from(0)


def other(*files, **fields):
    """The code of today with other contents of some files."""
    return replace(HERE, files={**HERE.files, **dict.fromkeys(files, "0" * 64)}, **fields)


def write(storage, job, *ends):
    record = Ledger(storage.root).job(job.key)
    with record.claim():
        record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
        for event in ends:
            record.write(event)


@pytest.fixture
def trained(tmp_path):
    """A plan with a teacher, a stem and three trials, all done by the code of today."""
    jobs = plan(sweep={"parameters": {"loss.omega": [0.0, 0.5, 1.0]}})
    storage = Storage(tmp_path)

    def end(codes=None, skip=()):
        for job in jobs.jobs:
            if job.name not in skip:
                write(storage, job, *(codes or {}).get(job.name, [HERE]), Done(1.0))
        return older_code(jobs, storage)

    return jobs, storage, end


def test_jobs_of_the_code_of_today_are_not_mentioned(trained):
    _, _, end = trained
    found = end()
    assert len(found.finished) == 5
    assert found.lines(rerun=False) == []
    assert not found.again


def test_files_that_differ_are_told_once_for_the_jobs_they_share(trained):
    _, _, end = trained
    old = other("vosmodels/losses.py", "vosmodels/terms.py")
    found = end(
        {"omega=0.0": [old], "omega=0.5": [old], "omega=1.0": [other("vosmodels/terms.py")]}
    )
    assert found.lines(rerun=False) == [
        "done, older code: 3 of 5 finished jobs; they are kept; --rerun-changed trains them again",
        "  vosmodels/losses.py: omega=0.0, omega=0.5",
        "  vosmodels/terms.py: omega=0.0, omega=0.5, omega=1.0",
    ]


def test_the_block_stays_short_whatever_has_changed(trained):
    jobs, _, end = trained
    files = list(HERE.files)
    every = {job.name: [other(*files[: 2 + 3 * n])] for n, job in enumerate(jobs.jobs)}
    lines = end(every).lines(rerun=False)
    assert len(lines) <= 6
    assert all(len(line) < 200 for line in lines)
    assert any(line.startswith("  and ") for line in lines)


def test_files_that_came_and_went_differ_and_so_does_torch(trained):
    _, _, end = trained
    files = {name: sha for name, sha in HERE.files.items() if name != "vosmodels/losses.py"}
    old = Code(0, {**files, "vosmodels/gone.py": "0" * 64}, "1.0")
    assert set(end({"omega=0.0": [old]}).differs) == {
        *("vosmodels/losses.py", "vosmodels/gone.py", f"torch 1.0, here {HERE.torch}")
    }


def test_a_ledger_without_code_is_unknown_on_one_line_and_is_not_trained_again(trained):
    jobs, _, end = trained
    found = end({job.name: [] for job in jobs.jobs})
    assert not found.again
    (line,) = found.lines(rerun=True)
    assert line.startswith("code unknown: ")
    assert line.endswith("finished before the ledger held it; kept")


def test_with_a_stem_all_that_starts_from_it_is_trained_again(trained):
    jobs, _, end = trained
    (stem,) = jobs.stems
    found = end({stem.name: [other("vosmodels/losses.py")]}, skip=["omega=1.0"])
    assert [job.name for job in found.older] == [stem.name]
    assert [job.name for job in found.again] == [stem.name, "omega=0.0", "omega=0.5"]


@pytest.mark.parametrize(
    ("began", "count"),
    [
        ([], None),
        ([5], None),  # its first steps are from before the ledger held the code
        ([0], [0]),
        ([0, 5], [0, 1]),
        ([0, 0], [1]),  # the first attempt was killed before its first resume state
        ([0, 5, 5, 9], [0, 2, 3]),
        ([0, 5, 3], [0, 2]),
    ],
)
def test_an_attempt_that_left_nothing_to_resume_from_does_not_count(tmp_path, began, count):
    record = Ledger(tmp_path).job("k")
    codes = [Code(at, {"a.py": str(number)}, "t") for number, at in enumerate(began)]
    with record.claim():
        for code in codes:
            record.write(code)
    assert codes_of(record) == (None if count is None else [codes[number] for number in count])


def test_what_is_set_aside_is_new_and_all_its_files_are_there_under_a_dated_name(trained):
    _, storage, end = trained
    found = end({"omega=0.0": [other("vosmodels/losses.py")]})
    (job,) = found.again
    kept = Ledger(storage.root).job(job.key).path.read_bytes()
    for folder in (storage.pictures(job.key), storage.resume(job.key), storage.sweeps):
        folder.mkdir(parents=True)
    (storage.pictures(job.key) / "0000004.png").write_text("a picture")
    (storage.resume(job.key) / "4.json").write_text("a state")
    storage.log(job.key).parent.mkdir()
    storage.log(job.key).write_text("a log")
    for name in ("s-results.json", "s-optuna.log", "s.json", "t-results.json"):
        (storage.sweeps / name).write_text(name)
    before = sorted(path.read_bytes() for path in storage.root.rglob("*") if path.is_file())
    set_aside(found.again, "s", storage)
    assert Ledger(storage.root).job(job.key).state == "new"
    assert len(Ledger(storage.root).jobs()) == 4
    assert sorted(p.read_bytes() for p in storage.root.rglob("*") if p.is_file()) == before
    (aside,) = storage.ledger.glob(f"{job.key}.jsonl.*")
    assert aside.read_bytes() == kept
    assert not storage.pictures(job.key).exists()
    assert not storage.resume(job.key).exists()
    assert {path.name for path in storage.sweeps.iterdir()} >= {
        *("s-optuna.log", "s.json", "t-results.json")
    }
    assert not (storage.sweeps / "s-results.json").exists()


def test_a_trial_is_set_aside_before_its_stem_and_none_at_which_a_process_works(trained):
    """What an interrupt leaves is then still known to need the stem that is trained again."""
    jobs, storage, end = trained
    (stem,) = jobs.stems
    found = end({stem.name: [other("vosmodels/losses.py")]})
    with (
        Ledger(storage.root).job(jobs.trials[1].key).claim(),
        pytest.raises(InputError, match=f"job {jobs.trials[1].key} is being run by process"),
    ):
        set_aside(found.again, "s", storage)
    again = older_code(jobs, storage).again
    assert [job.name for job in again] == [stem.name, "omega=0.0", "omega=0.5"]
    assert Ledger(storage.root).job(jobs.trials[2].key).state == "new"


def test_a_stopped_trial_is_finished_and_one_at_work_is_not(trained):
    jobs, storage, _ = trained
    write(storage, jobs.trials[0], other("vosmodels/losses.py"), Stopped(3, "asha"))
    write(storage, jobs.trials[1], other("vosmodels/losses.py"))
    found = older_code(jobs, storage)
    assert [job.name for job in found.older] == ["omega=0.0"]
