"""Test which jobs a sweep has, and what their keys depend on."""

import shutil

import numpy as np
import pytest
from PIL import Image

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.planning import datasets, protocol
from orchestrator.planning.paths import located
from orchestrator.planning.plan import job_alone, plan_sweep
from tests.conftest import SPLITS
from vosmodels.errors import InputError


def config(**sections):
    base = {
        "name": "omega",
        "student": {"name": "mobilevos_mobilenetv2_noaspp"},
        "stem": {"batch_size": 4, "crop": 64, "lr": 1e-3},
        "sweep": {"parameters": {"loss.omega": [0.0, 1.0]}},
    }
    return SweepConfig.model_validate(base | sections)


def plan(threads=1, **sections):
    made = config(**sections)
    return plan_sweep(located(made), sweep_id(made), threads)


BASE = plan()


def keys(jobs):
    return [job.key for job in jobs]


def test_a_sweep_is_a_teacher_a_stem_and_the_grid():
    assert BASE.teacher is not None
    assert [job.name for job in BASE.trials] == ["omega=0.0", "omega=1.0"]
    assert len({job.key for job in BASE.jobs}) == 4
    first, second = BASE.rounds
    assert [job.role for job in first] == ["teacher", "stem"]
    assert [job.role for job in second] == ["trial", "trial"]
    for trial in BASE.trials:
        assert trial.needs == {"stem": BASE.stems[0].key, "teacher": BASE.teacher.key}


def test_the_same_configuration_has_the_same_keys():
    assert keys(plan().jobs) == keys(BASE.jobs)


def test_trials_have_the_keys_of_earlier_versions(monkeypatch):
    """A trial trained before is done: its key changes only with plan.RECIPE."""
    for module in (datasets, protocol):
        monkeypatch.setattr(module, "fingerprint", lambda data, split: f"content of {split}")
    assert keys(plan(data={"report": "test"}).trials) == ["9b195c0397345b79", "2850993d65bed4ce"]


def test_extending_the_grid_keeps_what_was_there():
    wider = plan(sweep={"parameters": {"loss.omega": [0.0, 0.5, 1.0]}})
    assert set(keys(BASE.jobs)) < set(keys(wider.jobs))


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"data": {"report": "test"}}, {"teacher", "stem", "trial"}),
        ({"soup": {"min_delta": 0.1}}, {"teacher", "stem", "trial"}),
        ({"cluster": {"retries": 5}}, {"teacher", "stem", "trial"}),
        ({"train": {"eval_every": 7}}, {"teacher", "stem", "trial"}),
        ({"loss": {"tau": 0.5}}, {"teacher", "stem"}),
        ({"train": {"checkpoint_every": 50}}, {"teacher", "stem"}),
        ({"name": "other"}, {"teacher", "stem"}),
        ({"data": {"select_height": 100}}, {"teacher", "stem"}),
        ({"train": {"steps": 300}}, {"teacher", "stem"}),
        ({"teacher": {"steps": 300}}, {"stem"}),
        ({"stem": {"steps": 5, "batch_size": 4, "crop": 64, "lr": 1e-3}}, {"teacher"}),
        ({"student": {"name": "mobilevos_mobilenetv2"}}, {"teacher"}),
        ({"loss": {"dice": 1.0}}, set()),
        ({"data": {"max_objects": 1}}, set()),
        ({"seed": 1}, set()),
    ],
)
def test_a_key_changes_with_what_shapes_the_job_and_with_nothing_else(change, stays):
    changed = plan(**change)
    for role in ("teacher", "stem", "trial"):
        before = [job.key for job in BASE.jobs if job.role == role]
        after = [job.key for job in changed.jobs if job.role == role]
        assert (before == after) == (role in stays), role


def test_the_thread_count_is_part_of_every_key():
    assert not set(keys(plan(threads=2).jobs)) & set(keys(BASE.jobs))


def test_a_swept_training_value_makes_one_stem_and_other_trials():
    swept = plan(sweep={"parameters": {"train.lr": [1e-3, 1e-4], "loss.tau": [0.1, 1.0]}})
    assert len(swept.stems) == 1
    assert len(set(keys(swept.trials))) == 4
    assert {job.stages[0].train.lr for job in swept.trials} == {1e-3, 1e-4}


def test_a_swept_value_that_shapes_the_stem_makes_several():
    swept = plan(sweep={"parameters": {"stem.steps": [10, 20]}})
    assert [stem.steps for stem in swept.stems] == [10, 20]
    assert [trial.needs["stem"] for trial in swept.trials] == keys(swept.stems)


