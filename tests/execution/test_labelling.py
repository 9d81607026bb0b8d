"""Test that a teacher's masks label the videos of which only the first mask is used."""

import shutil

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import job as jobs
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking import events
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.conftest import write_davis
from tests.model_tools import fill_from_names
from vosmodels import checkpoint, registry

MODEL = "mobilevos_mobilenetv2_noaspp"
FREE = {"logit": 0.0, "representation": 0.0, "dice": 1.0}


@pytest.fixture(scope="module", autouse=True)
def few_calibration_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "CALIBRATION_BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Weights of a teacher that predicts something."""
    model = registry.build(MODEL, seed=3)
    fill_from_names(model)
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=0, scores={})
    path, _ = checkpoint.write(tmp_path_factory.mktemp("teacher"), model.state_dict(), info)
    return path


def first_masks_alone(root, *names):
    """Delete every mask of the videos but the first."""
    for name in names:
        for path in sorted((root / "Annotations/480p" / name).iterdir())[1:]:
            path.unlink()
    return root


def plan_on(root, weights, *, sources=None, **sections):
    """One trial on `ant`, whose masks are true, and `bee`, whose masks are the teacher's."""
    for name in ("ant", "bee"):
        (root / f"{name}.txt").write_text(f"{name}\n")
    train = sources or [
        {"root": str(root), "split": str(root / "ant.txt")},
        {"root": str(root), "split": str(root / "bee.txt"), "labels": "teacher"},
    ]
    values = {
        "name": "tiny",
        "data": {"root": str(root), "select_height": 48, "train": train, "max_objects": 1},
        "student": {"name": MODEL},
        "teacher": {"name": MODEL, "weights": str(weights)},
        "loss": FREE,
        "stem": {"steps": 1, "batch_size": 2, "crop": 32, "lr": 1e-3},
        "train": {"steps": 2, "checkpoint_every": 2, "batch_size": 2, "clip_length": 3}
        | {"crop": 32, "lr": 1e-3},
        "sweep": {"parameters": {"train.lr": [1e-3]}},
    }
    for name, section in sections.items():
        values[name] = values[name] | section
    config = SweepConfig.model_validate(values)
    return plan_sweep(located(config), sweep_id(config), threads=1)


def run(plan, folder):
    """Run a plan; return the sha256 of its last checkpoint, and its storage."""
    storage = Storage(folder)
    for job in plan.jobs:
        jobs.run(job, storage)
    return Ledger(folder).job(plan.trials[0].key).checkpoints()[-1].sha256, storage


@pytest.mark.slow
@pytest.mark.parametrize(("segments", "threshold"), [("video", 0.44), ("clip", 0.55)])
def test_masks_after_the_first_change_neither_keys_nor_weights(
    tmp_path, teacher, segments, threshold
):
    full = write_davis(tmp_path / "full", 2017)
    settings = {"threshold": threshold, "segments": segments}
    plan = plan_on(full, teacher, teacher=settings)
    first = first_masks_alone(shutil.copytree(full, tmp_path / "first"), "bee")
    twin = plan_on(first, teacher, teacher=settings)
    assert [job.key for job in plan.jobs] == [job.key for job in twin.jobs]
    sha256, storage = run(plan, tmp_path / "a")
    assert run(twin, tmp_path / "b")[0] == sha256
    supervised = plan_on(full, teacher, sources=[{"root": str(full)}])
    assert run(supervised, tmp_path / "c")[0] != sha256
    record = Ledger(storage.root).job(plan.trials[0].key)
    (taught,) = record.of(events.Taught)
    assert taught.teacher == f"{MODEL} {teacher.stem}"
    assert (taught.segments, taught.threshold, taught.videos) == (segments, threshold, 1)
    shares = [losses.values["ignored"] for losses in record.losses()]
    assert 0 < max(shares) < 1
    if segments == "video":
        assert taught.ignored is not None
        assert 0 < taught.ignored < 1
