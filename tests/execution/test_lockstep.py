"""Test that students in lock-step end as each of them would alone."""

import logging
import re
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import job as jobs
from orchestrator.execution import job_log, member
from orchestrator.planning import calibration
from orchestrator.planning.lockstep import kin
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import Started
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.distributed import Workers
from orchestrator.training.lessons import lessons
from orchestrator.training.loop import Diverged, Student
from orchestrator.training.state import TrainingState
from tests.conftest import write_davis
from tests.execution.test_job import copied, record, sums
from vosmodels.errors import InputError

SETTINGS = {
    "far": {"loss.omega": 0.9, "loss.sampling": "random"},
    "near": {"loss.omega": 0.1, "loss.sampling": "boundary"},
    "hot": {"loss.tau": 1.0, "loss.sampling": "all"},
}


def plan_on(root, **train):
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": str(root), "select_height": 32, "select_stride": 2},
            "student": {"name": "mobilevos_mobilenetv2_noaspp"},
            "teacher": {"name": "stcn_mobilenetv2", "steps": 1},
            "stem": {"steps": 1, "batch_size": 2, "crop": 32, "lr": 1e-3},
            "train": {"steps": 4, "checkpoint_every": 2, "batch_size": 2, "clip_length": 3}
            | {"crop": 32, "lr": 1e-3}
            | train,
            "sweep": {"points": SETTINGS},
        }
    )
    plan = plan_sweep(located(config), sweep_id(config), threads=1)
    assert len({kin(trial) for trial in plan.trials}) == 1
    return plan


@pytest.fixture(scope="module", autouse=True)
def few_calibration_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A plan whose jobs were trained one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    plan = plan_on(write_davis(folder / "davis", 2016))
    storage = Storage(folder / "results")
    for job in plan.jobs:
        jobs.run([job], storage)
    assert len({sums(storage, job)[-1] for job in plan.trials}) == 3
    return plan, storage


@pytest.fixture
def beside(alone, tmp_path):
    """A storage with the teacher and stem of that plan, in which no trial was trained."""
    plan, storage = alone
    return copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)


def attempts(storage, job):
    return [(event.task, event.students) for event in record(storage, job).of(Started)]


def states(storage, trials):
    return [record(storage, job).state for job in trials]


def test_students_in_lockstep_end_with_the_weights_and_scores_of_each_alone(alone, beside):
    plan, storage = alone
    jobs.run(plan.trials, beside)
    for job in plan.trials:
        assert sums(beside, job) == sums(storage, job)
        ours, theirs = record(beside, job), record(storage, job)
        assert [loss.values for loss in ours.losses()] == [loss.values for loss in theirs.losses()]
        assert ours.scores() == theirs.scores()
        assert [made.ancestor for made in ours.checkpoints()] == [
            made.ancestor for made in theirs.checkpoints()
        ]
        assert not beside.resume(job.key).exists()
        assert attempts(beside, job) == [("", 3)]


def test_teacher_and_data_run_once_a_step_for_all_of_them(alone, beside, monkeypatch):
    plan, _ = alone
    seen: list[tuple[int, int]] = []

    def counted(*args, **options):
        for lesson in lessons(*args, **options):
            seen.append((lesson.step, len(lesson.selections)))
            yield lesson

    monkeypatch.setattr(jobs, "lessons", counted)
    jobs.run(plan.trials, beside)
    assert seen == [(step, 3) for step in range(4)]


def diverge(monkeypatch, name, at, error):
    """Raise an error in one student at a step, before it learns that step."""
    learn = Student.learn

    def break_off(student, lesson, place=0):
        if student.distill.loss.sampling == SETTINGS[name]["loss.sampling"] and lesson.step == at:
            raise error
        return learn(student, lesson, place)

    monkeypatch.setattr(Student, "learn", break_off)


