"""Test which jobs a plan runs where some fail."""

import logging
from threading import Timer

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import driver, last_run, ray_workers
from orchestrator.execution.trial_source import TrialSource
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import Done, Evaluated, Failed, Started, Stopped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError


@pytest.fixture
def plan():
    """A teacher, two stems, and three trials of which one needs no teacher."""
    config = located(
        SweepConfig.model_validate(
            {
                "name": "tiny",
                "data": {"root": "generated"},
                "teacher": {"steps": 1},
                "stem": {"steps": 1},
                "sweep": {
                    "points": {
                        "aspp": {"student.name": "mobilevos_mobilenetv2"},
                        "none": {"student.name": "mobilevos_mobilenetv2_noaspp"},
                        "labels": {"loss.logit": 0, "loss.representation": 0},
                    }
                },
            }
        )
    )
    return plan_sweep(config, sweep_id(config), threads=1), config


@pytest.fixture
def rounds(monkeypatch):
    """What Ray was given at a time, by the names of the jobs; `fails` are those that fail."""
    ran: list[list[str]] = []
    fails: set[str] = set()

    def run_round(source, storage, resources, name, check, retries, halving):
        ran.append([])
        while group := source.next():
            (job,) = group
            ran[-1].append(job.name)
            record = Ledger(storage.root).job(job.key)
            with record.claim():
                record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
                ended = Failed("boom", "a log") if job.name in fails else Done(1.0)
                record.write(ended)
            source.ended(group)

    monkeypatch.setattr(ray_workers, "start", lambda *a, **k: [{"CPU": 4.0, "GPU": 0.0}])
    monkeypatch.setattr(ray_workers, "stop", lambda: None)
    monkeypatch.setattr(ray_workers, "run_round", run_round)
    return ran, fails


def of_trials(plan, ran):
    trials = [job.name for job in plan.trials]
    return [name for names in ran for name in names if name in trials]


def test_a_failed_stem_stops_only_the_trials_that_start_from_it(plan, rounds, tmp_path, caplog):
    (jobs, config), (ran, fails) = plan, rounds
    fails.add("stem mobilevos_mobilenetv2_noaspp")
    with caplog.at_level(logging.WARNING, "orchestrator"):
        outcome = driver.execute(jobs, config, Storage(tmp_path))
    assert [failure.job.name for failure in outcome.failures] == list(fails)
    assert sorted(of_trials(jobs, ran)) == ["aspp", "labels"]
    assert "none: not started, as its stem is not done" in caplog.text


def test_a_failed_teacher_leaves_the_trial_that_has_none(plan, rounds, tmp_path):
    (jobs, config), (ran, fails) = plan, rounds
    fails.add(jobs.teacher.name)
    outcome = driver.execute(jobs, config, Storage(tmp_path))
    assert [failure.job.name for failure in outcome.failures] == list(fails)
    assert of_trials(jobs, ran) == ["labels"]


def test_the_same_command_starts_what_failed_and_what_waited_for_it(plan, rounds, tmp_path):
    (jobs, config), (ran, fails) = plan, rounds
    fails.add("stem mobilevos_mobilenetv2_noaspp")
    driver.execute(jobs, config, Storage(tmp_path))
    fails.clear()
    ran.clear()
    outcome = driver.execute(jobs, config, Storage(tmp_path))
    assert ran == [["stem mobilevos_mobilenetv2_noaspp", "none"]]
    assert not outcome.failures


def test_a_plan_that_is_done_runs_nothing(plan, rounds, tmp_path):
    (jobs, config), (ran, _) = plan, rounds
    driver.execute(jobs, config, Storage(tmp_path))
    assert sum(map(len, ran)) == len(jobs.jobs)
    ran.clear()
    again = driver.execute(jobs, config, Storage(tmp_path))
    assert (again.placement, ran) == ("nothing was left to train", [])


@pytest.mark.parametrize(
    "text", ["", '{"threads": ', "[]", "{}", '{"threads": "many"}', '{"threads": null}', "\0" * 9]
)
def test_a_sweep_whose_number_of_threads_cannot_be_read_is_not_started_on_another(
    tmp_path, plan, text
):
    _, config = plan
    storage = Storage(tmp_path)
    last_run.save(config, storage, "tiny", threads=3)
    assert driver.threads_of(config, storage, "tiny", jobs=1) == 3
    path = storage.sweeps / "tiny.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cluster\.threads=N") as caught:
        driver.threads_of(config, storage, "tiny", jobs=1)
    assert str(path) in str(caught.value)
    assert path.read_text() == text


# ---- trials that the sweep stops


def halving_sweep(tmp_path, **section):
    section = {"scheduler": "asha", "first_rung": 10, "reduction": 2.0, **section}
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": "generated"},
            "loss": {"logit": 0, "representation": 0},
            "stem": {"steps": 1},
            "train": {"steps": 40, "eval_every": 10},
            "sweep": {"parameters": {"train.lr": values}, **section},
            "storage": str(tmp_path),
        }
    )
    config = located(config)
    return plan_sweep(config, sweep_id(config), threads=1), config, Storage(tmp_path)


def scored(storage, job, curve, *ends):
    """Write what a job's process would: its start, scores every ten steps, its end."""
    record = Ledger(storage.root).job(job.key)
    with record.claim():
        record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
        for step, jf in enumerate(curve, 1):
            record.write(Evaluated(step=10 * step, scores={"j": jf, "f": jf, "jf": jf}))
        for event in ends:
            record.write(event)


def state_of(storage, job):
    return Ledger(storage.root).job(job.key).state


