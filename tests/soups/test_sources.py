"""Test soup ingredients from MLflow and from folders."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import run_of
from orchestrator.execution import last_run
from orchestrator.tracking.events import Checkpoint, Done, Event, Failed, Stopped
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_writer import Tracker
from orchestrator.tracking.storage import Storage
from soups.average import average
from soups.sources import (
    Pool,
    Student,
    config_of_folder,
    from_experiment,
    from_folder,
    from_ledger,
    from_storage,
    together,
)
from tests.stores import (
    WARNING,
    checkpoint_of,
    finished_trial,
    sha_of,
    show_sweep,
    sweep_config,
    trial_job,
)
from vosmodels import checkpoint
from vosmodels.errors import InputError, UsageError
from vosmodels.registry import REGISTRY
from vosmodels.support.atomic_files import write_json

pytestmark = pytest.mark.filterwarnings(WARNING)


def save(folder: Path, value: float, ancestor: str | None = "stem", jf: float = 0.5) -> Path:
    info = checkpoint.CheckpointInfo("mobilevos_x", {"a": 1}, ancestor, 10, {"jf": jf})
    return checkpoint.write(folder, {"w": torch.tensor([value])}, info)[0]


def test_an_experiment_gives_the_trial_checkpoints_of_its_newest_sweep(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    old = show_sweep(tracker, ledger, {"o": [0.3, 0.4]}, seed=1)
    new = show_sweep(tracker, ledger, {"n": [0.3, 0.4]})
    pool = from_experiment(reader, "omega")
    assert [(i.name, i.sha256, i.score) for i in pool.ingredients] == [
        ("omega=0.0 step 10", sha_of("n1"), 0.3),
        ("omega=0.0 step 20", sha_of("n2"), 0.4),
    ]
    assert (pool.sweep, pool.scored) == (sweep_id(new), True)
    assert pool.config is not None
    assert pool.config.storage == str(ledger.storage)
    assert {i.ancestor for i in pool.ingredients} == {"stem"}
    named = from_experiment(reader, f"omega@{sweep_id(old)}")
    assert [i.sha256 for i in named.ingredients] == [sha_of("o1"), sha_of("o2")]


def facts(pool: Pool) -> list[object]:
    """List the facts of each ingredient of a pool."""
    return [(i.name, i.sha256, i.score, i.ancestor, i.step) for i in pool.ingredients]


def test_the_ledger_gives_the_pool_that_mlflow_gives(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {"o": [0.3, 0.4]}, seed=1)
    config = show_sweep(tracker, ledger, {"n": [0.3, 0.4], "m": [0.5, 0.2]})
    elsewhere = finished_trial(ledger, sweep_config(ledger.storage, seed=2), 1, "e", [0.1])
    tracker.project(elsewhere, sweep_id(config))  # another sweep trained it, this one uses it
    shown = from_experiment(reader, f"omega@{sweep_id(config)}")
    pool = from_ledger(
        Storage(ledger.storage), run_of(config), sweep_id(config), trials=["n", "m", "e"]
    )
    assert facts(pool) == facts(shown)
    assert [i.name for i in pool.ingredients][:2] == ["omega=1.0 step 10", "omega=1.0 step 10"]
    assert pool.digest == shown.digest
    assert (pool.config, pool.sweep, pool.scored) == (shown.config, shown.sweep, shown.scored)


def test_trials_of_an_earlier_grid_stay_in_the_ledgers_pool(tracker: Tracker, ledger: Ledger):
    config = show_sweep(tracker, ledger, {"n": [0.3], "m": [0.5]})
    pool = from_ledger(Storage(ledger.storage), run_of(config), sweep_id(config), trials=["m"])
    assert {i.sha256 for i in pool.ingredients} == {sha_of("n1"), sha_of("m1")}


def ended(ledger: Ledger, config: SweepConfig, key: str, event: Event | None) -> JobRecord:
    """A trial with one checkpoint that ended with this event, or was killed."""
    job, started = trial_job(ledger, config, 1, key)
    with job.claim():
        job.write(started)
        job.write(checkpoint_of(ledger.storage, 10, f"{key}1", 0.9))
        if event:
            job.write(event)
    return job


@pytest.mark.parametrize("event", [None, Failed("no memory"), Stopped(10, "asha")])
def test_unfinished_and_stopped_trials_stay_out_unless_asked_for(
    tracker: Tracker,
    reader: MlflowReader,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    event: Event | None,
):
    config = show_sweep(tracker, ledger, {"n": [0.3]})
    tracker.project(ended(ledger, config, "u", event))
    storage, sweep = Storage(ledger.storage), sweep_id(config)
    with caplog.at_level(logging.INFO, "soups"):
        some = from_ledger(storage, run_of(config), sweep, ())
    assert {i.sha256 for i in some.ingredients} == {sha_of("n1")}
    assert "1 trials did not run to their end" in caplog.text
    assert from_experiment(reader, "omega").digest == some.digest
    both = from_ledger(storage, run_of(config), sweep, (), include_unfinished=True)
    assert {i.sha256 for i in both.ingredients} == {sha_of("n1"), sha_of("u1")}
    assert from_experiment(reader, "omega", include_unfinished=True).digest == both.digest


def test_a_sweep_with_unfinished_trials_alone_says_how_to_take_them(ledger: Ledger):
    config = sweep_config(ledger.storage)
    ended(ledger, config, "u", None)
    with pytest.raises(InputError, match="or take the 1 unfinished ones: --include-unfinished"):
        from_ledger(Storage(ledger.storage), run_of(config), sweep_id(config), ())


def test_a_storage_folder_gives_the_pool_of_its_newest_sweep_or_of_one_named(ledger: Ledger):
    storage, pools = Storage(ledger.storage), {}
    for seed, key in ((1, "o"), (0, "n")):
        config = sweep_config(ledger.storage, seed=seed)
        finished_trial(ledger, config, 0, key, [0.3, 0.4])
        last_run.save(config, storage, sweep_id(config), threads=1)
        pools[key] = from_ledger(storage, run_of(config), sweep_id(config), ())
        os.utime(storage.sweeps / f"{sweep_id(config)}.json", (1000 - seed, 1000 - seed))
        results = {"config": config.model_dump(mode="json"), "rows": []}
        write_json(storage.sweeps / f"{sweep_id(config)}-results.json", results)
    pool = from_storage(ledger.storage)
    assert facts(pool) == facts(pools["n"])
    assert pool.config == pools["n"].config
    assert facts(from_storage(ledger.storage, pools["o"].sweep[:8])) == facts(pools["o"])
    with pytest.raises(InputError, match=f"no sweeps begin with 'zz'.*{pool.sweep}"):
        from_storage(ledger.storage, "zz")
    with pytest.raises(InputError, match=r"no sweeps .* none; is it a storage folder"):
        from_storage(ledger.storage / "none")


def test_a_storage_folder_that_was_moved_is_where_its_files_are(ledger: Ledger, tmp_path: Path):
    config = sweep_config(ledger.storage)
    real_trial(ledger, config, 7.0)
    last_run.save(config, Storage(ledger.storage), sweep_id(config), threads=1)
    moved = ledger.storage.rename(tmp_path / "moved")
    pool = from_storage(moved)
    assert [float(i.load()["w"]) for i in pool.ingredients] == [7.0]
    assert pool.config is not None
    assert pool.config.storage_root == moved


def test_a_filter_chooses_trials_as_mlflow_does(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {"n": [0.3, 0.4], "m": [0.5, 0.2]})
    pool = from_experiment(reader, "omega", where="params.`loss.omega` = '1.0'")
    assert {i.sha256 for i in pool.ingredients} == {sha_of("m1"), sha_of("m2")}
    with pytest.raises(InputError, match=r"no scored .* 'omega' where params.x = '1'; "):
        from_experiment(reader, "omega", where="params.x = '1'")
    with pytest.raises(UsageError, match=r"filter .omega > 1.: .* such as"):
        from_experiment(reader, "omega", where="omega > 1")


def test_pools_together_are_of_the_first_sweep_and_of_one_stem(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    old = show_sweep(tracker, ledger, {"o": [0.3, 0.4]}, seed=1)
    new = show_sweep(tracker, ledger, {"n": [0.5]})
    first, second = (from_experiment(reader, f"omega@{sweep_id(c)}") for c in (new, old))
    pool = together([first, second, first])
    assert {i.sha256 for i in pool.ingredients} == {sha_of(name) for name in ("n1", "o1", "o2")}
    assert (pool.sweep, pool.config, pool.scored) == (first.sweep, first.config, True)
    assert together([first]) == first
    other = replace(second.ingredients[0], ancestor="another", score=0.1)
    mixed = replace(second, ingredients=(other, *second.ingredients[1:]))
    assert {i.sha256 for i in together([first, mixed]).ingredients} == {sha_of("n1"), sha_of("o2")}


@pytest.mark.parametrize(("score", "named"), [(0.1, "second"), (0.9, "first")])
def test_a_pool_of_another_stem_alone_is_refused_by_its_name(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger, score: float, named: str
):
    show_sweep(tracker, ledger, {"n": [0.5]})
    first = from_experiment(reader, "omega")
    other = replace(first.ingredients[0], sha256="f" * 64, ancestor="another", score=score)
    pools, names = [first, replace(first, ingredients=(other,))], ["first", "second"]
    with pytest.raises(InputError, match=rf"no common stem: .* none of {named} .*--force"):
        together(pools, names)
    assert len(together(pools, names, force=True).ingredients) == 2


def test_pools_that_were_chosen_otherwise_are_scored_anew(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {"n": [0.5]})
    pool = from_experiment(reader, "omega")
    assert pool.config is not None
    data = pool.config.data.model_copy(update={"select_stride": 3})
    other = replace(pool, config=pool.config.model_copy(update={"data": data}))
    assert not together([pool, other]).scored


def test_pools_of_two_students_are_refused(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger, tmp_path: Path
):
    show_sweep(tracker, ledger, {"n": [0.5]})
    save(tmp_path, 1.0)
    with pytest.raises(InputError, match="--runs: checkpoints of 2 students"):
        together([from_experiment(reader, "omega"), from_folder(tmp_path)])


def test_a_sweep_without_scored_trials_is_told(tracker: Tracker, ledger: Ledger):
    storage, config = Storage(ledger.storage), show_sweep(tracker, ledger, {})
    with pytest.raises(InputError, match=r"ledger: no scored trial checkpoint of sweep"):
        from_ledger(storage, run_of(config), sweep_id(config), ())


def real_trial(ledger: Ledger, config: SweepConfig, *values: float) -> JobRecord:
    """A finished trial with a checkpoint of weights per value, at steps 10, 20, ..."""
    job, started = trial_job(ledger, config, 0, "k")
    with job.claim():
        job.write(started)
        for number, value in enumerate(values, 1):
            path = save(ledger.storage / "checkpoints", value)
            relative = path.relative_to(ledger.storage).as_posix()
            scores = {"jf": 0.1 * number}
            job.write(Checkpoint(number * 10, path.stem, relative, scores, ancestor="stem"))
        job.write(Done(1.0))
    return job


def damage(path: Path, how: str) -> None:
    """Damage a checkpoint's file, or remove it."""
    data = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        other = save(path.parent / "other", 8.0).read_bytes()
        flipped = bytes([*data[:-1], data[-1] ^ 1])
        path.write_bytes(
            {"cut": data[:-3], "flipped": flipped, "empty": b"", "another's": other}[how]
        )


