"""Test statistics that a mean takes from training clips: which, of what, and a soup made again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import run_of
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution import member
from orchestrator.planning import calibration
from orchestrator.planning.datasets import training_clips
from orchestrator.planning.paths import located
from orchestrator.planning.plan import Job, plan_sweep
from orchestrator.tracking.events import Souped
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from soups import recipe, records
from soups.average import average
from soups.recalibration import STATISTICS, Recalibration, statistics_of
from soups.replay import replay
from soups.search import Ingredient
from soups.select_scores import KeptParts
from soups.sources import Pool, config_of_folder, from_folder
from soups.worth.judge import settled_by
from tests.conftest import write_davis
from tests.model_tools import network
from tests.soups.pantry import of_videos
from vosmodels import checkpoint
from vosmodels.data.clips import batch
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import Scores
from vosmodels.types import ScoredVideo

STUDENT = "mobilevos_mobilenetv2_noaspp"


@pytest.fixture(autouse=True)
def one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "BATCHES", 1)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    """A sweep on a small DAVIS folder, whose stem has a crop and a batch of its own."""
    folder = tmp_path_factory.mktemp("run")
    values: dict[str, Any] = {
        "name": "omega",
        "seed": 3,
        "data": {"root": str(write_davis(folder / "davis", 2016)), "select_height": 48},
        "student": {"name": STUDENT},
        "stem": {"steps": 1, "batch_size": 3, "crop": 32},
        "train": {"steps": 2, "batch_size": 2, "clip_length": 2, "crop": 48},
        "sweep": {"parameters": {"loss.omega": [0.0, 1.0]}},
        "storage": str(folder / "storage"),
    }
    return SweepConfig.model_validate(values)


@pytest.fixture
def config(sweep: SweepConfig) -> RunConfig:
    return run_of(sweep)


@pytest.fixture
def stem(sweep: SweepConfig) -> Job:
    """The stem as the sweep plans it."""
    return plan_sweep(located(sweep), sweep_id(sweep), threads=1).stems[0]


@functools.cache
def weights_of(seed: int) -> dict[str, Tensor]:
    """Random weights with statistics that are of nothing."""
    rng = torch.Generator().manual_seed(seed)
    weights = dict(network(STUDENT, seed=seed).state_dict())
    for key in statistics_of(weights):
        weights[key] = torch.rand(weights[key].shape, generator=rng) + 0.5
    return weights


def test_the_mean_of_a_stem_twice_gets_the_stems_own_statistics(config: RunConfig, stem: Job):
    own = member._starting_model(stem, Storage(Path()), None).state_dict()
    lost = {k: torch.ones_like(v) if k.endswith(STATISTICS) else v for k, v in own.items()}
    found = Recalibration.of(config)(average([lost, lost]))
    assert found.keys() == own.keys()
    assert all(torch.equal(found[key], own[key]) for key in own)
    assert len(statistics_of(found)) > 50


def test_statistics_are_the_moments_of_what_the_mean_shows_a_layer_on_the_stems_clips(
    config: RunConfig, stem: Job, monkeypatch: pytest.MonkeyPatch
):
    """By hand for the first layer: the convolution of the normalised frames of 2 batches of 3."""
    monkeypatch.setattr(calibration, "BATCHES", 2)
    mean = average([weights_of(1), weights_of(2)])
    clips = training_clips(stem.stages[0], 3)
    frames = torch.cat([batch(clips, n, 3).frames.flatten(0, 1) for n in range(2)])
    assert frames.shape == (12, 3, 32, 32)
    model = network(STUDENT, seed=0)
    kernel = mean["key_encoder.features.0.0.weight"]
    x = torch.nn.functional.conv2d((frames - model.mean) / model.std, kernel, None, 2, 1)
    found, first = Recalibration.of(config)(mean), "key_encoder.features.0.1.running_"
    torch.testing.assert_close(found[f"{first}mean"], x.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    variance = x.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(found[f"{first}var"], variance, atol=1e-5, rtol=1e-4)
    others = [key for key in mean if not key.endswith(STATISTICS)]
    assert all(torch.equal(found[key], mean[key]) for key in others)


def test_statistics_that_a_backbone_brought_along_stay_those_of_the_mean(config: RunConfig):
    """The key encoder's; the backbone itself is not read."""
    rule = Recalibration.of(config)
    student = config.student.model_copy(update={"backbone": "imagenet"})
    stem = replace(rule.stem, config=rule.stem.config.model_copy(update={"student": student}))
    mean = average([weights_of(1), weights_of(2)])
    found = Recalibration(stem)(mean)
    kept = {key for key in statistics_of(mean) if torch.equal(found[key], mean[key])}
    assert kept == {key for key in statistics_of(mean) if key.startswith("key_encoder.")}


