"""Test a soup from pool to ledger, file and MLflow, with a score without videos."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.data import DataConfig
from orchestrator.config.loading import run_of
from orchestrator.config.models import StudentConfig, TeacherConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.config.train import TrainConfig
from orchestrator.execution import last_run, worker_pool
from orchestrator.execution.scoring import Scorer
from orchestrator.planning import placement
from orchestrator.planning.datasets import _open_davis
from orchestrator.tracking.events import Attention, Checkpoint, Done, Souped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.storage import Storage
from soups import greedy, probe, recipe, select_scores
from soups.order import Order
from soups.scoring import SetScorer
from soups.search import Ingredient
from soups.select_scores import KeptParts, Network, SelectVideos
from soups.sources import Pool, from_experiment, from_ledger
from tests.conftest import write_davis
from tests.model_tools import any_filled
from tests.stores import WARNING, empty_tracker, sweep_config, trial_job
from vosmodels import checkpoint, registry
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import ObjectScore, Scores, SequenceScore
from vosmodels.types import ScoredVideo

pytestmark = pytest.mark.filterwarnings(WARNING)


class Nearness:
    """Scores every video 1 minus the distance of the weight `w` to a target, 0 from 1 on.

    opened: how often weights were to be scored; videos: how many videos were.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.opened = self.videos = 0

    def jf(self, weights: Mapping[str, Tensor]) -> float:
        return max(0.0, 1 - abs(float(weights["w"]) - self.target))

    def __call__(self, weights: Mapping[str, Tensor]) -> Callable[[ScoredVideo], Scores]:
        self.opened += 1
        value = self.jf(weights)

        def score(video: ScoredVideo) -> Scores:
            self.videos += 1
            objects = dict.fromkeys(video.begins, ObjectScore((value,), (value,)))
            return Scores((SequenceScore(video.name, objects),))

        return score


class Kitchen:
    """A finished sweep of three trials, weights 0, 1 and 5, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.storage = Storage(folder / "storage")
        self.ledger = Ledger(self.storage.root)
        self.tracker = empty_tracker(self.storage.root)
        self.reader = MlflowReader(self.tracker.connection)
        self.config: SweepConfig = sweep_config(self.storage.root)
        self.sweep = sweep_id(self.config)
        self.score = Nearness(0.4)
        self.tracker.open_sweep(self.config, self.sweep)
        job, started = trial_job(self.ledger, self.config, 0, "k")
        student = self.config.student
        with job.claim():
            job.write(started)
            for step, value in ((10, 0.0), (20, 1.0), (30, 5.0)):
                weights = {"w": torch.tensor([value])}
                jf = self.score.jf(weights)
                info = checkpoint.CheckpointInfo(
                    student.name,
                    registry.config(student.name).model_dump(mode="json"),
                    "stem",
                    step,
                    {"jf": jf},
                )
                path, sha256 = checkpoint.write(self.storage.checkpoints, weights, info)
                relative = path.relative_to(self.storage.root).as_posix()
                job.write(Checkpoint(step, sha256, relative, {"jf": jf}, ancestor="stem"))
            job.write(Done(1.0))
        self.tracker.project(job)

    def cook(
        self, *, again: bool = False, data: DataConfig | None = None, order: str = "score"
    ) -> recipe.SoupResult:
        pool = from_experiment(self.reader, "omega")
        assert pool.config is not None
        return recipe.make_soup(
            pool,
            pool.config.model_copy(update={"data": data or pool.config.data}),
            storage=self.storage,
            project=self.tracker.project,
            again=again,
            search=recipe.Search(Order.of(order)),
            opening=self.score,
        )

    def model_id(self, soup: recipe.SoupResult) -> str:
        """The soup's model in MLflow."""
        records = self.reader.checkpoints("omega", None, ("soup",))
        return next(record.model_id for record in records if record.key == soup.key)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_a_soup_is_a_checkpoint_with_its_scores_ancestor_and_the_averaged_weights(
    kitchen: Kitchen,
):
    made = kitchen.cook()
    tensors, info = checkpoint.read_tensors(made.path), checkpoint.read_info(made.path)
    assert tensors["w"].item() == 0.5  # of 0 and 1; 5 is left out
    assert (info.ancestor, info.step) == ("stem", 20)
    assert info.scores["jf"] == pytest.approx(0.9)
    assert made.path.stem == made.sha256
    assert list(made.ingredients) == ["omega=0.0 step 10", "omega=0.0 step 20"]
    assert made.scores == pytest.approx({"jf": 0.9, "best_single_jf": 0.6, "uniform_jf": 0.0})
    select = Scorer(kitchen.storage, ScoringProtocol.for_select(kitchen.config.data))
    kept = select.known(made.sha256)
    assert kept is not None
    assert kept.jf == pytest.approx(0.9)