def test_repeats_share_the_stem_and_draw_otherwise():
    repeated = plan(sweep={"parameters": {"loss.omega": [0.0]}, "seeds": 3})
    assert len(repeated.stems) == 1
    assert len({job.seed for job in repeated.trials}) == 3
    assert repeated.trials[0].seed == 0


def test_without_distillation_there_is_no_teacher():
    plain = plan(loss={"logit": 0, "representation": 0}, sweep={"parameters": {"train.lr": [1e-3]}})
    assert plain.teacher is None
    assert set(plain.trials[0].needs) == {"stem"}


def test_a_point_with_weights_of_its_own_is_not_taught_by_the_teacher_that_is_trained(tmp_path):
    """Only the bytes of a weights file go into keys here; nothing loads it."""
    path = tmp_path / "seen.safetensors"
    path.write_bytes(b"some weights")
    points = {"trained here": {}, "given": {"teacher.weights": str(path)}}
    both = plan(sweep={"points": points})
    assert both.teacher is not None
    assert [set(trial.needs) for trial in both.trials] == [{"stem", "teacher"}, {"stem"}]
    given = both.trials[1].key
    path.write_bytes(b"other weights")
    again = plan(sweep={"points": points})
    assert again.trials[0].key == both.trials[0].key
    assert again.trials[1].key != given
    alone = plan(sweep={"points": {"given": points["given"]}})
    assert alone.teacher is None
    assert keys(alone.trials) == [again.trials[1].key]


def test_teacher_and_stem_share_batch_crop_and_rate_and_trials_have_their_own():
    made = plan(
        stem={"steps": 9, "batch_size": 2, "crop": 48, "lr": 3e-3},
        teacher={"steps": 7},
        train={"batch_size": 4, "crop": 64, "lr": 1e-4},
    )
    assert made.teacher is not None
    for job, steps in ((made.teacher, 7), (made.stems[0], 9)):
        found = job.stages[0].train
        assert (found.steps, found.batch_size, found.crop, found.lr) == (steps, 2, 48, 3e-3)
    own = made.trials[0].stages[0].train
    assert (own.batch_size, own.lr) == (4, 1e-4)


def test_teacher_and_stem_learn_from_masks_alone():
    for job in BASE.rounds[0]:
        assert job.loss.logit == job.loss.representation == 0


def test_a_stem_of_labels_takes_the_weight_of_the_cross_entropy_where_it_is_asked_to():
    loss = {"ce": 0.5, "dice": 0.5, "poly": 0.0, "jaccard": "classes"}
    stem = {"batch_size": 4, "crop": 64, "lr": 1e-3}
    plain, supervised = (
        plan(loss=loss, stem=stem | {"loss": word}) for word in ("cross_entropy", "supervised")
    )
    for made, weight in ((plain, 1.0), (supervised, 0.5)):
        for job in made.rounds[0]:
            terms = (job.loss.ce, job.loss.dice, job.loss.poly, job.loss.jaccard)
            assert terms == (weight, 0.5, 0.0, "classes"), job.role
    halved = plan(loss={"dice": 0.5}, stem=stem)
    assert len({key for made in (plain, supervised, halved) for key in keys(made.rounds[0])}) == 6


def test_teacher_and_stem_have_the_keys_of_earlier_versions(monkeypatch):
    for module in (datasets, protocol):
        monkeypatch.setattr(module, "fingerprint", lambda data, split: f"content of {split}")
    found = keys(plan(loss={"dice": 0.5, "ce": 0.25}).rounds[0])
    assert found == ["a1f70bb725c5103c", "f95411b94d6010db"]


