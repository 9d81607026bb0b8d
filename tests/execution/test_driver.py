"""Test which jobs a plan runs where some fail, and when MLflow cannot be reached."""

import logging

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import driver, ray_workers
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import Done, Failed, Started
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from vosmodels.errors import InputError


class Shown(Tracker):
    """MLflow, which may be away."""

    def __init__(self, away=False):
        self.away = away
        self.projected = []

    def project(self, job, sweep=None):
        if self.away:
            raise ConnectionError("no answer")
        self.projected.append(job.key)


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
    """The rounds that were run, by the names of their jobs; `fails` are those that fail."""
    ran: list[list[str]] = []
    fails: set[str] = set()

    def run_round(jobs, storage, resources, name, check):
        ran.append([job.name for job in jobs])
        for job in jobs:
            record = Ledger(storage.root).job(job.key)
            with record.claim():
                record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
                ended = Failed("boom", "a log") if job.name in fails else Done(1.0)
                record.write(ended)

    monkeypatch.setattr(ray_workers, "start", lambda *a, **k: [{"CPU": 4.0, "GPU": 0.0}])
    monkeypatch.setattr(ray_workers, "stop", lambda: None)
    monkeypatch.setattr(ray_workers, "run_round", run_round)
    return ran, fails


def test_a_failed_stem_stops_only_the_trials_that_start_from_it(plan, rounds, tmp_path, caplog):
    (jobs, config), (ran, fails) = plan, rounds
    fails.add("stem mobilevos_mobilenetv2_noaspp")
    with caplog.at_level(logging.WARNING, "orchestrator"):
        outcome = driver.execute(jobs, config, Storage(tmp_path), Shown())
    assert [failure.job.name for failure in outcome.failures] == list(fails)
    assert sorted(ran[-1]) == ["aspp", "labels"]
    assert "none: not started, as its stem is not done" in caplog.text


def test_a_failed_teacher_leaves_the_trial_that_has_none(plan, rounds, tmp_path):
    (jobs, config), (ran, fails) = plan, rounds
    fails.add(jobs.teacher.name)
    outcome = driver.execute(jobs, config, Storage(tmp_path), Shown())
    assert [failure.job.name for failure in outcome.failures] == list(fails)
    assert ran[-1] == ["labels"]


def test_the_same_command_starts_what_failed_and_what_waited_for_it(plan, rounds, tmp_path):
    (jobs, config), (ran, fails) = plan, rounds
    fails.add("stem mobilevos_mobilenetv2_noaspp")
    driver.execute(jobs, config, Storage(tmp_path), Shown())
    fails.clear()
    ran.clear()
    outcome = driver.execute(jobs, config, Storage(tmp_path), Shown())
    assert ran == [["stem mobilevos_mobilenetv2_noaspp"], ["none"]]
    assert not outcome.failures


def test_jobs_run_to_their_end_while_mlflow_is_away(plan, rounds, tmp_path, caplog):
    (jobs, config), (ran, _) = plan, rounds
    with caplog.at_level(logging.WARNING, "orchestrator"):
        outcome = driver.execute(jobs, config, Storage(tmp_path), Shown(away=True))
    assert not outcome.failures
    assert sum(map(len, ran)) == len(jobs.jobs)
    assert "MLflow cannot be reached (no answer)" in caplog.text
    back = Shown()
    again = driver.execute(jobs, config, Storage(tmp_path), back)
    assert again.placement == "nothing was left to train"
    assert sorted(back.projected) == sorted(job.key for job in jobs.jobs)


@pytest.mark.parametrize(
    "text", ["", '{"threads": ', "[]", "{}", '{"threads": "many"}', '{"threads": null}', "\0" * 9]
)
def test_a_sweep_whose_number_of_threads_cannot_be_read_is_not_started_on_another(
    tmp_path, plan, text
):
    _, config = plan
    storage = Storage(tmp_path)
    driver.save_resolved_config(config, storage, "tiny", threads=3)
    assert driver.threads_of(config, storage, "tiny", jobs=1) == 3
    path = storage.sweeps / "tiny.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"cluster\.threads=N") as caught:
        driver.threads_of(config, storage, "tiny", jobs=1)
    assert str(path) in str(caught.value)
    assert path.read_text() == text