def run(monkeypatch, jobs, config, storage):
    """Names of the trials that an execution hands out; each of them ends at once."""
    given = []

    def run_round(source, storage, resources, name, check, retries, halving):
        while group := source.next():
            (job,) = group
            given.append(job.name)
            scored(storage, job, [], Done(1.0))
            source.ended(group)

    monkeypatch.setattr(ray_workers, "start", lambda *a, **k: [{"CPU": 4.0, "GPU": 0.0}])
    monkeypatch.setattr(ray_workers, "stop", lambda: None)
    monkeypatch.setattr(ray_workers, "run_round", run_round)
    outcome = driver.execute(jobs, config, storage)
    assert not outcome.failures
    return given


@pytest.fixture
def interrupted(tmp_path):
    """Make a sweep of six trials: two are done, two were stopped, two are new."""
    jobs, config, storage = halving_sweep(tmp_path)
    scored(storage, jobs.stems[0], [], Done(1.0))
    curves = [[0.3, 0.6, 0.7, 0.8], [0.4, 0.7, 0.8, 0.9], [0.1], [0.2]]
    ends = [Done(1.0), Done(1.0), Stopped(10, "asha"), Stopped(10, "asha")]
    for job, curve, end in zip(jobs.trials, curves, ends, strict=False):
        scored(storage, job, curve, end)
    return jobs, config, storage


def test_a_trial_killed_at_a_rung_that_it_would_not_pass_is_stopped_there(interrupted, monkeypatch):
    jobs, config, storage = interrupted
    scored(storage, jobs.trials[4], [0.15])
    assert run(monkeypatch, jobs, config, storage) == [jobs.trials[5].name]
    assert state_of(storage, jobs.trials[4]) == "stopped"
    assert Ledger(storage.root).job(jobs.trials[4].key).stopped() == Stopped(10, "asha")


def test_a_trial_killed_at_a_rung_that_it_passes_goes_on(interrupted, monkeypatch):
    jobs, config, storage = interrupted
    scored(storage, jobs.trials[4], [0.39])
    given = run(monkeypatch, jobs, config, storage)
    assert given == [jobs.trials[4].name, jobs.trials[5].name]


def test_a_finished_sweep_starts_nothing_that_it_stopped(interrupted, monkeypatch):
    jobs, config, storage = interrupted
    for job in jobs.trials[4:]:
        scored(storage, job, [0.0], Stopped(10, "asha"))  # .2 is among the best half now
    assert run(monkeypatch, jobs, config, storage) == []
    outcome = driver.execute(jobs, config, storage)
    assert outcome.placement == "nothing was left to train"


def test_a_larger_budget_takes_up_a_stopped_trial_that_is_among_the_best_now(
    interrupted, monkeypatch
):
    jobs, config, storage = interrupted
    scored(storage, jobs.trials[4], [0.05], Stopped(10, "asha"))
    assert run(monkeypatch, jobs, config, storage) == [jobs.trials[3].name, jobs.trials[5].name]


def test_without_asha_what_was_stopped_is_run_to_its_end(interrupted, tmp_path, monkeypatch):
    _, _, storage = interrupted
    jobs, config, _ = halving_sweep(tmp_path, scheduler="fifo")
    assert run(monkeypatch, jobs, config, storage) == [job.name for job in jobs.trials[2:]]


def test_no_trial_is_handed_out_when_the_time_is_up(interrupted):
    jobs, _, storage = interrupted
    ledger = Ledger(storage.root)
    late = TrialSource([jobs.trials], ledger, ends=0.0)
    assert late.time_is_up
    assert late.next() is None
    assert late.given == set()
    early = TrialSource([jobs.trials[:2]], ledger)
    assert early.next() == jobs.trials[:2]
    assert early.next() is None


def test_a_stop_is_written_when_the_worker_has_let_go(interrupted):
    jobs, _, storage = interrupted
    job, ledger = jobs.trials[4], Ledger(storage.root)
    scored(storage, job, [0.3])
    source = TrialSource([(job,)], ledger)
    source.stop(job, 10, "asha")
    with ledger.job(job.key).claim():
        source.settle()
        assert state_of(storage, job) == "running"
    source.settle()
    assert ledger.job(job.key).stopped() == Stopped(10, "asha")


def test_the_last_stop_is_written_though_the_worker_takes_its_time(interrupted):
    jobs, _, storage = interrupted
    job, ledger = jobs.trials[4], Ledger(storage.root)
    scored(storage, job, [0.3])
    source = TrialSource([(job,)], ledger)
    source.stop(job, 10, "asha")
    held = ledger.job(job.key).claim()
    held.__enter__()
    released = Timer(0.5, held.__exit__, (None, None, None))
    released.start()
    source.settle(wait_s=60)
    assert state_of(storage, job) == "stopped"
    released.join()


def test_what_ended_by_itself_is_not_stopped(interrupted):
    jobs, _, storage = interrupted
    source = TrialSource([], Ledger(storage.root))
    source.stop(jobs.trials[0], 40, "sweep.max_hours")
    source.settle()
    assert state_of(storage, jobs.trials[0]) == "done"


def test_a_job_is_given_out_when_those_that_it_needs_are_done_and_not_before(plan, tmp_path):
    jobs, _ = plan
    ledger = Ledger(tmp_path)
    source = TrialSource([(job,) for job in jobs.jobs], ledger)
    begun = [source.next() for _ in range(3)]
    assert begun == [(job,) for job in (jobs.teacher, *jobs.stems)]
    assert source.next() == ()
    storage = Storage(tmp_path)
    for job in jobs.stems:
        scored(storage, job, [], Done(1.0))
        source.ended((job,))
    given = source.next()
    assert given is not None
    assert [job.name for job in given] == ["labels"]  # which needs no teacher
    assert source.next() == ()
    scored(storage, jobs.teacher, [], Failed("boom"))
    source.ended((jobs.teacher,))
    assert source.next() is None
    assert jobs.teacher.key in source.given