def test_a_soup_of_a_network_with_attention_shows_where_it_looks(tmp_path: Path):
    config = RunConfig(
        name="omega",
        storage=str(tmp_path / "storage"),
        data=DataConfig(root=str(write_davis(tmp_path / "davis", 2016)), select_height=48),
        student=StudentConfig(name="deaott"),
        train=TrainConfig(crop=129),
        teacher=TeacherConfig(name="deaott"),
    )
    storage = Storage(tmp_path / "storage")
    weights = any_filled("deaott").state_dict()
    score = Scores((SequenceScore("ant", {1: ObjectScore((0.5,), (0.5,))}),))
    pool = Pool(
        (Ingredient("one", "a" * 64, 0.5, lambda: weights, step=20, ancestor="stem"),),
        sweep="s",
        config=config,
        scored=True,
    )
    made = recipe.make_soup(
        pool, config, storage=storage, opening=lambda weights: lambda video: score
    )
    (picture,) = Ledger(storage.root).job(made.key).of(Attention)
    assert picture.path == f"pictures/{made.key}/attention-0000020.png"
    assert (storage.root / picture.path).stat().st_size > 1000


def test_the_ledger_and_mlflow_have_every_decision(kitchen: Kitchen):
    made = kitchen.cook()
    job = kitchen.ledger.job(made.key)
    assert job.state == "done"
    souped = job.of(Souped)[0]
    assert [d["accepted"] for d in souped.decisions] == [True, True, False]
    assert souped.search == {"order": "score", "replacement": False}
    sequences = job.checkpoints()[0].sequences
    assert len(sequences) > 1
    assert all(values["j"] == pytest.approx(0.9) for values in sequences.values())
    record = kitchen.reader.model(kitchen.model_id(made))
    assert (record.role, record.sha256, record.ancestor) == ("soup", made.sha256, "stem")
    assert kitchen.reader.best_checkpoint("omega") == record
    from mlflow import MlflowClient

    client = MlflowClient(kitchen.tracker.store.uri)
    (run,) = client.search_runs(["1"], "tags.`vos.role` = 'soup'")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["soup/uniform_jf"] == pytest.approx(made.scores["uniform_jf"])
    kept = json.loads(Path(client.download_artifacts(run.info.run_id, "soup.json")).read_text())
    assert kept["ingredients"] == list(made.ingredients)
    ids = {record.sha256: record.model_id for record in kitchen.reader.checkpoints("omega")}
    assert kept["models"] == ids
    table = Path(client.download_artifacts(run.info.run_id, "decisions.csv")).read_text()
    assert table.splitlines()[0] == "name,sha256,score_before,score_with,accepted,at_most,bag"
    assert len(table.splitlines()) == 4


def test_the_same_pool_again_gives_the_existing_soup_without_scoring(kitchen: Kitchen):
    first = kitchen.cook()
    opened = kitchen.score.opened
    again = kitchen.cook()
    assert (again.existing, first.existing) == (True, False)
    assert (again.key, again.sha256) == (first.key, first.sha256)
    assert kitchen.score.opened == opened


def test_again_makes_another_run_with_the_same_weights(kitchen: Kitchen):
    first, second = kitchen.cook(), kitchen.cook(again=True)
    assert not second.existing
    assert second.key != first.key
    assert second.sha256 == first.sha256
    assert kitchen.cook().key == second.key  # the newest is the one that exists


