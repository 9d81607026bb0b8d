"""Test one job from plan to ledger, on a folder of tiny videos."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution import driver, usage
from orchestrator.execution import job as jobs
from orchestrator.execution.recorder import CheckpointRecorder
from orchestrator.execution.scoring import Scorer
from orchestrator.planning import calibration
from orchestrator.planning.paths import located
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.events import (
    Attention,
    Evaluated,
    Failed,
    Gradients,
    Picture,
    Speed,
    Usage,
)
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.state import TrainingState
from tests.conftest import write_davis
from tests.execution.one_job import disturb
from tests.model_tools import fill_from_names
from vosmodels import checkpoint, registry
from vosmodels.data.overlay import overlay
from vosmodels.errors import InputError
from vosmodels.evaluation import strata
from vosmodels.inference import VideoSegmenter, for_inference


def plan_on(root, student="mobilevos_mobilenetv2_noaspp", teacher="stcn_mobilenetv2", **train):
    crop = 32 + registry.entry(student).side
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": str(root), "select_height": 48, "select_stride": 2},
            "student": {"name": student},
            "teacher": {"name": teacher, "steps": 1},
            "stem": {"steps": 1, "batch_size": 2, "crop": crop, "lr": 1e-3},
            "train": {"steps": 4, "checkpoint_every": 2, "batch_size": 2, "clip_length": 3}
            | {"crop": crop, "lr": 1e-3}
            | train,
            "sweep": {"parameters": {"loss.omega": [0.0, 1.0]}},
        }
    )
    return plan_sweep(located(config), sweep_id(config), threads=1)


@pytest.fixture(scope="module", autouse=True)
def few_calibration_batches():
    """Statistics of two batches: every job that starts from nothing takes them anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "BATCHES", 2)
        yield


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A plan, all of it run in this process, in order."""
    folder = tmp_path_factory.mktemp("ran")
    plan = plan_on(write_davis(folder / "davis", 2016))
    storage = Storage(folder / "results")
    for job in plan.jobs:
        jobs.run([job], storage)
    return plan, storage


def die_after_saving(monkeypatch, when=lambda stage_and_step: True):
    save = TrainingState.save

    def save_and_die(state, folder):
        save(state, folder)
        if when((state.stage, state.step)):
            raise RuntimeError("power cut")

    monkeypatch.setattr(TrainingState, "save", save_and_die)


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
            path = storage.root / made.path
            tensors, info = checkpoint.read_tensors(path), checkpoint.read_info(path)
            assert info.scores == made.scores
            assert info.name == job.model.name
            assert not [key for key in tensors if key.startswith(("embedding", "trainee"))]
        for picture in log.of(Picture):
            assert (storage.root / picture.path).stat().st_size > 100
        assert not log.of(Attention)  # these networks have none
        assert not storage.resume(job.key).exists()


def test_a_job_records_what_it_took_of_its_node_however_short_it_is(ran):
    plan, storage = ran
    for job in plan.jobs:
        used = record(storage, job).of(Usage)
        assert used[-1].step == job.steps
        assert used[-1].values["system_memory_usage_megabytes"] > 100  # torch alone takes that
        assert 0 < used[-1].values["cpu_utilization_percentage"] < 101


def test_a_job_records_at_each_step_where_it_is_due(ran, tmp_path, monkeypatch):
    plan, storage = ran
    monkeypatch.setattr(usage, "EVERY_S", 0.0)
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    jobs.run([plan.trials[0]], other)
    events = record(other, plan.trials[0]).of(Usage)
    assert [event.step for event in events] == [1, 2, 3, 4]
    times = [event.time for event in events]
    assert times == sorted(times)


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
    (stage,) = trial.stages
    short = replace(stage, train=stage.train.model_copy(update={"steps": 2}))
    loud = replace(trial, key="loud", loss=loss, stages=(short,))
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    jobs.run([loud], other)
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


def test_a_checkpoints_strata_are_recorded_beside_its_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(strata, "RULES", {"object 2": lambda video: [2], "none": lambda video: []})
    plan = plan_on(write_davis(tmp_path / "davis", 2017))
    (job,) = plan.stems
    storage = Storage(tmp_path / "results")
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0).eval()
    fill_from_names(model)
    scorer = Scorer(storage, ScoringProtocol.for_select(job.config.data))
    with record(storage, job).claim() as claimed:
        recorder = CheckpointRecorder(job, storage, None, claimed, scorer)
        recorder.checkpoint(model, 7)
        recorder.evaluate(model, 8)
    (made,) = record(storage, job).checkpoints()
    known = scorer.known(made.sha256)
    assert known is not None
    second = known.sequences[0].objects[2]
    for event in record(storage, job).of(Evaluated):
        assert event.scores["jf_object_2"] == (second.j + second.f) / 2
        assert "jf_none" not in event.scores


def test_a_job_ends_with_one_picture_of_where_its_attention_looks(tmp_path, monkeypatch):
    plan = plan_on(write_davis(tmp_path / "davis", 2017), student="deaott", teacher="deaott")
    (job,) = plan.stems
    storage = Storage(tmp_path / "results")
    recorder, drawn = CheckpointRecorder, []
    attention = recorder.attention

    def power_cut(self, model, step):
        attention(self, model, step)
        drawn.append(step)
        if len(drawn) == 1:
            raise RuntimeError("power cut")

    monkeypatch.setattr(recorder, "attention", power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        jobs.run([job], storage)
    jobs.run([job], storage)
    assert drawn == [1, 1]
    log = record(storage, job)
    assert log.state == "done"
    (shown,) = log.of(Attention)
    assert shown.path == f"pictures/{job.key}/attention-0000001.png"
    with Image.open(storage.root / shown.path) as image:
        width, height = image.size
    # Two attentions of four panels each, at the size of the frames.
    assert (width, height) == (4 * 64 + 3 * 4, 2 * (48 + 18) + 4)
    assert [one.step for one in log.of(Picture) if not isinstance(one, Attention)] == [0, 1]


def test_a_checkpoints_picture_is_drawn_from_the_masks_that_were_scored(tmp_path, monkeypatch):
    plan = plan_on(write_davis(tmp_path / "davis", 2017))
    (job,) = plan.stems
    storage = Storage(tmp_path / "results")
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0).eval()
    fill_from_names(model)
    scorer = Scorer(storage, ScoringProtocol.for_select(job.config.data))
    step, seen = VideoSegmenter.step, []

    def counted(segmenter, frame, mask=None, **options):
        seen.append(step(segmenter, frame, mask, **options))
        return seen[-1]

    monkeypatch.setattr(VideoSegmenter, "step", counted)
    with record(storage, job).claim() as claimed:
        CheckpointRecorder(job, storage, None, claimed, scorer).checkpoint(model, 7)
    (video,) = scorer.videos
    visited = range(0, len(video), 2)
    assert len(seen) == len(visited)
    monkeypatch.undo()
    segmenter, columns = VideoSegmenter(for_inference(model)), []
    for number in visited:
        frame = video.frame(number)
        given = torch.from_numpy(video.mask(0)).long() if number == 0 else None
        ids = segmenter.step(torch.from_numpy(frame).permute(2, 0, 1) / 255, given)
        columns.append((overlay(frame, ids.numpy()), overlay(frame, video.mask(number))))
    assert len(np.unique(segmenter.probabilities.argmax(0))) > 1  # the masks are not empty
    picture = np.asarray(Image.open(storage.pictures(job.key) / "0000007.png"))
    height, width = video.frame(0).shape[:2]
    for place, column in enumerate(columns):
        left = place * (width + 4)
        for top, part in zip((0, height + 4), column, strict=True):
            np.testing.assert_array_equal(picture[top : top + height, left : left + width], part)


def test_statistics_are_calibrated_once_and_the_same_in_all_that_follow(ran):
    plan, storage = ran
    stem = checkpoint.read_tensors(storage.checkpoint(sums(storage, plan.stems[0])[0]))
    means = [key for key in stem if key.endswith("running_mean")]
    assert len(means) > 50
    assert any(stem[key].abs().max() > 1e-3 for key in means)
    for trial in plan.trials:
        tensors = checkpoint.read_tensors(storage.checkpoint(sums(storage, trial)[-1]))
        for key in stem:
            if "running_" in key:
                assert torch.equal(tensors[key], stem[key]), key


def test_a_trial_that_breaks_off_ends_with_the_weights_of_the_unbroken_one(
    ran, tmp_path, monkeypatch
):
    plan, storage = ran
    trial = plan.trials[1]
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    die_after_saving(monkeypatch)
    with pytest.raises(RuntimeError, match="power cut"):
        jobs.run([trial], other)
    failed = record(other, trial).failed()
    assert isinstance(failed, Failed)
    assert failed.error == "RuntimeError: power cut"
    monkeypatch.undo()
    jobs.run([trial], other)
    assert sums(other, trial) == sums(storage, trial)
    assert [loss.step for loss in record(other, trial).losses()] == [4]
    assert [speed.step for speed in record(other, trial).of(Speed)] == [4]


@pytest.mark.slow
def test_a_trial_in_bfloat16_resumes_to_the_weights_of_the_unbroken_one_with_workers_too(
    tmp_path, monkeypatch
):
    plan = plan_on(write_davis(tmp_path / "davis", 2016), amp="bfloat16")
    storage = Storage(tmp_path / "results")
    for job in (plan.teacher, *plan.stems, plan.trials[1]):
        jobs.run([job], storage)
    other = copied(storage, Storage(tmp_path / "other"), plan.teacher, *plan.stems)
    cluster = plan.trials[1].config.cluster.model_copy(update={"loaders": 2})
    config = plan.trials[1].config.model_copy(update={"cluster": cluster})
    trial = replace(plan.trials[1], config=config)
    die_after_saving(monkeypatch)
    with pytest.raises(RuntimeError, match="power cut"):
        jobs.run([trial], other)
    monkeypatch.undo()
    jobs.run([trial], other)
    assert len(sums(storage, trial)) == 2
    assert sums(other, trial) == sums(storage, trial)


def test_a_trial_does_not_depend_on_what_its_process_did_before(ran, tmp_path):
    plan, storage = ran
    other = copied(storage, Storage(tmp_path), plan.teacher, *plan.stems)
    disturb()
    jobs.run([plan.trials[1]], other)
    assert sums(other, plan.trials[1]) == sums(storage, plan.trials[1])


def test_a_job_that_was_killed_after_its_last_word_is_not_trained_again(ran):
    plan, storage = ran
    trial = plan.trials[0]
    before = record(storage, trial).path.read_bytes()
    storage.resume(trial.key).mkdir(parents=True)
    (storage.resume(trial.key) / "0000004.json").write_text("its tensors are gone already")
    jobs.run([trial], storage)
    assert record(storage, trial).path.read_bytes() == before
    assert not storage.resume(trial.key).exists()


def test_a_corrupt_jpeg_fails_the_job_and_is_named(tmp_path):
    root = write_davis(tmp_path / "davis", 2016)
    for path in (root / "JPEGImages" / "480p" / "ant").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-100])
    plan = plan_on(root)
    storage = Storage(tmp_path / "results")
    with pytest.raises(InputError, match=r"ant/0000\d\.jpg: corrupt picture"):
        jobs.run([plan.stems[0]], storage)
    failed = record(storage, plan.stems[0]).failed()
    assert failed is not None
    assert "corrupt picture" in failed.error
    assert not storage.checkpoints.exists()


def test_a_job_of_two_stages_goes_on_in_the_stage_it_broke_off_in(tmp_path, monkeypatch):
    root = write_davis(tmp_path / "davis", 2016)
    base = {"batch_size": 2, "crop": 32, "clip_length": 2, "lr": 1e-3}
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": str(root), "select_height": 32, "select_stride": 2},
            "student": {"name": "mobilevos_mobilenetv2_noaspp"},
            "loss": {"logit": 0, "representation": 0},
            "stages": [
                {"name": "video", "steps": 2, **base},
                {"name": "video", "steps": 3, **base, "max_skip": "curriculum"},
                {"name": "video", "steps": 1, **base},
            ],
            "train": {"checkpoint_every": 1, "ema": 0.5, "augmentation": "stcn"},
            "sweep": {"parameters": {"loss.dice": [1.0]}},
        }
    )
    plan = plan_sweep(located(config), sweep_id(config), threads=1)
    (stem,) = plan.stems
    whole, broken = Storage(tmp_path / "whole"), Storage(tmp_path / "broken")
    jobs.run([stem], whole)
    made = record(whole, stem).checkpoints()
    assert [checkpoint.step for checkpoint in made] == [0, 2, 5]
    die_after_saving(monkeypatch, lambda at: at in {(0, 1), (0, 2), (1, 2)})
    for _ in range(3):
        with pytest.raises(RuntimeError, match="power cut"):
            jobs.run([stem], broken)
    jobs.run([stem], broken)
    assert sums(broken, stem)[-1] == sums(whole, stem)[-1]


def test_a_trial_without_its_stem_says_so(tmp_path):
    plan = plan_on(write_davis(tmp_path / "davis", 2016))
    with pytest.raises(InputError, match=r"the stem of omega=0\.0, has no checkpoint"):
        jobs.run([plan.trials[0]], Storage(tmp_path / "results"))


def test_a_stem_or_teacher_whose_file_is_corrupt_is_told_before_any_job_starts(ran, tmp_path):
    plan, storage = ran
    assert plan.teacher is not None
    needed = (plan.teacher, *plan.stems)
    other = copied(storage, Storage(tmp_path), *needed)
    driver._check_needed(plan, other)
    paths = [other.checkpoint(sums(other, job)[-1]) for job in needed]
    for path in paths:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError) as caught:
        driver._check_needed(plan, other)
    for job, path in zip(needed, paths, strict=True):
        line = f"the {job.role}: {path}: corrupt: its sha256 is "
        assert line in str(caught.value)
        assert f"move {record(other, job).path} away" in str(caught.value)
    says = rf"the stem of {plan.trials[0].name}: {paths[-1]}: corrupt"
    with pytest.raises(InputError, match=says):
        jobs.run([plan.trials[0]], other)


def test_a_stem_that_is_trained_anew_replaces_its_corrupt_file(ran, tmp_path):
    plan, storage = ran
    (stem,) = plan.stems
    assert plan.teacher is not None
    other = copied(storage, Storage(tmp_path), plan.teacher, stem)
    sha256 = sums(other, stem)[-1]
    other.checkpoint(sha256).write_bytes(b"torn")
    record(other, stem).path.unlink()
    jobs.run([stem], other)
    assert sums(other, stem)[-1] == sha256
    assert other.checkpoint(sha256).read_bytes() == storage.checkpoint(sha256).read_bytes()