def test_a_file_of_weights_counts_by_its_content(tmp_path):
    def with_file(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return plan(student={"name": "mobilevos_mobilenetv2_noaspp", "backbone": str(path)})

    same = with_file("a", b"1"), with_file("b", b"1")
    assert keys(same[0].stems) == keys(same[1].stems)
    assert keys(with_file("c", b"2").stems) != keys(same[0].stems)


def test_missing_weights_are_named():
    with pytest.raises(
        InputError, match=r"no/such\.pth: no such file; give the path of a weights file"
    ):
        plan(teacher={"weights": "no/such.pth"})


def test_workers_get_absolute_paths_and_keys_do_not_depend_on_them(tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    near = plan(student={"name": "mobilevos_mobilenetv2", "backbone": "w"})
    far = plan(student={"name": "mobilevos_mobilenetv2", "backbone": str(tmp_path / "w")})
    assert near.trials[0].config.student.backbone == str(tmp_path / "w")
    assert keys(near.jobs) == keys(far.jobs)


def test_a_file_of_a_splits_names_gives_the_keys_of_that_split(davis_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, names in SPLITS.items():
        (tmp_path / f"my-{split}.txt").write_text("\n".join(names))

    def jobs_of(train, select, report):
        data = {"root": str(davis_root), "train": train, "select": select, "report": report}
        return plan(data=data).jobs

    by_file = jobs_of("my-train.txt", "my-val.txt", "my-val-again.txt")
    assert keys(by_file) == keys(jobs_of("train", "val", None))
    assert keys(by_file) != keys(jobs_of("my-val.txt", "val", None))
    data = by_file[0].config.data
    assert (data.train, data.select) == (str(tmp_path / "my-train.txt"), f"{tmp_path}/my-val.txt")
    assert data.report == str(tmp_path / "my-val-again.txt")


def test_a_lists_split_file_is_made_absolute_and_its_named_split_is_not(davis_root, monkeypatch):
    monkeypatch.chdir(davis_root)
    sources = [{"root": ".", "split": "my.txt"}, {"root": ".", "split": "val"}]
    mine, named = located(config(data={"root": ".", "train": sources})).data.train
    assert (mine.root, mine.split) == (str(davis_root), str(davis_root / "my.txt"))
    assert (named.root, named.split) == (str(davis_root), "val")


def test_a_model_of_the_store_keeps_its_name_when_paths_become_absolute():
    named = located(config(teacher={"weights": "models:/m-1"}))
    assert named.teacher.weights == "models:/m-1"


def staged_plan(*stages, **sections):
    return plan(stages=list(stages), stem={}, **sections)


FIRST = {"name": "video", "steps": 3, "lr": 1e-3}
LAST = {"name": "video", "steps": 4, "max_skip": "curriculum"}


def test_all_stages_but_the_last_belong_to_the_stem_and_the_teacher_goes_through_all():
    made = staged_plan(FIRST, LAST, teacher={"steps": 7})
    steps = {job.role: [stage.train.steps for stage in job.stages] for job in made.jobs}
    assert steps == {"stem": [3], "trial": [4], "teacher": [3, 7]}
    assert made.trials[0].stages[0].train.max_skip == "curriculum"


def test_the_only_stage_is_the_trials_and_the_stem_is_the_student_as_it_starts():
    made = staged_plan(LAST)
    assert [job.steps for job in made.stems] == [0]
    assert {job.steps for job in made.trials} == {4}


@pytest.mark.parametrize(
    ("first", "last", "stays"),
    [
        ({"steps": 4}, {}, set()),
        ({"decay_at": 0.5}, {}, set()),
        ({}, {"lr": 1e-3}, {"stem"}),
        ({}, {"max_skip": 3}, {"stem"}),
    ],
)
def test_a_stage_shapes_the_jobs_that_go_through_it(first, last, stays):
    before, after = staged_plan(FIRST, LAST), staged_plan(FIRST | first, LAST | last)
    for role in ("stem", "trial", "teacher"):
        same = [[j.key for j in p.jobs if j.role == role] for p in (before, after)]
        assert (same[0] == same[1]) == (role in stays), role


def taught(root, *, loss=None, **sections):
    """A plan in which `ant` has true labels and `bee` those of a teacher."""
    for name in ("ant", "bee"):
        (root / f"{name}.txt").write_text(f"{name}\n")
    train = [{"root": str(root), "split": str(root / f"{name}.txt")} for name in ("ant", "bee")]
    train[1]["labels"] = "teacher"
    supervised = {"logit": 0.0, "representation": 0.0}
    return plan(
        data={"root": str(root), "train": train},
        loss=supervised | (loss or {}),
        sweep={"parameters": {"train.lr": [1e-3]}},
        **sections,
    )


def test_a_teacher_that_is_trained_here_learns_from_true_labels_and_comes_first(davis_root):
    made = taught(davis_root)
    assert made.teacher is not None
    ((source,),) = [stage.data.train for stage in made.teacher.stages]
    assert source.split.endswith("ant.txt")
    (stem,), (trial,) = made.stems, made.trials
    assert stem.needs == {"teacher": made.teacher.key}
    assert trial.needs == {"teacher": made.teacher.key, "stem": stem.key}
    assert [[job.role for job in jobs] for jobs in made.rounds] == [
        ["teacher"],
        ["stem"],
        ["trial"],
    ]
    assert (trial.taught, trial.teaches, made.teacher.taught) == (True, False, False)
    assert taught(davis_root, teacher={"segments": "clip"}).trials[0].teaches


def test_the_key_of_a_trial_holds_how_its_labels_are_made(davis_root):
    bases = {"": {}, "threshold": {"threshold": 0.7}, "rows": {"rows": 32}}
    bases |= {"clip": {"segments": "clip"}, "steps": {"steps": 7}, "soft": {"targets": "soft"}}
    found = {name: taught(davis_root, teacher=base).trials[0].key for name, base in bases.items()}
    assert len(set(found.values())) == len(bases)
    clip = {"segments": "clip", "rows": 32}  # rows are of whole videos
    assert taught(davis_root, teacher=clip).trials[0].key == found["clip"]


def few_clips(labels="teacher", *, teacher=None, **data):
    """A plan whose generated clips are labelled in part; the rows: without a teacher, and with."""
    alone = {"data.labels": "truth", "loss.logit": 0.0, "loss.representation": 0.0}
    return plan(
        data={"labels": labels, "labelled": 8} | data,
        teacher={"segments": "clip"} | (teacher or {}),
        sweep={"points": {"labelled only": alone, "taught": {}}},
    )


def test_beside_few_labelled_clips_the_trials_alone_learn_from_others():
    made = few_clips(teacher={"labelled": "all"})
    assert made.teacher is not None
    (stem,), (alone, taught) = made.stems, made.trials
    seen = {job.name: job.stages[-1].data for job in (made.teacher, stem, alone, taught)}
    assert [(data.labelled, data.labels) for data in seen.values()] == [
        (None, "truth"),
        (8, "truth"),
        (8, "truth"),
        (8, "teacher"),
    ]
    assert (alone.teaches, taught.teaches, taught.labels_clips) == (False, True, True)
    assert not stem.needs
    assert few_clips().teacher.stages[-1].data.labelled == 8


def test_the_keys_of_jobs_hold_how_many_clips_are_labelled_and_how_the_others_are():
    made = [few_clips(), few_clips(labelled=9), few_clips("none"), few_clips(teacher={"steps": 9})]
    made += [few_clips(teacher={"threshold": 0.5}), few_clips(teacher={"labelled": "all"})]
    assert len({each.trials[1].key for each in made}) == len(made)
    assert len({each.stems[0].key for each in made}) == 2  # with 8 and with 9 clips


def test_a_loss_that_reads_no_labels_needs_no_labels_of_a_teacher(davis_root):
    free = {"ce": 0.0, "logit": 1.0, "sampling": "all"}
    made = [
        taught(
            davis_root,
            loss=free,
            stem={"steps": 0, "batch_size": 4, "crop": 64, "lr": 1e-3},
            teacher=at,
        )
        for at in ({}, {"threshold": 0.9})
    ]
    assert keys(made[0].trials) == keys(made[1].trials)
    assert not made[0].trials[0].taught


def test_the_key_holds_the_content_of_a_folder_of_masks(davis_root, tmp_path):
    masks = shutil.copytree(davis_root / "Annotations/480p", tmp_path / "masks")
    before = taught(davis_root, teacher={"masks": str(masks)})
    assert before.teacher is None
    assert "teacher" not in before.trials[0].needs
    moved = shutil.copytree(masks, tmp_path / "moved")
    assert keys(taught(davis_root, teacher={"masks": str(moved)}).jobs) == keys(before.jobs)
    shutil.copy(moved / "bee/00002.png", moved / "bee/00003.png")
    after = taught(davis_root, teacher={"masks": str(moved)})
    assert not set(keys(after.jobs)) & set(keys(before.jobs))


def test_a_first_mask_is_part_of_the_key_by_its_content(davis_root):
    before = taught(davis_root)
    mask = davis_root / "Annotations/480p/bee/00000.png"
    other = np.array(Image.open(mask))[:, ::-1].copy()
    size = mask.stat().st_size
    Image.fromarray(other).save(mask)
    with mask.open("ab") as file:
        file.write(b"\0" * max(0, size - mask.stat().st_size))
    datasets._given.cache_clear()
    after = taught(davis_root)
    assert keys(after.trials) != keys(before.trials)
    assert after.teacher is not None
    assert before.teacher is not None
    assert after.teacher.key == before.teacher.key


def test_one_job_is_planned_with_all_that_it_needs_and_nothing_else():
    several = plan(sweep={"parameters": {"stem.steps": [10, 20]}})
    one = several.trials[1]
    for name in (one.name, one.key):
        alone = job_alone(several, name)
        assert alone.jobs == (several.teacher, several.stems[1], one)
        assert [point.name for point in alone.points] == [one.name]
    assert job_alone(several, several.teacher.name).jobs == (several.teacher,)
    assert job_alone(several, several.stems[0].key).jobs == (several.stems[0],)


def test_a_name_of_no_job_or_of_two_is_refused_with_those_there_are():
    several = plan(sweep={"parameters": {"stem.steps": [10, 20]}})
    with pytest.raises(InputError, match=r"no jobs are named 'x'; the jobs are: teacher .*steps"):
        job_alone(several, "x")
    with pytest.raises(InputError, match=f"2 jobs are named .*{several.stems[1].key}"):
        job_alone(several, several.stems[0].name)