DAMAGES = ("gone", "cut", "flipped", "empty", "another's", "folder")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_file_that_is_gone_or_corrupt_is_taken_from_mlflow(
    tracker: Tracker, ledger: Ledger, caplog: pytest.LogCaptureFixture, tmp_path: Path, how: str
):
    storage, config = Storage(ledger.storage), show_sweep(tracker, ledger, {})
    (made,) = real_trial(ledger, config, 7.0).checkpoints()
    path = storage.checkpoint(made.sha256)
    copy = Path(shutil.copy(path, tmp_path / "copy.safetensors"))
    damage(path, how)
    asked: list[str] = []

    def fetch(sha256: str) -> Path:
        asked.append(sha256)
        return copy

    pool = from_ledger(storage, run_of(config), sweep_id(config), (), fetch)
    assert not asked  # only a checkpoint that is loaded is fetched
    assert [float(i.load()["w"]) for i in pool.ingredients] == [7.0]
    assert asked == [made.sha256]
    (line,) = caplog.messages
    assert line.startswith(f"{path}: ")
    assert line.endswith("; its copy in MLflow is taken")


@pytest.mark.parametrize("how", DAMAGES)
def test_a_copy_in_mlflow_that_is_gone_or_corrupt_is_taken_from_storage(
    tracker: Tracker,
    reader: MlflowReader,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    how: str,
):
    storage, config = Storage(ledger.storage), show_sweep(tracker, ledger, {})
    job = real_trial(ledger, config, 7.0)
    tracker.project(job)
    (record,) = reader.checkpoints("omega")
    copy = reader.download(record)
    path = storage.checkpoint(record.sha256)
    assert copy != path
    damage(copy, how)
    (ingredient,) = from_experiment(reader, "omega").ingredients
    assert float(ingredient.load()["w"]) == 7.0
    (line,) = caplog.messages
    assert line.endswith(f"; {path} is taken")
    path.unlink()
    with pytest.raises(InputError, match=record.sha256):
        ingredient.load()