@pytest.mark.parametrize("error", [Diverged("step 3: not finite"), RuntimeError("broken")])
def test_a_student_that_fails_leaves_the_others_as_they_would_be(alone, beside, monkeypatch, error):
    plan, storage = alone
    first, second, third = plan.trials
    diverge(monkeypatch, second.name, 2, error)
    with pytest.raises(type(error), match=str(error)):
        jobs.run(plan.trials, beside)
    assert states(beside, plan.trials) == ["done", "failed", "done"]
    assert [sums(beside, job) for job in (first, third)] == [
        sums(storage, job) for job in (first, third)
    ]
    failed = record(beside, second).failed()
    assert failed is not None
    assert failed.error == f"{type(error).__name__}: {error}"
    assert sums(beside, second) == sums(storage, second)[:1]  # it goes on from there
    assert beside.resume(second.key).exists()


def test_a_student_whose_gradient_is_not_finite_is_marked_with_its_step(alone, beside):
    plan, storage = alone
    first, second, third = plan.trials
    wild = replace(second, loss=second.loss.model_copy(update={"tau": 1e-30, "logit": 1e30}))
    with pytest.raises(Diverged, match=r"step \d: not finite"):
        jobs.run([first, wild, third], beside)
    assert states(beside, plan.trials) == ["done", "failed", "done"]
    assert [sums(beside, job)[-1] for job in (first, third)] == [
        sums(storage, job)[-1] for job in (first, third)
    ]


def test_a_student_that_failed_is_retried_alone(alone, beside, monkeypatch):
    plan, storage = alone
    diverge(monkeypatch, plan.trials[1].name, 2, RuntimeError("a cosmic ray"))
    with pytest.raises(RuntimeError, match="a cosmic ray"):
        jobs.run(plan.trials, beside, task="t")
    monkeypatch.undo()
    jobs.run(plan.trials, beside, task="t")
    assert [sums(beside, job) for job in plan.trials] == [sums(storage, j) for j in plan.trials]
    assert [attempts(beside, job) for job in plan.trials] == [
        [("t", 3)],
        [("t", 3), ("t", 1)],
        [("t", 3)],
    ]


def kill_after_saving(monkeypatch, when):
    """End the process, as far as a test can, after the resume state of that number."""
    save, count = TrainingState.save, []

    def save_and_die(state, folder):
        save(state, folder)
        count.append(1)
        if len(count) == when:
            raise SystemExit

    monkeypatch.setattr(TrainingState, "save", save_and_die)


@pytest.mark.parametrize(
    "when", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)]
)
def test_a_group_whose_process_dies_goes_on_where_each_student_was(
    alone, beside, monkeypatch, when
):
    plan, storage = alone
    kill_after_saving(monkeypatch, when)
    with pytest.raises(SystemExit):
        jobs.run(plan.trials, beside, task="first")
    assert states(beside, plan.trials) == ["running"] * 3
    monkeypatch.undo()
    jobs.run(plan.trials, beside, task="second")
    for job in plan.trials:
        assert sums(beside, job) == sums(storage, job)
        assert attempts(beside, job) == [("first", 3), ("second", 3)]


def test_a_second_attempt_at_the_same_task_is_made_by_halves(alone, beside, monkeypatch):
    plan, storage = alone
    kill_after_saving(monkeypatch, 2)
    with pytest.raises(SystemExit):
        jobs.run(plan.trials, beside, task="t")
    monkeypatch.undo()
    jobs.run(plan.trials, beside, task="t")
    for job in plan.trials:
        assert sums(beside, job) == sums(storage, job)
        assert attempts(beside, job) == [("t", 3), ("t", 1)]


def test_out_of_memory_splits_a_group_until_it_fits(alone, beside, monkeypatch, caplog):
    plan, storage = alone
    learn, prepared = Student.learn, []
    prepare = member.Member.prepare

    def note(self, *args):
        prepared.append(self)
        prepare(self, *args)

    def no_room(student, lesson, place=0):
        if len(lesson.selections) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return learn(student, lesson, place)

    monkeypatch.setattr(member.Member, "prepare", note)
    monkeypatch.setattr(Student, "learn", no_room)
    jobs.run(plan.trials, beside)
    for job in plan.trials:
        assert sums(beside, job) == sums(storage, job)
    assert [attempts(beside, job) for job in plan.trials] == [
        [("", 3), ("", 1)],
        [("", 3), ("", 2)],
        [("", 3), ("", 2)],
    ]
    assert "out of memory with 3 students in lock-step: going on with 1 and 2" in caplog.text


