"""Test which trials train in lock-step."""

import itertools

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.planning.lockstep import grouped, kin
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep


def plan_of(parameters, seeds=1, **sections):
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": "generated"},
            "sweep": {"parameters": parameters, "seeds": seeds},
            **sections,
        }
    )
    return plan_sweep(located(config), sweep_id(config), threads=1)


@pytest.fixture(scope="module")
def five():
    return plan_of({"loss.omega": [0.0, 0.25, 0.5, 0.75, 1.0]})


def names(groups):
    return [[job.name for job in group] for group in groups]


def test_trials_that_differ_in_the_loss_alone_are_kin():
    parameters = {
        "loss.omega": [0.2, 0.8],
        "loss.tau": [0.1, 1.0],
        "loss.sampling": ["random", "all"],
    }
    trials = plan_of(parameters).trials
    assert len(trials) == 8
    assert len({kin(job) for job in trials}) == 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"train.lr": [1e-3, 1e-4]},
        {"student.name": ["mobilevos_mobilenetv2", "mobilevos_resnet18"]},
        {"data.max_objects": [1, 2]},
        {"train.steps": [10, 20]},
        {"loss.logit": [0.0, 1.0], "loss.representation": [0.0]},  # one has no teacher
    ],
)
def test_trials_that_learn_otherwise_are_not_kin(parameters):
    one, other = plan_of(parameters).trials
    assert kin(one) != kin(other)


def test_repeats_are_not_kin_and_teacher_and_stem_are_alone():
    plan = plan_of({"loss.omega": [0.0, 1.0]}, seeds=2)
    groups = grouped(plan.trials, "auto", at_once=1)
    assert [{job.seed for job in group} for group in groups] == [
        {job.seed} for job in (plan.trials[0], plan.trials[1])
    ]
    assert [len(group) for group in groups] == [2, 2]
    assert len({kin(job) for job in plan.jobs}) == 2 + 2


@pytest.mark.parametrize(
    ("students", "at_once", "sizes"),
    [
        (1, 2, [1, 1, 1, 1, 1]),
        (2, 1, [1, 2, 2]),
        (3, 1, [2, 3]),
        (8, 4, [5]),
        ("auto", 1, [5]),
        ("auto", 2, [2, 3]),
        ("auto", 3, [1, 2, 2]),
        ("auto", 5, [1, 1, 1, 1, 1]),
        ("auto", 64, [1, 1, 1, 1, 1]),
    ],
)
def test_groups_keep_every_slot_busy_and_differ_by_one_at_most(five, students, at_once, sizes):
    groups = grouped(five.trials, students, at_once)
    assert sorted(map(len, groups)) == sizes
    assert list(itertools.chain(*groups)) == list(five.trials)


@pytest.mark.parametrize(("room", "most"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5)])
def test_auto_takes_as_many_as_the_memory_has_room_for(five, room, most):
    groups = grouped(five.trials, "auto", 1, lambda groups: max(map(len, groups)) <= room)
    assert max(map(len, groups)) == most
    assert sum(map(len, groups)) == 5


def test_no_job_is_no_group():
    assert grouped([], "auto", 2) == grouped([], 4, 2) == []