def test_a_checkpoint_that_is_corrupt_in_both_places_is_told_with_both(
    tracker: Tracker, ledger: Ledger, tmp_path: Path
):
    storage, config = Storage(ledger.storage), show_sweep(tracker, ledger, {})
    (made,) = real_trial(ledger, config, 7.0).checkpoints()
    path = storage.checkpoint(made.sha256)
    copy = Path(shutil.copy(path, tmp_path / "copy.safetensors"))
    damage(path, "flipped")
    damage(copy, "cut")
    pool = from_ledger(storage, run_of(config), sweep_id(config), (), lambda sha256: copy)
    with pytest.raises(InputError, match=rf"{path}: corrupt.*copy in MLflow.*{copy}: corrupt"):
        pool.ingredients[0].load()


def test_a_file_that_is_gone_everywhere_is_named_when_it_is_loaded(
    tracker: Tracker, ledger: Ledger
):
    storage, config = Storage(ledger.storage), show_sweep(tracker, ledger, {})
    (made,) = real_trial(ledger, config, 7.0).checkpoints()
    storage.checkpoint(made.sha256).unlink()
    pool = from_ledger(storage, run_of(config), sweep_id(config), ())
    with pytest.raises(InputError, match=rf"{made.sha256}\.safetensors: no such file"):
        pool.ingredients[0].load()


