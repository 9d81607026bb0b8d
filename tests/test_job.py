"""One job from plan to ledger, on a folder of tiny videos."""

import re
from dataclasses import replace

import pytest
import torch

from orchestrator import job as jobs
from orchestrator.config import SweepConfig
from orchestrator.keys import sweep_id
from orchestrator.ledger import Failed, Gradients, Ledger, Picture
from orchestrator.loop import TrainingState
from orchestrator.plan import located, plan_sweep
from orchestrator.storage import Storage
from tests.conftest import write_davis
from vosmodels import checkpoint
from vosmodels.types import InputError


def plan_on(root, **train):
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": str(root), "select_height": 48, "select_stride": 2},
            "student": {"name": "mobilevos_mobilenetv2_noaspp"},
            "teacher": {"steps": 1},
            "stem": {"steps": 1, "batch_size": 2, "crop": 32, "lr": 1e-3},
            "train": {"steps": 4, "checkpoint_every": 2, "batch_size": 2, "clip_length": 3}
            | {"crop": 32, "lr": 1e-3}
            | train,
            "sweep": {"parameters": {"loss.omega": [0.0, 1.0]}},
        }
    )
    return plan_sweep(located(config), sweep_id(config), threads=1)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A plan, all of it run in this process, in order."""
    folder = tmp_path_factory.mktemp("ran")
    plan = plan_on(write_davis(folder / "davis", 2016))
    storage = Storage(folder / "results")
    for job in plan.jobs:
        jobs.run(job, storage)
    return plan, storage


def record(storage, job):
    return Ledger(storage.root).job(job.key)


def sums(storage, job):
    return [made.sha256 for made in record(storage, job).checkpoints()]


def copied(storage, target, *needed):
    """A storage that holds the jobs another one needs."""
    for job in needed:
        source = storage.ledger / f"{job.key}.jsonl"
        (target.ledger).mkdir(parents=True, exist_ok=True)
        (target.ledger / source.name).write_bytes(source.read_bytes())
        target.checkpoints.mkdir(parents=True, exist_ok=True)
        for sha in sums(storage, job):
            target.checkpoint(sha).write_bytes(storage.checkpoint(sha).read_bytes())
    return target


def test_every_job_ends_done_with_its_checkpoints_on_disk(ran):
    plan, storage = ran
    steps = {"teacher": [1], "stem": [0, 1], "trial": [2, 4]}
    for job in plan.jobs:
        log = record(storage, job)
        assert log.state == "done"
        assert [made.step for made in log.checkpoints()] == steps[job.role]
        for made in log.checkpoints():
            tensors, info = checkpoint.read(storage.root / made.path)
            assert info.scores == made.scores
            assert info.name == job.model.name
            assert not [key for key in tensors if key.startswith(("embedding", "trainee"))]
        for picture in log.of(Picture):
            assert (storage.root / picture.path).stat().st_size > 100
        assert not storage.resume(job.key).exists()


def test_a_job_measures_its_terms_and_warns_of_one_that_does_nothing(ran, tmp_path, caplog):
    plan, storage = ran
    terms = {"teacher": {"ce"}, "stem": {"ce"}, "trial": {"ce", "logit", "repr"}}
    for job in plan.jobs:
        (measured,) = record(storage, job).of(Gradients)
        assert measured.step == 1
        assert {name.rpartition("_")[0] for name in measured.norms} == terms[job.role]
        assert measured.norms["ce_z"] > 0
    trial = plan.trials[0]
    loss = trial.loss.model_copy(update={"logit": 1e6})
    loud = replace(trial, key="loud", loss=loss, train=trial.train.model_copy(update={"steps": 2}))
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    jobs.run(loud, other)
    told = record(other, loud).warnings()
    assert re.fullmatch(r"(loss\.logit: \d+ times the gradient of all else at \w+(; )?)+", told)
    assert f"{loud.name} step 1: {told}" in caplog.messages


def test_trials_start_from_the_same_stem_and_part_ways(ran):
    plan, storage = ran
    ancestor = sums(storage, plan.stems[0])[-1]
    last = [sums(storage, trial)[-1] for trial in plan.trials]
    assert last[0] != last[1]
    for trial in plan.trials:
        assert {made.ancestor for made in record(storage, trial).checkpoints()} == {ancestor}


def test_statistics_are_calibrated_once_and_the_same_in_all_that_follow(ran):
    plan, storage = ran
    stem = checkpoint.read(storage.checkpoint(sums(storage, plan.stems[0])[0]))[0]
    means = [key for key in stem if key.endswith("running_mean")]
    assert len(means) > 50
    assert any(stem[key].abs().max() > 1e-3 for key in means)
    for trial in plan.trials:
        tensors = checkpoint.read(storage.checkpoint(sums(storage, trial)[-1]))[0]
        for key in stem:
            if "running_" in key:
                assert torch.equal(tensors[key], stem[key]), key


def test_a_trial_that_breaks_off_ends_with_the_weights_of_the_unbroken_one(
    ran, tmp_path, monkeypatch
):
    plan, storage = ran
    trial = plan.trials[1]
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    save = TrainingState.save

    def save_and_die(state, folder):
        save(state, folder)
        raise RuntimeError("power cut")

    monkeypatch.setattr(TrainingState, "save", save_and_die)
    with pytest.raises(RuntimeError, match="power cut"):
        jobs.run(trial, other)
    failed = record(other, trial).failed()
    assert isinstance(failed, Failed)
    assert failed.error == "RuntimeError: power cut"
    monkeypatch.undo()
    jobs.run(trial, other)
    assert sums(other, trial) == sums(storage, trial)
    assert [loss.step for loss in record(other, trial).losses()] == [4]


def test_a_trial_does_not_depend_on_what_its_process_did_before(ran, tmp_path):
    plan, storage = ran
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    torch.manual_seed(123)
    jobs.run(plan.trials[1], other)
    assert sums(other, plan.trials[1]) == sums(storage, plan.trials[1])


def test_a_corrupt_jpeg_fails_the_job_and_is_named(tmp_path):
    root = write_davis(tmp_path / "davis", 2016)
    for path in (root / "JPEGImages" / "480p" / "ant").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-100])
    plan = plan_on(root)
    storage = Storage(tmp_path / "results")
    with pytest.raises(InputError, match=r"ant/0000\d\.jpg: corrupt picture"):
        jobs.run(plan.stems[0], storage)
    failed = record(storage, plan.stems[0]).failed()
    assert failed is not None
    assert "corrupt picture" in failed.error
    assert not storage.checkpoints.exists()


def test_a_trial_without_its_stem_says_so(tmp_path):
    plan = plan_on(write_davis(tmp_path / "davis", 2016))
    with pytest.raises(InputError, match=r"the stem of omega=0\.0 has no checkpoint"):
        jobs.run(plan.trials[0], Storage(tmp_path / "results"))
