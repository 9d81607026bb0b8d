"""Test which trials a search gives out, and what it is told of them."""

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution.asked_trials import AskedTrials, Search
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Planner, plan_sweep
from orchestrator.planning.search import Study
from orchestrator.planning.trials import trials_at
from orchestrator.tracking.events import Checkpoint, Done, Evaluated, Failed, Started, Stopped
from orchestrator.tracking.ledger import Ledger
from tests.stores import sha_of

RATES = {"train.lr": {"loguniform": [1e-5, 1e-2]}}


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def searching(tmp_path, parameters=RATES, most=4):
    """The search as a new start of the command opens it."""
    config = located(
        SweepConfig.model_validate(
            {
                "name": "tiny",
                "data": {"root": "generated"},
                "loss": {"logit": 0, "representation": 0},
                "sweep": {"search": "optuna", "max_trials": most, "parameters": parameters},
            }
        )
    )
    planner = Planner(config, sweep_id(config), 1)
    study = Study(tmp_path / "study.log", config)
    return Search(study, lambda at: planner.plan(trials_at(config, at)), most), config


def ran(ledger, job, *events):
    record = ledger.job(job.key)
    with record.claim():
        record.write(Started(role=job.role, name=job.name, sweep="s", config={}))
        for event in events:
            record.write(event)


def done(ledger, job, *scores):
    files = [(sha_of(f"{job.key} {step}"), jf) for step, jf in enumerate(scores, 1)]
    events = [
        Checkpoint(step, sha, f"checkpoints/{sha}.safetensors", {"jf": jf})
        for step, (sha, jf) in enumerate(files, 1)
    ]
    ran(ledger, job, *events, Done(1.0))


def answers(search):
    """Scores by the values' rate, as Optuna has them."""
    return {
        round(trial.params["train.lr"], 9): (trial.state.name, trial.value)
        for trial in search.study._study.get_trials(deepcopy=False)
    }


def one(source):
    """The only job of the next group: trials of a search train alone."""
    group = source.next()
    return None if group is None else group[0]


def test_it_asks_until_the_budget_is_spent_and_tells_the_best_checkpoint(tmp_path, ledger):
    search, _ = searching(tmp_path, most=3)
    seen: list[str] = []
    source = AskedTrials([], search, ledger, on_new=lambda job: seen.append(job.name))
    given = []
    while job := one(source):
        given.append(job)
        done(ledger, job, 0.2 + len(given) / 10, 0.1)
        source.ended((job,))
    assert len({job.key for job in given}) == 3 == len(source.given)
    assert seen == [job.name for job in given]
    assert [value for _, value in answers(search).values()] == pytest.approx([0.3, 0.4, 0.5])
    assert search.left == 0


def test_trials_asked_for_before_are_given_out_first_and_not_asked_again(tmp_path, ledger):
    search, config = searching(tmp_path, most=3)
    lost = one(AskedTrials([], search, ledger))
    assert lost is not None
    ran(ledger, lost)
    search, config = searching(tmp_path, most=3)
    plan = search.plan(plan_sweep(config, sweep_id(config), 1))
    assert [job.key for job in plan.trials] == [lost.key]
    (stem,) = plan.stems
    ran(ledger, stem, Done(1.0))
    source = AskedTrials(plan.trials, search, ledger)
    keys = []
    while job := one(source):
        keys.append(job.key)
    assert keys[0] == lost.key
    assert len(set(keys)) == 3


def test_what_ended_while_nobody_listened_is_told_at_the_next_start(tmp_path, ledger):
    search, _ = searching(tmp_path)
    first = AskedTrials([], search, ledger)
    jobs = [one(first) for _ in range(4)]
    done(ledger, jobs[0], 0.6)
    ran(ledger, jobs[1], Evaluated(10, {"jf": 0.2}), Stopped(10, "asha"))
    ran(ledger, jobs[2], Evaluated(10, {"jf": 0.3}), Stopped(10, "sweep.max_hours"))
    ran(ledger, jobs[3], Failed("ValueError: no", "a log"))
    search, _ = searching(tmp_path)
    AskedTrials([], search, ledger)
    states = [state for state, _ in answers(search).values()]
    assert states == ["COMPLETE", "PRUNED", "RUNNING", "RUNNING"]
    assert [asked.answered for asked in search.study.asked] == [True, True, False, False]


def test_a_trial_stopped_early_is_told_with_its_scores(tmp_path, ledger):
    search, _ = searching(tmp_path)
    source = AskedTrials([], search, ledger)
    job = one(source)
    assert job is not None
    ran(ledger, job, Evaluated(10, {"jf": 0.2}), Evaluated(20, {"jf": 0.25}))
    source.stop(job, 20, "asha")
    source.ended((job,))
    (trial,) = search.study._study.get_trials(deepcopy=False)
    assert trial.state.name == "PRUNED"
    assert trial.intermediate_values == {10: 0.2, 20: 0.25}


def test_a_place_that_was_tried_is_not_run_twice(tmp_path, ledger, monkeypatch):
    monkeypatch.setattr("orchestrator.execution.asked_trials.TRIES", 30)
    search, _ = searching(tmp_path, {"loss.dice": [0.5, 1.0]}, most=5)
    source = AskedTrials([], search, ledger)
    names = []
    while job := one(source):
        names.append(job.name)
    assert sorted(names) == ["dice=0.5", "dice=1.0"]


def test_values_that_do_not_fit_each_other_are_told_and_another_is_asked(tmp_path, ledger, caplog):
    search, _ = searching(tmp_path, {"train.crop": {"uniform": [64, 79]}}, most=1)
    job = one(AskedTrials([], search, ledger))
    assert job is not None
    assert job.config.train.crop == 64  # the only side there that the model takes
    assert "cannot be run (must be a multiple of 16" in caplog.text
    assert [asked.values for asked in search.study.asked] == [{"train.crop": 64}]


def test_nothing_is_asked_when_the_time_is_up(tmp_path, ledger):
    search, _ = searching(tmp_path)
    source = AskedTrials([], search, ledger, ends=0.0)
    assert source.next() is None
    assert search.study.asked == []
