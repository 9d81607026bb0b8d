"""Test a sweep on Ray: its table, its second run, its checkpoints."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection, locate
from tests.integration.conftest import KEPT, answer, command, jobs, make_sweep
from tests.stores import WARNING
from vosmodels import checkpoint
from vosmodels.data.generated import sequences
from vosmodels.data.masks import read_mask, write_palette

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(WARNING)]

ONE_TRIAL = "sweep.parameters={train.lr: [1.0e-6]}"


def test_a_trial_that_diverges_is_reported_and_the_other_goes_on(finished):
    _, done = finished
    results = answer(done, code=1)
    assert "failed: lr=1e+30: Diverged: step" in done.stderr
    assert ".log" in done.stderr
    names = [row["name"] for row in results["rows"]]
    assert names[:4] == [
        "first-frame copy",
        "untrained student",
        "stem: cross-entropy only",
        "teacher",
    ]
    assert "lr=1e-06" in names
    assert "greedy soup" in names
    assert "lr=1e+30" not in names


def test_what_a_job_warned_of_stands_beside_its_row_and_was_said_while_it_ran(finished):
    sweep, done = finished
    (trial,) = [job for job in jobs(sweep, "trial") if job.state == "done"]
    assert "loss." in trial.warnings()
    (row,) = [row for row in answer(done, code=1)["rows"] if row["role"] == "trial"]
    assert row["note"] == trial.warnings()
    assert f"{row['name']}: warning: {trial.warnings()}" in done.stderr


def test_every_row_that_can_be_chosen_has_report_scores(finished):
    results = answer(finished[1], code=1)
    for row in results["rows"]:
        assert 0 <= row["select"]["jf"] <= 1
        assert len(row["select"]["sequences"]) == KEPT
        if row["role"] != "teacher":
            assert len(row["report"]["sequences"]) == KEPT


def test_the_log_of_a_failed_trial_has_its_traceback(finished):
    sweep, _ = finished
    (failed,) = [job for job in jobs(sweep, "trial") if job.state == "failed"]
    text = (sweep.storage / "logs" / f"{failed.key}.log").read_text()
    assert "Traceback" in text
    assert "Diverged" in text


def test_trials_descend_from_the_stem_and_their_files_say_so(finished):
    sweep, _ = finished
    (stem,) = jobs(sweep, "stem")
    ancestor = stem.checkpoints()[-1].sha256
    (trial,) = [job for job in jobs(sweep, "trial") if job.state == "done"]
    assert [made.step for made in trial.checkpoints()] == [10, 20]
    for made in trial.checkpoints():
        path = sweep.storage / made.path
        tensors, info = checkpoint.read_tensors(path), checkpoint.read_info(path)
        assert info.ancestor == ancestor
        assert info.step == made.step
        assert info.scores["jf"] == made.scores["jf"]
        assert not [key for key in tensors if "embedding" in key]


def test_no_resume_state_is_left_by_a_trial_that_ended(finished):
    sweep, _ = finished
    done = [job.key for job in Ledger(sweep.storage).jobs() if job.state == "done"]
    assert done
    assert not [key for key in done if (sweep.storage / "resume" / key).exists()]


def test_the_same_command_again_trains_nothing_that_is_done(finished):
    sweep, _ = finished
    before = {j.key: j.path.read_bytes() for j in Ledger(sweep.storage).jobs() if j.state == "done"}
    done = sweep.run(ONE_TRIAL, "--json")
    results = answer(done)
    assert results["placement"] == "nothing was left to train"
    after = {j.key: j.path.read_bytes() for j in Ledger(sweep.storage).jobs()}
    assert {key: after[key] for key in before} == before


def without_a_soup(finished, folder):
    """A copy of the finished sweep without its soup, and without the files of its good trial."""
    unbroken, _ = finished
    sweep = make_sweep(folder)
    shutil.copytree(unbroken.storage, sweep.storage)
    for soup in jobs(sweep, "soup"):
        soup.path.unlink()
    (trial,) = [job for job in jobs(sweep, "trial") if job.state == "done"]
    for made in trial.checkpoints():
        (sweep.storage / made.path).unlink()
    return sweep


def begun(finished, folder):
    """A sweep whose teacher and stem are those of the finished one; with the record of its trial to
    come, and the trial of the finished one."""
    unbroken, _ = finished
    sweep = make_sweep(folder)
    sweep.take_teacher_and_stem(unbroken)
    (expected,) = [job for job in jobs(unbroken, "trial") if job.state == "done"]
    return sweep, Ledger(sweep.storage).job(expected.key), expected


def test_a_soup_takes_mlflows_copy_of_a_checkpoint_whose_file_is_gone(finished, tmp_path):
    sweep = without_a_soup(finished, tmp_path / "a file is gone")
    done = sweep.run(ONE_TRIAL, "--json")
    assert "greedy soup" in [row["name"] for row in answer(done)["rows"]]
    assert "its copy in MLflow is taken" in done.stderr


def test_a_table_is_kept_where_no_soup_can_be_made(finished, tmp_path):
    sweep = without_a_soup(finished, tmp_path / "all is gone")
    (sweep.storage / "mlflow.db").unlink()
    done = sweep.run(ONE_TRIAL, "--json")
    names = [row["name"] for row in answer(done, code=1)["rows"]]
    assert "lr=1e-06" in names
    assert "greedy soup" not in names
    assert [line for line in done.stderr.splitlines() if line.startswith("failed: greedy soup: ")]
    assert "Traceback" not in done.stderr


def test_greedy_on_the_same_pool_returns_the_soup_that_is_there(finished):
    sweep, _ = finished
    soup = answer(sweep.command("soups.greedy", "--runs", "mlflow:tiny", "--json"))
    assert soup["existing"]
    assert soup["scores"]["jf"] >= soup["scores"]["best_single_jf"]


def test_evaluate_scores_the_best_checkpoint_and_its_own_masks_alike(finished, tmp_path):
    sweep, _ = finished
    videos = sequences("val")
    scored = answer(
        sweep.command(
            "orchestrator.evaluate",
            *("--checkpoint", "mlflow:tiny", "--data", "generated", "--split", "val"),
            *(word for video in videos[KEPT:] for word in ("--leave-out", video.name)),
            *("--out", str(tmp_path / "masks"), "--json"),
        )
    )
    truth = tmp_path / "truth"
    for video in videos[:KEPT]:
        (truth / video.name).mkdir(parents=True)
        for index in range(len(video)):
            write_palette(truth / video.name / f"{index:05d}.png", video.mask(index))
    words = ("--masks", str(tmp_path / "masks"), "--annotations", str(truth), "--json")
    again = answer(command("orchestrator.evaluate", *words))
    assert again["mean"] == pytest.approx(scored["mean"])


def test_segment_follows_a_film_and_writes_one(finished, tmp_path):
    sweep, _ = finished
    video = sequences("test")[0]
    height, width = video.mask(0).shape
    film = cv2.VideoWriter(
        str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 12, (width, height)
    )
    for index in range(len(video)):
        film.write(video.frame(index)[..., ::-1])
    film.release()
    write_palette(tmp_path / "first.png", video.mask(0))
    base = [
        *("--checkpoint", "mlflow:tiny", "--video", str(tmp_path / "clip.mp4")),
        *("--mask", str(tmp_path / "first.png"), "--json"),
    ]
    out = tmp_path / "out.mp4"
    told = answer(sweep.command("orchestrator.segment", *base, "--out", str(out)))
    assert told["frames"] == len(video)
    made = cv2.VideoCapture(str(out))
    assert made.get(cv2.CAP_PROP_FRAME_COUNT) == len(video)
    folder = tmp_path / "masks"
    answer(sweep.command("orchestrator.segment", *base, "--out", str(folder)))
    assert np.array_equal(read_mask(folder / "00000.png"), video.mask(0))
    assert len(list(folder.glob("*.png"))) == len(video)


def test_fetch_writes_the_file_that_the_name_stands_for(finished, tmp_path):
    sweep, _ = finished
    path = tmp_path / "x.safetensors"
    answer(sweep.command("orchestrator.fetch", "mlflow:tiny", str(path), "--json"))
    model = checkpoint.load_model(path)
    assert model.name == "mobilevos_mobilenetv2_noaspp"
    assert not model.training


def test_report_gives_back_the_results_of_the_sweep(finished):
    sweep, _ = finished
    told = answer(sweep.command("orchestrator.report", "mlflow:tiny", "--json"))
    assert {row["name"] for row in told["rows"]} >= {"first-frame copy", "lr=1e-06"}


def wait_for_a_checkpoint(record):
    deadline = time.monotonic() + 600
    while not record.checkpoints():
        assert time.monotonic() < deadline, "no checkpoint in 600 s"
        time.sleep(0.05)


def test_a_killed_driver_is_continued_to_the_weights_of_the_unbroken_run(finished, tmp_path):
    sweep, record, expected = begun(finished, tmp_path / "killed")
    with sweep.started(ONE_TRIAL):
        wait_for_a_checkpoint(record)
        # The process that holds the trial first: it has no time for a last word.
        holder = (record.path.parent / f"{record.key}.holder").read_text()
        os.kill(int(holder.split()[1]), signal.SIGKILL)
    assert [made.step for made in record.checkpoints()] == [10], "killed too late to prove anything"
    results = answer(sweep.run(ONE_TRIAL, "--json"))
    assert results["rows"]
    assert [m.sha256 for m in record.checkpoints()] == [m.sha256 for m in expected.checkpoints()]


# As `kill` does, to the command alone; as a terminal does, to all of the group, which test_table.py
# does too.
@pytest.mark.parametrize(
    ("send", "number"),
    [
        (os.kill, signal.SIGTERM),
        pytest.param(os.killpg, signal.SIGINT, marks=pytest.mark.soak),
    ],
)
def test_an_interrupted_sweep_says_how_to_go_on_and_the_same_command_completes_it(
    finished, tmp_path, send, number
):
    sweep, record, expected = begun(finished, tmp_path / "interrupted")
    with sweep.started(ONE_TRIAL) as process:
        wait_for_a_checkpoint(record)
        send(process.pid, number)
        code = process.wait(timeout=300)
    assert record.state != "done", "interrupted too late to prove anything"
    told = sweep.told.read_text()
    assert code == 130, told
    assert told.splitlines()[-1] == (
        "interrupted; what is done is kept: run the same command again to continue"
    )
    assert "Traceback" not in told
    results = answer(sweep.run(ONE_TRIAL, "--json"))
    assert "lr=1e-06" in [row["name"] for row in results["rows"]]
    assert [m.sha256 for m in record.checkpoints()] == [m.sha256 for m in expected.checkpoints()]


def test_a_job_that_stands_still_is_ended_and_named_with_its_log(tmp_path):
    """No job gets to its first step in a twentieth of a second."""
    sweep = make_sweep(tmp_path / "stalled")
    done = sweep.run("cluster.stall_s=0.05")
    assert done.returncode == 1
    for name in ("teacher stcn_mobilenetv2", "stem mobilevos_mobilenetv2_noaspp"):
        (line,) = [x for x in done.stderr.splitlines() if x.startswith(f"failed: {name}: ")]
        problem, _, log = line.partition("; log: ")
        assert problem.endswith("stood still for 0.05 s (cluster.stall_s)")
        assert "(most recent call first):\n  File " in Path(log).read_text()  # where it stood


def test_student_and_teacher_can_be_models_of_the_store(finished, tmp_path):
    sweep, _ = finished
    copied = make_sweep(tmp_path / "borrowed")
    shutil.copytree(sweep.storage, copied.storage)
    reader = MlflowReader(Connection(locate(copied.store, copied.storage), create=False))
    (teacher,) = reader.checkpoints("tiny", roles=("teacher",))
    student = reader.checkpoints("tiny")[-1]
    done = copied.run(
        ONE_TRIAL,
        "name=borrowed",
        f"teacher.weights=models:/{teacher.model_id}",
        f"student.weights=models:/{student.model_id}",
        "soup.after_sweep=false",
        "--json",
    )
    results = answer(done)
    as_given = next(row for row in results["rows"] if row["name"] == "student as given")
    given, began = (
        checkpoint.read_tensors(copied.storage / "checkpoints" / f"{sha256}.safetensors")
        for sha256 in (student.sha256, as_given["sha256"])
    )
    assert given.keys() == began.keys()
    assert all(torch.equal(given[key], began[key]) for key in given)
    assert "teacher" not in {row["role"] for row in results["rows"]}  # it was not trained
    kept = reader.config_of("borrowed", results["sweep"])
    assert kept.teacher.weights == f"models:/{teacher.model_id}"


def test_two_workers_have_the_losses_of_one(finished, tmp_path):
    """At a rate where Adam does not amplify the rounding of another order of summation: from
    random weights at 1e-3 two runs part within a few steps, whatever sums their gradients."""
    unbroken, _ = finished
    (one,) = [job for job in jobs(unbroken, "trial") if job.state == "done"]
    sweep = make_sweep(tmp_path / "two")
    done = sweep.run(
        "cluster.workers=2",
        ONE_TRIAL,
        "soup.after_sweep=false",
        "data.report=null",
        "--json",
    )
    results = answer(done)
    assert results["placement"] == "1 at a time, each 2 gloo workers x 1 thread"
    (two,) = jobs(sweep, "trial")
    for a, b in zip(one.losses(), two.losses(), strict=True):
        assert a.step == b.step
        for name in ("total", "ce", "dice", "logit", "repr"):
            assert b.values[name] == pytest.approx(a.values[name], rel=1e-4, abs=1e-4), name
    ours, theirs = (
        checkpoint.read_tensors(s.storage / job.checkpoints()[-1].path)
        for s, job in ((unbroken, one), (sweep, two))
    )
    gap = max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours)
    assert gap < 1e-4  # 24 steps of at most 1e-6 on either side


def test_dry_run_starts_nothing_and_forecasts(tmp_path):
    sweep = make_sweep(tmp_path / "dry")
    told = answer(sweep.run("--dry-run", "--json"))
    assert told["trials"] == ["lr=1e-06", "lr=1e+30"]
    parts = {"teacher", "stem", "trial", "scoring", "soup", "barriers"}
    assert set(told["seconds"]) == parts
    assert not sweep.storage.exists()


def test_dry_run_names_what_is_missing_and_the_real_run_fails(tmp_path):
    sweep = make_sweep(tmp_path / "missing")
    done = sweep.run("--dry-run", "data.root=/no/such/folder")
    assert done.returncode == 0
    assert "missing here: data.train 'train': /no/such/folder" in done.stdout
    real = sweep.run("data.root=/no/such/folder")
    assert real.returncode == 1
    assert real.stderr.startswith("error: data.train 'train': /no/such/folder")
    assert "Traceback" not in real.stderr
    assert not (sweep.storage / "ledger").exists()
    assert json.dumps(real.stdout) == '""'


def test_greedy_tells_how_far_it_is_while_it_runs(finished, tmp_path):
    sweep = make_sweep(tmp_path / "with another soup")  # which other tests of the store do not know
    shutil.copytree(finished[0].storage, sweep.storage)
    done = sweep.command("soups.greedy", "--runs", "mlflow:tiny", "--again")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "soup 1 of 1: J&F 0." in done.stderr