def test_a_soup_whose_file_is_corrupt_is_made_anew_into_the_same_file(
    kitchen: Kitchen, caplog: pytest.LogCaptureFixture
):
    first = kitchen.cook()
    sound = first.path.read_bytes()
    first.path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    second = kitchen.cook()
    assert not second.existing
    assert second.path == first.path
    assert second.path.read_bytes() == sound
    assert f"{first.path}: corrupt: its sha256 is" in caplog.text
    assert kitchen.cook().existing


def test_a_soup_that_fails_is_recorded_and_is_made_by_the_next_command(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
):
    def broken(weights: Mapping[str, Tensor]) -> Callable[[ScoredVideo], Scores]:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(kitchen, "score", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        kitchen.cook()
    failed = [job for job in kitchen.ledger.jobs() if job.state == "failed"]
    errors = [event.error for job in failed if (event := job.failed())]
    assert errors == ["RuntimeError: out of memory"]
    monkeypatch.undo()
    made = kitchen.cook()
    assert made.key == failed[0].key
    assert not made.existing


@pytest.mark.parametrize(("fps", "workers"), [(1e6, 1), (0.01, 2)])
def test_a_search_of_a_sweep_that_takes_long_is_shared_by_processes(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, fps: float, workers: int
):
    config, opened = run_of(kitchen.config), list[int]()
    scorer = Scorer(kitchen.storage, ScoringProtocol.for_select(config.data))
    pool = from_ledger(kitchen.storage, config, kitchen.sweep, ())
    for ingredient in pool.ingredients:
        parts = [kitchen.score(ingredient.load())(video) for video in scorer.videos]
        sequences = tuple(sequence for part in parts for sequence in part.sequences)
        scorer.save(ingredient.sha256, Scores(sequences, fps))

    def processes(count: int) -> ThreadPoolExecutor:
        opened.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(placement, "cores", lambda: 2)
    monkeypatch.setattr(recipe, "Network", lambda student, protocol: kitchen.score)
    monkeypatch.setattr(probe, "measured", lambda *a: {})  # runs networks
    made = recipe.soup_of_sweep(
        config,
        kitchen.sweep,
        (),
        storage=kitchen.storage,
        project=kitchen.tracker.project,
        processes=processes,
    )
    assert opened == ([workers] if workers > 1 else [])
    assert made.scores["jf"] == pytest.approx(0.9)
    assert len(made.ingredients) == 2


def test_a_soup_another_process_is_making_is_not_made_twice(kitchen: Kitchen):
    made = kitchen.cook()
    other = Ledger(kitchen.storage.root)
    following = recipe._job(
        other, from_experiment(kitchen.reader, "omega"), kitchen.config, recipe.Search(), True
    )[0]
    with following.claim(), pytest.raises(InputError, match=rf"job {following.key} is being run"):
        kitchen.cook(again=True)
    assert kitchen.cook().key == made.key


def test_a_soup_is_made_anew_when_the_videos_change_under_the_same_path(
    kitchen: Kitchen, davis_root: Path
):
    data = DataConfig(root=str(davis_root))
    first = kitchen.cook(data=data)
    assert kitchen.cook(data=data).key == first.key
    picture = next((davis_root / "JPEGImages" / "480p" / "cat").iterdir())
    picture.write_bytes(picture.read_bytes() + b"0")
    _open_davis.cache_clear()  # the next command is another process
    again = kitchen.cook(data=data)
    assert not again.existing
    assert again.key != first.key


def test_the_soup_of_a_sweep_is_that_of_the_command_though_mlflow_could_not_show_it(
    kitchen: Kitchen,
):
    def away(job: object) -> None:
        raise OSError("no answer")

    pool = from_ledger(kitchen.storage, run_of(kitchen.config), kitchen.sweep, ())
    with pytest.raises(OSError, match="no answer"):
        recipe.make_soup(
            pool,
            run_of(kitchen.config),
            storage=kitchen.storage,
            project=away,
            opening=kitchen.score,
        )
    soup = kitchen.cook()
    assert soup.existing
    assert soup.scores["jf"] == pytest.approx(0.9)


def test_a_soup_whose_scores_are_not_known_scores_every_set_once(kitchen: Kitchen):
    """Three checkpoints, two soups of two, and that of all; the search again finds the scores."""
    pool = replace(from_experiment(kitchen.reader, "omega"), scored=False)
    assert pool.config is not None
    for again, opened in ((False, 3 + 2 + 1), (True, 0)):
        kitchen.score.opened = 0
        made = recipe.make_soup(
            pool, pool.config, storage=kitchen.storage, again=again, opening=kitchen.score
        )
        assert kitchen.score.opened == opened
    assert not made.existing


def test_a_larger_pool_costs_what_is_new(kitchen: Kitchen):
    pool = from_experiment(kitchen.reader, "omega")
    assert pool.config is not None
    smaller = replace(pool, ingredients=pool.ingredients[:2])
    for each in (smaller, pool):
        kitchen.score.opened = 0
        recipe.make_soup(each, pool.config, storage=kitchen.storage, opening=kitchen.score)
    assert kitchen.score.opened == 2  # with the third: until it cannot win, and then to the end


def test_a_candidate_that_cannot_win_is_not_scored_on_every_video(kitchen: Kitchen):
    made = kitchen.cook()
    third = made.decisions[2]
    assert (third["score_with"], third["accepted"]) == (None, False)
    assert 0 < third["at_most"] <= third["score_before"]
    videos = len(kitchen.ledger.job(made.key).checkpoints()[0].sequences)
    whole = 3 * videos  # the best, the soup of two, and that of all
    assert kitchen.score.videos == whole  # which has what the third lacked


def test_scores_of_a_set_that_cannot_be_read_are_computed_anew(
    kitchen: Kitchen, caplog: pytest.LogCaptureFixture
):
    kitchen.cook()
    for path in kitchen.storage.scores.iterdir():
        path.write_text(json.dumps({"val": {"sequences": {"x": 1}}}))
    kitchen.score.opened = 0
    assert kitchen.cook(again=True).scores["jf"] == pytest.approx(0.9)
    assert kitchen.score.opened == 4  # the best, two sets, and that of all to its end
    assert "not the scores that were saved" in caplog.text


def test_another_order_makes_another_soup_of_the_same_pool(kitchen: Kitchen):
    first, other = kitchen.cook(), kitchen.cook(order="step")
    assert other.key != first.key
    assert [d["name"][-2:] for d in other.decisions] == ["10", "30", "20"]
    assert kitchen.ledger.job(other.key).of(Souped)[0].search["order"] == "step"


def test_a_parallel_search_makes_the_same_soup(kitchen: Kitchen, tmp_path: Path):
    made, pool = kitchen.cook(), from_experiment(kitchen.reader, "omega")
    assert pool.config is not None
    parallel = recipe.make_soup(
        pool,
        pool.config,
        storage=Storage(tmp_path / "another"),
        workers=2,
        executor=ThreadPoolExecutor(2),
        opening=kitchen.score,
    )
    assert (parallel.sha256, parallel.decisions) == (made.sha256, made.decisions)


def test_what_scores_goes_to_another_process_without_the_videos(kitchen: Kitchen):
    """Unpickled, it scores as before, and a set finds what the other process kept."""
    config = run_of(kitchen.config)
    protocol = ScoringProtocol.for_select(config.data)
    videos = SelectVideos.of(protocol, Network(config.student, protocol))
    scorer = SetScorer(videos, KeptParts(kitchen.storage, protocol, config.student))
    name = videos.names[0]
    part = Scores((SequenceScore(name, {1: ObjectScore((0.5,), (0.25,))}),), 30.0)
    scorer.parts.write(("a", "b"), {name: part})
    data = pickle.dumps(scorer)
    assert len(data) < 20_000
    assert pickle.loads(data).parts.read(("a", "b")) == {name: part}
    assert pickle.loads(data).sequences == videos


def uri(kitchen: Kitchen) -> list[str]:
    return ["--tracking-uri", kitchen.tracker.store.uri]


def test_the_command_prints_decisions_scores_file_and_model(
    kitchen: Kitchen, capsys: pytest.CaptureFixture[str]
):
    made = kitchen.cook()
    assert greedy.main(["--runs", "mlflow:omega", *uri(kitchen)]) == 0
    out = capsys.readouterr().out
    for text in (
        "this pool has a soup already",
        "omega=0.0 step 30",
        "best single    0.6000",
        "uniform soup   0.0000",
        "greedy soup    0.9000  of 2",
        str(made.path),
        f"models:/{kitchen.model_id(made)}",
        kitchen.tracker.store.uri,
    ):
        assert text in out, text


def test_the_command_gives_json(kitchen: Kitchen, capsys: pytest.CaptureFixture[str]):
    made = kitchen.cook()
    assert greedy.main(["--runs", "mlflow:omega", "--json", *uri(kitchen)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["soup"] == {
        "file": str(made.path),
        "sha256": made.sha256,
        "model_id": kitchen.model_id(made),
    }
    assert (told["existing"], told["sweep"]) == (True, kitchen.sweep)
    assert len(told["decisions"]) == 3


@pytest.mark.parametrize("prefix", ["", "ledger:"])
def test_the_command_takes_a_storage_folder_and_no_mlflow(
    kitchen: Kitchen, capsys: pytest.CaptureFixture[str], prefix: str
):
    made = kitchen.cook()
    last_run.save(kitchen.config, kitchen.storage, kitchen.sweep, threads=1)
    (kitchen.storage.root / "mlflow.db").unlink()
    assert greedy.main(["--runs", f"{prefix}{kitchen.storage.root}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["soup"] == {"file": str(made.path), "sha256": made.sha256, "model_id": None}
    assert (told["existing"], told["store"]) == (True, None)


@pytest.mark.parametrize(("workers", "told"), [(1, "--workers 2 finds the same soup"), (2, "")])
def test_the_command_scores_on_the_threads_of_the_sweep_whatever_the_workers(
    kitchen: Kitchen,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: int,
    told: str,
):
    caplog.set_level("INFO")
    last_run.save(kitchen.config, kitchen.storage, kitchen.sweep, threads=3)
    monkeypatch.setattr(select_scores, "cores", lambda: 7)
    ran = list[int]()

    def pool(count: int, threads: int) -> ThreadPoolExecutor:
        assert (count, threads) == (2, 3)
        return ThreadPoolExecutor(count)

    def opening(student: Any, protocol: Any) -> Any:
        ran.append(torch.get_num_threads())
        return kitchen.score

    monkeypatch.setattr(worker_pool, "worker_pool", pool)
    monkeypatch.setattr(recipe, "Network", opening)
    monkeypatch.setattr(probe, "measured", lambda *a: {})  # runs networks
    words = ["--workers", str(workers), "--json", *uri(kitchen)]
    assert greedy.main(["--runs", "mlflow:omega", *words]) == 0
    assert ran == [3]
    assert told in caplog.text
    assert ("finds the same soup" in caplog.text) == bool(told)


def test_the_command_takes_several_places_and_thins_them(
    kitchen: Kitchen, capsys: pytest.CaptureFixture[str]
):
    """With checkpoints at steps 10 and 20 left, whose soup there is."""
    kitchen.cook()
    last_run.save(kitchen.config, kitchen.storage, kitchen.sweep, threads=1)
    pool = from_experiment(kitchen.reader, "omega")
    two = replace(pool, ingredients=pool.ingredients[:2])
    assert pool.config is not None
    made = recipe.make_soup(two, pool.config, storage=kitchen.storage, opening=kitchen.score)
    places = ["mlflow:omega", f"ledger:{kitchen.storage.root}"]
    arguments = ["--runs", *places, "--best", "2", "--json", *uri(kitchen)]
    assert greedy.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["existing"], told["soup"]["sha256"]) == (True, made.sha256)


def test_wrong_commands_are_told_in_a_line_and_change_nothing(
    kitchen: Kitchen,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    before = [job.key for job in kitchen.ledger.jobs()]
    wrong: list[tuple[str, int, str]] = [
        ("mlflow:nope", 1, "no experiment 'nope'; those there: Default, omega"),
        ("mlflow:omega --workers 0 --order best", 2, "--workers 0: 1 or more"),
        ("mlflow:omega --workers 0 --order best", 2, "--order 'best': one of score, step"),
        ("mlflow:omega --filter omega>1", 2, "filter 'omega>1': "),
        ("mlflow:omega --every 7", 1, "--every 7: none of 3 checkpoints stays"),
        ("ledger:nowhere", 1, "nowhere: no such folder"),
        ("mlflow:omega --split tst", 2, "data.select: 'tst' is no split"),
        ("storage/checkpoints", 2, "a folder needs --data"),
        ("omega", 2, "no such folder; an experiment is mlflow:omega"),
        ("nowhere --data generated", 1, "nowhere: no such folder"),
        ("mlflow:omega@zzz", 1, "no sweeps of experiment 'omega' begin with 'zzz'"),
    ]
    for arguments, code, line in wrong:
        assert greedy.main(["--runs", *arguments.split(), *uri(kitchen)]) == code, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert line in err
        assert "Traceback" not in err
        assert [job.key for job in kitchen.ledger.jobs()] == before
        assert [path.name for path in tmp_path.iterdir()] == ["storage"]


def test_progress_of_scoring_and_of_the_search_is_logged(
    kitchen: Kitchen, caplog: pytest.LogCaptureFixture
):
    pool = replace(from_experiment(kitchen.reader, "omega"), scored=False)
    assert pool.config is not None
    with caplog.at_level(logging.INFO, logger="soups"):
        recipe.make_soup(pool, pool.config, storage=kitchen.storage, opening=kitchen.score)
    told = [line.split(":")[0] for line in caplog.messages if " of " in line]
    assert told == [*(f"checkpoint {n} of 3" for n in (1, 2, 3)), "soup 1 of 2", "soup 2 of 2"]


def test_the_record_says_where_the_ingredients_lie_from_the_first_and_from_the_stem(
    kitchen: Kitchen,
):
    """The stem is 2: from there the checkpoints at 0 and 1 lie one way, that at 5 the other."""
    student = kitchen.config.student
    stem = kitchen.storage.checkpoint("stem")
    path, _ = checkpoint.write(
        stem.parent,
        {"w": torch.tensor([2.0])},
        recipe.info_of(student, ancestor=None, step=0, scores={}),
    )
    path.rename(stem)
    souped = kitchen.ledger.job(kitchen.cook().key).of(Souped)[0]
    assert (souped.geometry["centre"], souped.geometry["from_stem"]) == ("omega=0.0 step 10", 2.0)
    places = souped.geometry["places"]
    found = [[p["accepted"], p["distance"], p["from_stem"], p["angle"]] for p in places]
    assert found == [[True, 1.0, 1.0, 0.0], [False, 5.0, 3.0, 180.0]]
    assert [place["barrier"] for place in places] == [None, None]  # no network to run


def test_what_has_no_mean_is_refused_by_name_and_no_other_error_is_called_that(kitchen: Kitchen):
    pool = from_experiment(kitchen.reader, "omega")
    assert pool.config is not None

    def broken(weights: Mapping[str, Tensor]) -> Callable[[ScoredVideo], Scores]:
        if weights["w"] == 0:  # the best one, which is scored before the search
            return kitchen.score(weights)
        raise ValueError("frames of two sizes")

    with pytest.raises(ValueError, match=r"^frames of two sizes$"):
        recipe.make_soup(pool, pool.config, storage=kitchen.storage, opening=broken)
    odd = replace(pool.ingredients[1], sha256="f" * 64, load=lambda: {"v": torch.tensor([1.0])})
    mixed = replace(pool, ingredients=(pool.ingredients[0], odd))
    with pytest.raises(InputError, match=r"cannot be averaged: omega=0\.0 step [12]0: .*missing"):
        recipe.make_soup(mixed, pool.config, storage=kitchen.storage, opening=kitchen.score)