def test_an_unreadable_job_is_left_out_unless_the_sweep_plans_it(
    tracker: Tracker, ledger: Ledger, caplog: pytest.LogCaptureFixture
):
    storage, config = Storage(ledger.storage), show_sweep(tracker, ledger, {"k": [0.3]})
    other, _ = trial_job(ledger, config, 1, "torn")
    other.path.write_text("no JSON\n{}\n")
    pool = from_ledger(storage, run_of(config), sweep_id(config), ["k"])
    assert {i.sha256 for i in pool.ingredients} == {sha_of("k1")}
    assert "left out" in caplog.text
    with pytest.raises(InputError):
        from_ledger(storage, run_of(config), sweep_id(config), ["k", "torn"])


def test_a_folder_of_several_students_is_refused(tmp_path: Path):
    save(tmp_path, 1.0)
    info = checkpoint.CheckpointInfo("mobilevos_y", {}, "stem", 10, {"jf": 0.5})
    checkpoint.write(tmp_path, {"w": torch.tensor([2.0])}, info)
    pool = from_folder(tmp_path)
    with pytest.raises(InputError, match="checkpoints of 2 students; soups need one"):
        config_of_folder(tmp_path, pool, "generated", None)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_folder_of_any_student_has_a_configuration(tmp_path: Path, name: str):
    info = checkpoint.CheckpointInfo(name, {}, "stem", 10, {"jf": 0.5})
    checkpoint.write(tmp_path, {"w": torch.tensor([2.0])}, info)
    made = config_of_folder(tmp_path, from_folder(tmp_path), "generated", "test")
    assert (made.student.name, made.data.root, made.data.select) == (name, "generated", "test")


