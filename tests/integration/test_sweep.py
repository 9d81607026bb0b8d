"""A sweep on Ray as a person runs it: its table, its second run, its checkpoints."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from orchestrator.ledger import Ledger
from tests.integration.conftest import ROOT, answer, command, make_sweep
from vosmodels import checkpoint
from vosmodels.data.generated import sequences
from vosmodels.data.masks import read_mask, write_palette

pytestmark = pytest.mark.slow


def jobs(sweep, role):
    ledger = Ledger(sweep.storage)
    starts = [(job, job.started()) for job in ledger.jobs()]
    return [job for job, started in starts if started and started.role == role]


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


def test_every_row_that_can_be_chosen_has_report_scores(finished):
    results = answer(finished[1], code=1)
    for row in results["rows"]:
        assert 0 <= row["select"]["jf"] <= 1
        assert len(row["select"]["sequences"]) == 12
        if row["role"] != "teacher":
            assert len(row["report"]["sequences"]) == 24


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
        tensors, info = checkpoint.read(sweep.storage / made.path)
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
    done = sweep.run("sweep.parameters={train.lr: [1.0e-6]}", "--json")
    results = answer(done)
    assert results["placement"] == "nothing was left to train"
    after = {j.key: j.path.read_bytes() for j in Ledger(sweep.storage).jobs()}
    assert {key: after[key] for key in before} == before


def test_greedy_on_the_same_pool_returns_the_soup_that_is_there(finished):
    sweep, _ = finished
    soup = answer(sweep.command("soups.greedy", "--runs", "mlflow:tiny", "--json"))
    assert soup["existing"]
    assert soup["scores"]["jf"] >= soup["scores"]["best_single_jf"]


def test_evaluate_scores_the_best_checkpoint_and_its_own_masks_alike(finished, tmp_path):
    sweep, _ = finished
    scored = answer(
        sweep.command(
            "orchestrator.evaluate",
            *("--checkpoint", "mlflow:tiny", "--data", "generated", "--split", "val"),
            *("--out", str(tmp_path / "masks"), "--json"),
        )
    )
    truth = tmp_path / "truth"
    for video in sequences("val"):
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
    answer(sweep.command("orchestrator.fetch", "mlflow:tiny", str(tmp_path / "x"), "--json"))
    (tmp_path / "x").rename(tmp_path / "x.safetensors")
    model, info = checkpoint.load_model(tmp_path / "x.safetensors")
    assert info.name == "mobilevos_mobilenetv2_noaspp"
    assert not model.training


def test_report_gives_back_the_results_of_the_sweep(finished):
    sweep, _ = finished
    told = answer(sweep.command("orchestrator.report", "mlflow:tiny", "--json"))
    assert {row["name"] for row in told["rows"]} >= {"first-frame copy", "lr=1e-06"}


def test_a_killed_driver_is_continued_to_the_weights_of_the_unbroken_run(finished, tmp_path):
    unbroken, _ = finished
    (expected,) = [job for job in jobs(unbroken, "trial") if job.state == "done"]
    sweep = make_sweep(tmp_path / "killed")
    words = [str(sweep.file), f"storage={sweep.storage}", "sweep.parameters={train.lr: [1.0e-6]}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.sweep", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    record = Ledger(sweep.storage).job(expected.key)
    try:
        deadline = time.monotonic() + 600
        while not record.checkpoints() and time.monotonic() < deadline:
            time.sleep(0.05)
        # The process that holds the trial first: it has no time for a last word.
        holder = (record.path.parent / f"{record.key}.holder").read_text()
        os.kill(int(holder.split()[1]), signal.SIGKILL)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert [made.step for made in record.checkpoints()] == [10], "killed too late to prove anything"
    results = answer(sweep.run("sweep.parameters={train.lr: [1.0e-6]}", "--json"))
    assert results["rows"]
    assert [m.sha256 for m in record.checkpoints()] == [m.sha256 for m in expected.checkpoints()]


def test_two_workers_have_the_losses_of_one(finished, tmp_path):
    """At a rate where Adam does not amplify the rounding of another order of summation: from
    random weights at 1e-3 two runs part within a few steps, whatever sums their gradients."""
    unbroken, _ = finished
    (one,) = [job for job in jobs(unbroken, "trial") if job.state == "done"]
    sweep = make_sweep(tmp_path / "two")
    done = sweep.run(
        "cluster.workers=2",
        "sweep.parameters={train.lr: [1.0e-6]}",
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
        checkpoint.read(s.storage / job.checkpoints()[-1].path)[0]
        for s, job in ((unbroken, one), (sweep, two))
    )
    gap = max(float((ours[key].double() - theirs[key].double()).abs().max()) for key in ours)
    assert gap < 1e-4  # 24 steps of at most 1e-6 on either side


def test_dry_run_starts_nothing_and_forecasts(tmp_path):
    sweep = make_sweep(tmp_path / "dry")
    told = answer(sweep.run("--dry-run", "--json"))
    assert told["trials"] == ["lr=1e-06", "lr=1e+30"]
    assert set(told["seconds"]) == {"teacher", "stem", "trial", "scoring", "soup"}
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
