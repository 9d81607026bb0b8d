"""Test which scores are read from disk, and which are computed again."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from orchestrator.config.data import DataConfig
from orchestrator.config.models import StudentConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution import job as jobs
from orchestrator.execution import scoring
from orchestrator.execution.scoring import FIRST_FRAME_COPY, Scorer, Task, per_sequence, score_all
from orchestrator.planning import calibration
from orchestrator.planning import protocol as opened
from orchestrator.tracking.events import Picture
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from tests.execution.test_job import plan_on
from tests.model_tools import fill_from_names
from vosmodels import checkpoint, registry
from vosmodels.evaluation.scores import Scores
from vosmodels.support.atomic_files import write_json


@pytest.fixture
def data(davis17_root):
    return DataConfig(root=str(davis17_root), select="val", report="train", train="all")


def reporting(storage, data):
    protocol = ScoringProtocol.for_report(data)
    assert protocol is not None
    return Scorer(storage, protocol, errors=True)


def choosing_by(storage, data):
    return Scorer(storage, ScoringProtocol.for_select(data))


def kept(storage):
    (path,) = storage.scores.glob("*.json")
    return path


def test_a_report_also_counts_where_wrong_pixels_lie_and_choosing_does_not(tmp_path, data):
    storage = Storage(tmp_path / "report")
    report = reporting(storage, data)
    assert report.known(FIRST_FRAME_COPY) is None
    report.copy()
    counts = report.boundary(FIRST_FRAME_COPY)
    assert counts["masks"] == sum(len(video.begins) * (len(video) - 2) for video in report.videos)
    choosing = choosing_by(Storage(tmp_path / "select"), data)
    choosing.copy()
    assert choosing.known(FIRST_FRAME_COPY) is not None
    assert choosing.boundary(FIRST_FRAME_COPY) == {}


def test_scores_are_read_again_and_those_of_a_report_without_counts_computed_anew(tmp_path, data):
    storage = Storage(tmp_path)
    first = reporting(storage, data).copy()
    values = json.loads(kept(storage).read_text())
    kept(storage).write_text(json.dumps(values | {"fps": 7.0}))
    assert reporting(storage, data).copy().fps == 7.0
    del values["boundary"]["added"]
    kept(storage).write_text(json.dumps(values | {"fps": 7.0}))
    again = reporting(storage, data).copy()
    assert again.fps != 7.0
    assert again.sequences == first.sequences
    assert "added" in json.loads(kept(storage).read_text())["boundary"]


BROKEN = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "NUL bytes": lambda data: bytes(len(data)),
    "a list": lambda data: b"[]",
    "a text": lambda data: b'"scores"',
    "other keys": lambda data: data.replace(b"J_frames", b"J"),
    "no video": lambda data: b'{"sequences": {}}',
    "no number": lambda data: data.replace(b'_frames": [', b'_frames": [NaN, '),
    "one more of J": lambda data: data.replace(b'"J_frames": [', b'"J_frames": [1.0, '),
    "counts of another kind": lambda data: data.replace(b'"1": ', b'"1": "x", "0": '),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_of_scores_is_named_and_its_scores_made_anew(tmp_path, data, caplog, kind):
    storage = Storage(tmp_path)
    scores = reporting(storage, data).copy()
    whole = kept(storage).read_bytes()
    kept(storage).write_bytes(BROKEN[kind](whole))
    again = reporting(storage, data)
    assert again.boundary(FIRST_FRAME_COPY) == {}
    assert f"{kept(storage)}: " in caplog.text
    assert "scoring anew" in caplog.text
    assert again.copy().sequences == scores.sequences
    caplog.clear()
    assert reporting(storage, data).known(FIRST_FRAME_COPY) is not None
    assert "scoring anew" not in caplog.text


def test_scores_lie_where_earlier_versions_kept_them(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "fingerprint", lambda data, split: f"content of {split}")
    scores = Scores((), None)
    for data, name in (
        (DataConfig(report="test"), "271e1a53e2dab1fa"),
        (DataConfig(report="test", report_height=480), "29d9965963c81ac8"),
    ):
        reporting(Storage(tmp_path), data).save("abc", scores)
        assert (tmp_path / "scores" / f"{name}.json").exists()
    choosing_by(Storage(tmp_path), data).save("abc", scores)
    assert (tmp_path / "scores" / "c5dcd051d74258b6.json").exists()


def test_scores_by_video_say_of_how_many_objects(tmp_path, data):
    scores = reporting(Storage(tmp_path), data).copy()
    told = per_sequence(scores)
    mean = sum(v["j"] * v["objects"] for v in told.values()) / sum(
        v["objects"] for v in told.values()
    )
    assert mean == pytest.approx(scores.j)
    assert {name: v["objects"] for name, v in told.items()} == {"ant": 2, "bee": 2}


def test_a_report_from_fewer_rows_is_kept_apart_and_scored_at_full_size(tmp_path, data):
    model = registry.build("mobilevos_mobilenetv2_noaspp", seed=0)
    fill_from_names(model)
    storage = Storage(tmp_path)
    few = data.model_copy(update={"report_height": 32})
    for config in (data, few):
        reporting(storage, config).checkpoint("abc", lambda: model)
    whole, fewer = (reporting(storage, c).known("abc") for c in (data, few))
    assert whole is not None and fewer is not None
    assert whole.sequences != fewer.sequences
    counts = [reporting(storage, c).boundary("abc") for c in (data, few)]
    assert counts[0]["masks"] == counts[1]["masks"]
    copies = [reporting(storage, c).copy().sequences for c in (data, few)]
    assert copies[0] == copies[1]  # what the network sees is not what is scored


@pytest.mark.parametrize("at_once", [1, 2])
def test_frames_are_counted_while_they_are_scored_in_any_number_of_processes(
    tmp_path, data, at_once
):
    storage, config = Storage(tmp_path), StudentConfig(name="mobilevos_mobilenetv2_noaspp")
    scorer, tasks, told = reporting(storage, data), [], []
    for seed in (0, 1):
        model = registry.build(config.name, seed=seed)
        info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=1, scores={})
        _, sha256 = checkpoint.write(storage.checkpoints, model.state_dict(), info)
        tasks.append(scorer.task(sha256, config))
    score_all(tasks, at_once=at_once, threads=1, on_frames=lambda *said: told.append(said))
    of = 2 * sum(len(video) for video in scorer.videos)  # a report sees every frame
    assert told == [(done, of) for done in range(of + 1)]
    assert all(scorer.known(task.sha256) for task in tasks)


@pytest.mark.parametrize(("seconds", "pools"), [(None, [2]), (10.1, [2]), (9.9, [])])
def test_processes_are_started_where_they_save_more_than_their_start(
    tmp_path, data, monkeypatch, seconds, pools
):
    """Two tasks of so many seconds each; None: nobody knows."""
    scorer, started, ran = reporting(Storage(tmp_path), data), [], []

    @contextmanager
    def helpers(count):
        started.append(count)
        with ThreadPoolExecutor(count) as pool:
            yield pool

    monkeypatch.setattr(scoring, "helpers", helpers)
    monkeypatch.setattr(Task, "content", property(lambda task: task.sha256))
    monkeypatch.setattr(Task, "run", lambda task, threads, on_frame: ran.append(task.sha256))
    config = StudentConfig(name="mobilevos_mobilenetv2_noaspp")
    fps = seconds and scorer.frames / seconds
    score_all([scorer.task(name, config, fps) for name in ("one", "two")], at_once=2, threads=1)
    assert started == pools
    assert sorted(ran) == ["one", "two"]


def test_a_checkpoint_of_the_content_of_another_takes_its_scores_and_its_picture(
    davis_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibration, "BATCHES", 1)
    plan, storage, scored = plan_on(davis_root, steps=0), Storage(tmp_path), []
    score = Scorer.score

    def counted(*args, **kwargs):
        scored.append(1)
        return score(*args, **kwargs)

    monkeypatch.setattr(Scorer, "score", counted)
    for job in plan.jobs:
        jobs.run([job], storage)
    assert len(scored) == 3  # teacher, stem before and after its step
    stem, trial = (Ledger(tmp_path).job(job.key) for job in (plan.stems[0], plan.trials[0]))
    last, untrained = stem.checkpoints()[-1], trial.checkpoints()[0]
    assert untrained.sha256 != last.sha256  # it has an ancestor
    pictures = [tmp_path / record.of(Picture)[-1].path for record in (stem, trial)]
    assert pictures[0] != pictures[1]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    scorer = choosing_by(storage, plan.trials[0].config.data)
    known = scorer.known(untrained.sha256)
    path = storage.checkpoint(untrained.sha256)
    assert known is not None
    assert known.sequences == score(scorer, checkpoint.load_model(path)).sequences


def test_a_report_of_equal_contents_is_scored_once_and_counted_twice(tmp_path, data, monkeypatch):
    storage, config = Storage(tmp_path), StudentConfig(name="mobilevos_mobilenetv2_noaspp")
    scorer, tasks, told = reporting(storage, data), [], []
    model = registry.build(config.name, seed=0)
    for step in (1, 2):
        info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=step, scores={})
        _, sha256 = checkpoint.write(storage.checkpoints, model.state_dict(), info)
        tasks.append(scorer.task(sha256, config))
    run, runs = Scorer._run, []

    def counted(*args):
        runs.append(1)
        return run(*args)

    monkeypatch.setattr(Scorer, "_run", counted)
    score_all(tasks, at_once=2, threads=1, on_frames=lambda *said: told.append(said))
    assert len(runs) == 1
    assert told[-1] == (2 * scorer.frames, 2 * scorer.frames)
    one, other = (scorer.known(task.sha256) for task in tasks)
    assert one is not None and other is not None
    assert one.sequences == other.sequences
    assert scorer.boundary(tasks[0].sha256) == scorer.boundary(tasks[1].sha256)
    assert scorer.boundary(tasks[0].sha256)


def test_a_twin_without_its_picture_or_its_scores_is_none(tmp_path, data, caplog):
    storage = Storage(tmp_path)
    scorer, picture = choosing_by(storage, data), tmp_path / "a.png"
    scores = scorer.copy()
    scorer.save("abc", scores)
    scorer.save_twin("content", "abc", picture)
    assert scorer.twin("content") is None
    picture.write_bytes(b"a picture")
    twin = scorer.twin("content")
    assert twin is not None
    assert twin.scores.sequences == scores.sequences
    scorer.save_twin("content", "another", picture)
    assert scorer.twin("content") is None
    assert "names no checkpoint" not in caplog.text
    write_json(next(p for p in storage.scores.iterdir() if "another" in p.read_text()), [1])
    assert scorer.twin("content") is None
    assert "names no checkpoint" in caplog.text


def a_weight(model, patch):
    model.state_dict()["decoder.pred.bias"].add_(1e-6)
    return model


def an_option(model, patch):
    return registry.build(model.name, seed=0, detach_feedback=True)


def threads(model, patch):
    patch.setattr(torch, "get_num_threads", lambda: 99)
    return model


def code(model, patch):
    patch.setattr(scoring, "shaping_files", lambda: {"vosmodels/losses.py": "another"})
    return model


@pytest.mark.parametrize("change", [a_weight, an_option, threads, code])
def test_what_decides_the_bits_of_scores_decides_the_content(tmp_path, data, monkeypatch, change):
    scorer = choosing_by(Storage(tmp_path), data)
    models = [registry.build("mobilevos_mobilenetv2_noaspp", seed=0) for _ in range(2)]
    before = scorer.content(models[0])
    assert scorer.content(models[1]) == before
    assert scorer.content(change(models[0], monkeypatch)) != before