def test_earlier_soups_are_ingredients_only_where_asked_for(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    config = show_sweep(tracker, ledger, {"k": [0.3]})
    job, started = trial_job(ledger, config, 0, "soup")
    with job.claim():
        job.write(type(started)(**{**vars(started), "role": "soup"}))
        job.write(checkpoint_of(ledger.storage, 10, "s", 0.9))
        job.write(Done(1.0))
    tracker.project(job)
    assert len(from_experiment(reader, "omega").ingredients) == 1
    assert len(from_experiment(reader, "omega", include_soups=True).ingredients) == 2


def test_ingredients_from_mlflow_load_their_own_weights(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    config = show_sweep(tracker, ledger, {})
    tracker.project(real_trial(ledger, config, 1.0, 2.0))
    pool = from_experiment(reader, "omega")
    assert [float(i.load()["w"]) for i in pool.ingredients] == [1.0, 2.0]


def test_of_several_stems_the_best_checkpoints_is_taken_and_the_rest_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    save(tmp_path, 1.0, ancestor="stem-a", jf=0.4)
    save(tmp_path, 2.0, ancestor="stem-b", jf=0.6)
    save(tmp_path, 3.0, ancestor="stem-b", jf=0.1)
    with caplog.at_level(logging.WARNING, "soups"):
        pool = from_folder(tmp_path)
    assert {i.ancestor for i in pool.ingredients} == {"stem-b"}
    assert len(pool.ingredients) == 2
    assert "1 of stem-a" in caplog.text


def test_a_folder_gives_its_checkpoints_and_leaves_stems_and_teachers_out(tmp_path: Path):
    paths = [save(tmp_path, 1.0), save(tmp_path, 2.0)]
    save(tmp_path, 3.0, ancestor=None)
    pool = from_folder(tmp_path)
    assert {i.sha256 for i in pool.ingredients} == {path.stem for path in paths}
    assert sorted(float(i.load()["w"]) for i in pool.ingredients) == [1.0, 2.0]
    assert not pool.scored
    assert pool.students == (Student("mobilevos_x", {"a": 1}),)


def test_a_folder_of_checkpoints_that_cannot_be_averaged_names_file_and_tensor(tmp_path: Path):
    first = save(tmp_path, 1.0)
    info = checkpoint.read_info(first)
    for other, says in (
        ({"w": torch.tensor([2.0]).double()}, "F64 [1]"),
        ({"w": torch.tensor([2.0, 3.0])}, "F32 [2]"),
        ({"v": torch.tensor([2.0])}, "not there"),
    ):
        path, _ = checkpoint.write(tmp_path, other, info)
        with pytest.raises(InputError, match="same names, types and shapes") as caught:
            from_folder(tmp_path)
        assert all(part in str(caught.value) for part in (path.name, first.name, says))
        path.unlink()


def test_halves_and_fulls_of_a_folder_are_averaged_in_float32(tmp_path: Path):
    full = save(tmp_path, 1 / 3)
    half = tmp_path / "half.safetensors"
    half.write_bytes(checkpoint.halved(save(tmp_path / "other", 0.1)))
    loaded = [ingredient.load() for ingredient in from_folder(tmp_path).ingredients]
    expected = (np.float64(np.float32(1 / 3)) + np.float64(np.float16(0.1))) / 2
    assert average(loaded)["w"].item() == np.float32(expected)
    assert full.stem in {ingredient.sha256 for ingredient in from_folder(tmp_path).ingredients}


def test_hidden_files_in_a_folder_are_no_checkpoints(tmp_path: Path):
    save(tmp_path, 1.0)
    (tmp_path / "._copy.safetensors").write_bytes(b"of a system")
    assert len(from_folder(tmp_path).ingredients) == 1


def test_a_renamed_checkpoint_is_still_known_by_its_content(tmp_path: Path):
    path = save(tmp_path, 1.0)
    sha256 = path.stem
    path.rename(tmp_path / "mine.safetensors")
    assert from_folder(tmp_path).ingredients[0].sha256 == sha256


def test_an_unknown_experiment_an_empty_one_and_empty_folders_are_told(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger, tmp_path: Path
):
    show_sweep(tracker, ledger, {})
    with pytest.raises(InputError, match=r"mlflow\.db: no experiment 'omegaa'; .*omega"):
        from_experiment(reader, "omegaa")
    with pytest.raises(InputError, match=r"no scored trial checkpoint in sweep .* 'omega'"):
        from_experiment(reader, "omega")
    with pytest.raises(InputError, match=r"none: no such folder"):
        from_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no checkpoints"):
        from_folder(tmp_path / "empty")
    save(tmp_path / "stems", 1.0, ancestor=None)
    with pytest.raises(InputError, match=r"none of its 1 checkpoints says which stem"):
        from_folder(tmp_path / "stems")


def test_a_corrupt_checkpoint_in_a_folder_is_told_by_name(tmp_path: Path):
    save(tmp_path, 1.0)
    (tmp_path / "zz.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"zz\.safetensors"):
        from_folder(tmp_path)


def test_a_checkpoint_of_a_folder_that_changes_after_it_was_listed_is_refused(tmp_path: Path):
    path = save(tmp_path, 1.0).rename(tmp_path / "mine.safetensors")
    (ingredient,) = from_folder(tmp_path).ingredients
    path.write_bytes(save(tmp_path / "other", 2.0).read_bytes())
    with pytest.raises(InputError, match=r"mine\.safetensors: corrupt: its sha256"):
        ingredient.load()