@dataclass
class Scoring:
    """Scores means higher than ingredients, and keeps the weights of those means."""

    means: list[Mapping[str, Tensor]] = field(default_factory=list)
    opened: int = 0

    def __call__(self, weights: Mapping[str, Tensor]) -> Callable[[ScoredVideo], Scores]:
        self.opened += 1
        key = "key_encoder.features.0.0.weight"
        alone = any(torch.equal(weights[key], weights_of(seed)[key]) for seed in (1, 2))
        if not alone:
            self.means.append(weights)
        return lambda video: of_videos({video.name: 0.5 if alone else 0.9})


def pool_of(config: RunConfig, storage: Storage) -> Pool:
    ingredients = []
    for seed in (1, 2):
        info = recipe.info_of(config.student, ancestor=None, step=seed, scores={"jf": 0.5})
        path, sha256 = checkpoint.write(storage.checkpoints, weights_of(seed), info)
        load = lambda path=path: checkpoint.read_tensors(path)  # noqa: E731
        ingredients.append(Ingredient(f"seed {seed}", sha256, 0.5, load))
    return Pool(tuple(ingredients), "s", config, scored=True)


def test_what_is_scored_is_the_soup_and_a_replay_needs_no_clips(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    storage, scoring = Storage(tmp_path / "storage"), Scoring()
    made = recipe.make_soup(
        pool_of(config, storage), config, storage=storage, bn="recalibrate", opening=scoring
    )
    soup = checkpoint.read_tensors(made.path)
    mean = average([weights_of(1), weights_of(2)])
    expected = Recalibration.of(config)(mean)
    assert soup.keys() == expected.keys()
    assert all(torch.equal(soup[key], expected[key]) for key in soup)
    assert not torch.equal(*(w["key_encoder.features.0.1.running_mean"] for w in (soup, mean)))
    (scored,) = scoring.means
    assert all(torch.equal(scored[key], soup[key]) for key in soup)
    assert "taken anew from training clips, for every mean (--bn recalibrate)" in made.warnings[0]
    (souped,) = Ledger.of(storage).job(made.key).of(Souped)
    assert souped.search["bn"] == Recalibration.of(config).key
    sound = made.path.read_bytes()
    made.path.unlink()
    monkeypatch.setattr(Recalibration, "__call__", None)
    assert replay(records.find(str(made.path), None)).path.read_bytes() == sound
    made.path.unlink()
    statistics = storage.statistics(souped.statistics)
    statistics.unlink()
    first = storage.checkpoint(records.find(str(made.path), None).members[0].sha256)
    first.unlink()
    with pytest.raises(InputError) as caught:
        replay(records.find(str(made.path), None))
    assert f"{statistics}: no such file; it holds the BatchNorm statistics" in str(caught.value)
    assert "1 of 2 checkpoints" in str(caught.value)
    assert not made.path.exists()


def test_a_comparison_settles_means_as_the_search_did_or_says_which_rows_to_leave_out(
    config: RunConfig, tmp_path: Path
):
    storage = Storage(tmp_path / "storage")
    pool = pool_of(config, storage)
    found = {}
    for bn in ("average", "recalibrate"):
        made = recipe.make_soup(pool, config, storage=storage, bn=bn, opening=Scoring())
        found[bn] = records.find(str(made.path), None)
    record = found["recalibrate"]
    assert settled_by(found["average"]) is None
    assert settled_by(record) == Recalibration.of(config)
    assert settled_by(record, ("best", "greedy", "flip")) is None
    (train,) = Path(config.data.root).rglob("train.txt")
    names = train.read_text()
    train.write_text(names.splitlines()[0])
    others = r"leave the rows uniform out: --rows best,greedy"
    with pytest.raises(InputError, match=f"the clips of another stem .*{others}"):
        settled_by(record, ("best", "uniform", "greedy"))
    train.unlink()
    with pytest.raises(InputError, match=f"--bn recalibrate takes .*; or {others}"):
        settled_by(record, ("best", "uniform", "greedy"))
    train.write_text(names)


def test_recalibrating_makes_another_soup_with_scores_of_its_own(config: RunConfig, tmp_path: Path):
    storage, scoring = Storage(tmp_path / "storage"), Scoring()
    pool, made = pool_of(config, storage), {}
    for bn in ("average", "recalibrate"):
        made[bn] = recipe.make_soup(pool, config, storage=storage, bn=bn, opening=scoring)
    assert made["average"].key != made["recalibrate"].key
    assert made["average"].sha256 != made["recalibrate"].sha256
    assert scoring.opened == 1 + 1 + 1  # the best once, the mean of the two in both ways
    mean = average([weights_of(1), weights_of(2)])
    averaged = checkpoint.read_tensors(made["average"].path)
    assert all(torch.equal(averaged[key], mean[key]) for key in mean)


def test_kept_scores_of_a_set_tell_the_ways_apart_and_those_of_a_checkpoint_do_not(
    config: RunConfig, tmp_path: Path
):
    protocol = ScoringProtocol.for_select(config.data)
    plain = KeptParts(Storage(tmp_path), protocol, config.student)
    settled = replace(plain, settled="recalibrate k")
    part = {"bee": of_videos({"bee": 0.5})}
    settled.write(("a", "b"), part)
    assert (plain.read(("a", "b")), settled.read(("a", "b"))) == ({}, part)
    settled.write(("a",), part)
    assert plain.read(("a",)) == part


def test_a_soup_that_is_one_checkpoint_is_that_checkpoint(config: RunConfig, tmp_path: Path):
    storage = Storage(tmp_path / "storage")
    made = recipe.make_soup(
        pool_of(config, storage),
        config,
        storage=storage,
        bn="recalibrate",
        opening=lambda weights: lambda video: of_videos({video.name: 0.5}),
    )
    assert len(made.ingredients) == 1
    soup = checkpoint.read_tensors(made.path)
    alone = weights_of(int(made.ingredients[0][-1]))
    assert all(torch.equal(soup[key], alone[key]) for key in alone)
    assert Ledger.of(storage).job(made.key).of(Souped)[0].statistics == ""


def test_a_folder_without_training_clips_is_refused_before_anything_is_scored(tmp_path: Path):
    davis = write_davis(tmp_path / "davis", 2016)
    (davis / "ImageSets" / "2016" / "train.txt").unlink()
    storage, scoring = Storage(tmp_path / "storage"), Scoring()
    run = RunConfig.model_validate({"student": {"name": STUDENT}, "name": "x"})
    pool_of(run, storage)
    pool = from_folder(storage.checkpoints, force=True)
    config = config_of_folder(storage.checkpoints, pool, str(davis), "val")
    with pytest.raises(InputError, match=r"training clips: .*train.* --runs of a .*--bn average"):
        recipe.make_soup(pool, config, storage=storage, bn="recalibrate", opening=scoring)
    assert scoring.opened == 0
    assert list(Ledger.of(storage).jobs()) == []


def test_a_student_of_whole_weights_and_labels_of_a_teacher_are_refused(
    sweep: SweepConfig, tmp_path: Path
):
    values = run_of(sweep).model_dump(mode="json")
    given = values | {"student": values["student"] | {"weights": str(tmp_path / "w.safetensors")}}
    with pytest.raises(InputError, match=r"student\.weights .*w\.safetensors: .*--bn average"):
        Recalibration.of(RunConfig.model_validate(given))
    teacher = tmp_path / "t.safetensors"
    teacher.write_bytes(b"some weights")  # for the key of the stem, which nothing trains here
    taught = values | {
        "data": values["data"] | {"labels": "teacher"},
        "teacher": values["teacher"] | {"weights": str(teacher)},
    }
    with pytest.raises(InputError, match=r"a teacher labels \d+ training videos.*--bn average"):
        Recalibration.of(RunConfig.model_validate(taught))
