"""Test that a job killed at any moment and continued ends with equal bits.

Neither the kill nor earlier work of the same process changes a bit of the result.
"""

import dataclasses
import functools
import multiprocessing
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.planning.plan import Plan
from orchestrator.tracking.storage import Storage
from tests.conftest import write_davis
from tests.execution import one_job
from tests.execution.test_job import plan_on, record

pytestmark = pytest.mark.slow

# What a training can remember from step to step, and what follows the step: one line for each.
VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "clipped": {"clip_norm": 1.0, "schedule": "cosine", "warmup": 0.3, "weight_decay": 1e-3},
    "averaged": {"ema": 0.9},
    "float16": {"amp": "float16"},
    "grouped": {
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "encoder_lr": 0.1,
        "schedule": "poly",
        "lr_min": 1e-4,
        "ema": 0.9,
        "ema_warmup": True,
    },
}
PLAIN = pytest.mark.parametrize("prepared", ["plain"], indirect=True)
# Processes are forked from one that has imported everything and computed nothing.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.execution.one_job"])


@dataclass(frozen=True)
class Prepared:
    """A plan, and a storage in which its teacher and stem are done."""

    plan: Plan
    root: Path

    def copy(self, name):
        return shutil.copytree(self.root, self.root.with_name(name))


@pytest.fixture(scope="module")
def prepared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    train = {"steps": 6, "checkpoint_every": 2, **VARIANTS[request.param]}
    plan = plan_on(write_davis(folder / "davis", 2016), **train)
    for job in (plan.teacher, *plan.stems):
        assert ended(started(one_job.alone, [job], folder / "begun")) == 0
    return Prepared(plan, folder / "begun")


@dataclass(frozen=True)
class Unbroken:
    """The files of a trial that nothing disturbs, and its duration in seconds."""

    left: dict
    seconds: float


@pytest.fixture(scope="module")
def unbroken(prepared):
    """The second trial, by the number of workers."""

    @functools.cache
    def run(world):
        trial, root = prepared.plan.trials[1], prepared.copy(f"unbroken-{world}")
        begun = time.monotonic()
        group = together([trial], root, world, attempt=0)
        assert [ended(process) for process in group] == [0] * world
        return Unbroken(left(trial, root), time.monotonic() - begun)

    return run


def started(target, *args):
    process = PROCESSES.Process(target=target, args=args)
    process.start()
    return process


def together(jobs, root, world, attempt):
    """The processes that train jobs in lock-step, just started."""
    if world == 1:
        return [started(one_job.alone, jobs, root)]
    meeting = root.with_name(f"{root.name}-meeting-{attempt}")
    return [started(one_job.together, rank, world, jobs, root, meeting) for rank in range(world)]


def ended(process, timeout_s=300):
    process.join(timeout_s)
    assert process.exitcode is not None, f"not ended after {timeout_s} s"
    return process.exitcode


def left(job, root):
    """All that must be the same, whatever happened on the way."""
    storage = Storage(root)
    log = record(storage, job)
    assert log.state == "done"
    assert not storage.resume(job.key).exists()
    return {
        "checkpoints": [(made.step, made.sha256, made.scores) for made in log.checkpoints()],
        "losses": [(loss.step, loss.values) for loss in log.losses()],
    }


def killed(group, victims, after_s):
    """Kill some of a group; True where that ended it. The others notice, or are killed too."""
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline and any(process.is_alive() for process in group):
        time.sleep(0.001)
    for victim in victims:
        group[victim].kill()
        assert ended(group[victim]) in (0, -signal.SIGKILL)
    for process in group:
        process.join(5)
        process.kill()
        process.join()
    return any(process.exitcode for process in group)


@pytest.mark.parametrize(
    ("prepared", "world"),
    [
        pytest.param(name, world, marks=pytest.mark.soak if name != "plain" and world > 1 else ())
        for world in (1, 2)
        for name in VARIANTS
    ],
    indirect=["prepared"],
)
def test_a_trial_killed_at_random_moments_ends_with_the_bits_of_the_unbroken_one(
    prepared, unbroken, world, request
):
    kills = 6 if request.node.callspec.params["prepared"] == "plain" else 3
    assert_kills_change_nothing(prepared, unbroken, world, prepared.plan.trials[1:], kills)


@PLAIN
@pytest.mark.parametrize("world", [1, 2])
def test_trials_in_lockstep_killed_at_random_moments_end_with_the_bits_of_each_alone(
    prepared, unbroken, world
):
    assert_kills_change_nothing(prepared, unbroken, world, prepared.plan.trials, kills=4)


def assert_kills_change_nothing(prepared, unbroken, world, trials, kills):
    """Train trials whose last one is the second, in lock-step where there are two."""
    trial, expected = trials[-1], unbroken(world)
    random_ = random.Random(world)
    count, run, attempt = 0, 0, 0
    while count < kills:
        run += 1
        root = prepared.copy(f"killed-{len(trials)}-{world}-{run}")
        for _ in range(5):
            attempt += 1
            victims = random_.sample(range(world), random_.randint(1, world))
            after_s = random_.uniform(0, expected.seconds)
            died = killed(together(trials, root, world, attempt), victims, after_s)
            count += died
            if not died:
                break
        attempt += 1
        assert {ended(process) for process in together(trials, root, world, attempt)} == {0}
        assert left(trial, root) == expected.left


@PLAIN
def test_a_trial_killed_before_each_change_on_disk_ends_with_the_bits_of_the_unbroken_one(
    prepared, unbroken
):
    """Attempt n dies before its n-th change: within every write there is, and every deletion."""
    trial, root = prepared.plan.trials[1], prepared.copy("changes")
    number, code = 0, None
    while code != 0:
        number += 1
        code = ended(started(one_job.alone, [trial], root, number))
        assert code in (0, -signal.SIGKILL)
    assert number > 20
    assert left(trial, root) == unbroken(1).left


@PLAIN
def test_a_stem_killed_before_every_third_change_ends_with_the_bits_of_the_unbroken_one(prepared):
    stem = prepared.plan.stems[0]
    root = prepared.root.with_name("stem")
    number, code = 0, None
    while code != 0:
        number += 3
        code = ended(started(one_job.alone, [stem], root, number))
    assert left(stem, root) == left(stem, prepared.root)


@PLAIN
@pytest.mark.parametrize("before", ["third", "after a failed one", "in a disturbed process"])
def test_a_trial_in_a_reused_process_ends_with_the_bits_of_a_new_one(prepared, unbroken, before):
    first, trial = prepared.plan.trials
    root = prepared.copy(before)
    (stage,) = trial.stages
    train = stage.train.model_copy(update={"lr": 1e30, "clip_norm": 0.0})
    wild = (dataclasses.replace(stage, train=train),)
    diverging = dataclasses.replace(trial, key="diverging", name="diverging", stages=wild)
    todo = [first, diverging, trial] if before == "third" else [diverging, trial]
    todo = [trial] if before == "in a disturbed process" else todo
    disturbed = before == "in a disturbed process"
    assert ended(started(one_job.in_turn, todo, root, disturbed)) == 0
    if diverging in todo:
        assert record(Storage(root), diverging).state == "failed"
    assert left(trial, root) == unbroken(1).left