def test_a_student_that_is_out_of_memory_alone_has_failed(alone, beside, monkeypatch):
    plan, _ = alone
    diverge(monkeypatch, plan.trials[0].name, 1, MemoryError("no room"))
    with pytest.raises(MemoryError, match="no room"):
        jobs.run(plan.trials, beside)
    assert states(beside, plan.trials) == ["failed", "done", "done"]


def test_what_they_share_ends_all_of_them(alone, beside, monkeypatch):
    plan, _ = alone

    def torn(*args, **options):
        for lesson in lessons(*args, **options):
            if lesson.step == 2:
                raise InputError("ant/00001.jpg: corrupt picture; restore the file")
            yield lesson

    monkeypatch.setattr(jobs, "lessons", torn)
    with pytest.raises(InputError, match="corrupt picture"):
        jobs.run(plan.trials, beside)
    assert states(beside, plan.trials) == ["failed"] * 3
    monkeypatch.undo()
    jobs.run(plan.trials, beside)
    assert states(beside, plan.trials) == ["done"] * 3


def test_scores_are_reported_when_all_can_be_resumed_from_there(alone, beside):
    plan, _ = alone
    told = []

    def look(step, jf):
        saved = [bool(list(beside.resume(job.key).glob(f"*{step}.json"))) for job in plan.trials]
        told.append((step, jf, saved))

    jobs.run(plan.trials, beside, on_score=look)
    best = [max(dict(record(beside, job).scores())[step] for job in plan.trials) for step in (2, 4)]
    assert told == [(2, best[0], [True] * 3), (4, best[1], [True] * 3)]


def test_seconds_add_up_to_those_of_the_process(alone, beside):
    plan, _ = alone
    start = time.monotonic()
    jobs.run(plan.trials, beside)
    passed = time.monotonic() - start
    done = [record(beside, job).done() for job in plan.trials]
    seconds = [event.seconds for event in done if event]
    assert len(seconds) == 3
    assert 0.5 * passed < sum(seconds) <= passed


def test_each_log_has_the_lines_of_its_job_and_of_what_is_shared(tmp_path):
    paths = {name: tmp_path / f"{name}.log" for name in ("a", "b")}
    logger = logging.getLogger("orchestrator.test")
    with job_log.written_to(paths) as first:
        assert first.name == str(paths["a"])
        logger.info("both")
        with job_log.only("b"):
            logger.info("b alone")
    logger.warning("later")
    said = {name: re.findall(r"test: (.*)", path.read_text()) for name, path in paths.items()}
    assert said == {"a": ["both"], "b": ["both", "b alone"]}


def test_a_claim_that_another_process_holds_starts_none_of_them_until_it_is_free(alone, beside):
    plan, _ = alone

    class Enough(Exception): ...

    waited = []

    def alive():
        waited.append(states(beside, plan.trials))
        if len(waited) > len(plan.trials) + 1:
            raise Enough

    with Ledger(beside.root).job(plan.trials[1].key).claim(), pytest.raises(Enough):
        jobs.run(plan.trials, beside, Workers(alive=alive))
    assert waited[-1] == ["new"] * 3


def test_groups_that_share_jobs_claim_them_in_one_order(alone, beside, monkeypatch):
    """Else each could hold a job that the other waits for."""
    plan, _ = alone
    claim, claimed = JobRecord.claim, []

    def noted(record):
        claimed.append(record.key)
        return claim(record)

    monkeypatch.setattr(JobRecord, "claim", noted)
    for trials in (plan.trials, plan.trials[::-1]):
        with ExitStack() as claims:
            jobs._claim(trials, beside, Workers(), claims)
    assert claimed[:3] == claimed[3:]
    assert set(claimed) == {job.key for job in plan.trials}
