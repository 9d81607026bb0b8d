"""Test that a soup is made again from what its record names, and only from that."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from orchestrator.config.loading import run_of
from orchestrator.tracking.storage import Storage
from soups import greedy, recipe, records
from soups.records import SoupRecord
from soups.replay import replay
from soups.search import Ingredient
from tests.soups.pantry import of_videos, write_soup
from tests.soups.test_recipe import Kitchen
from tests.stores import WARNING, sweep_config
from vosmodels import checkpoint
from vosmodels.errors import InputError

pytestmark = pytest.mark.filterwarnings(WARNING)


@dataclass(frozen=True)
class Cooked:
    """A soup of 7 checkpoints with random weights, its sound bytes, and where it lies."""

    storage: Storage
    path: Path
    sound: bytes

    @property
    def record(self) -> SoupRecord:
        """Its record, found anew."""
        return records.find(str(self.path), None)


@pytest.fixture
def cooked(tmp_path: Path) -> Cooked:
    storage = Storage(tmp_path / "storage")
    config, ingredients = run_of(sweep_config(storage.root)), []
    for seed in range(8):
        rng = torch.Generator().manual_seed(seed)
        weights = {"b": torch.randn(50, generator=rng), "a": torch.randn(9, 3, generator=rng)}
        info = recipe.info_of(config.student, ancestor="stem", step=seed, scores={"jf": 0.5})
        path, sha256 = checkpoint.write(storage.checkpoints, weights, info)
        load = partial(checkpoint.read_tensors, path)
        ingredients.append(Ingredient(f"seed {seed}", sha256, 0.01 * seed, load, "stem", seed))
    values = iter([*(0.5 + 0.01 * n for n in range(6)), 0.0])
    record = write_soup(
        storage, config, ingredients, lambda weights: of_videos({"ant": next(values)})
    )
    assert len(record.members) == 7
    path = storage.checkpoint(record.file.sha256)
    return Cooked(storage, path, path.read_bytes())


def test_a_lost_soup_is_made_again_bit_for_bit(cooked: Cooked):
    """The mean of 7 in float32, in the order of the search and by their files."""
    cooked.path.unlink()
    again = replay(cooked.record)
    assert (again.path, again.there) == (cooked.path, False)
    assert again.ingredients == tuple(f"seed {seed}" for seed in range(7, 0, -1))
    assert again.path.read_bytes() == cooked.sound
    assert replay(cooked.record).there


def test_a_corrupt_soup_is_replaced(cooked: Cooked):
    cooked.path.write_bytes(cooked.sound[:-1] + bytes([cooked.sound[-1] ^ 1]))
    assert not replay(cooked.record).there
    assert cooked.path.read_bytes() == cooked.sound


def test_a_copy_of_a_soup_under_another_name_is_known_by_its_content(
    cooked: Cooked, tmp_path: Path
):
    copy = tmp_path / "mine.safetensors"
    shutil.copy(cooked.path, copy)
    assert (
        records.find(str(copy), None, storage=cooked.storage.root).job.key == cooked.record.job.key
    )


def test_ingredients_that_are_gone_are_all_named_and_nothing_is_written(cooked: Cooked):
    cooked.path.unlink()
    gone = cooked.record.members[2:4]
    for member in gone:
        cooked.storage.checkpoint(member.sha256).unlink()
    with pytest.raises(InputError) as caught:
        replay(cooked.record)
    text = str(caught.value)
    assert f"2 of 7 checkpoints of {cooked.record.job.path} are gone" in text
    for member in gone:
        assert f"{member.name} (sha256 {member.sha256})" in text
    assert str(cooked.storage.checkpoints) in text
    assert not cooked.path.exists()


def test_a_gone_ingredient_is_taken_from_a_folder_that_has_its_content(
    cooked: Cooked, tmp_path: Path
):
    lost = cooked.storage.checkpoint(cooked.record.members[0].sha256)
    shutil.move(lost, tmp_path / "kept.safetensors")
    cooked.path.unlink()
    record = records.find(str(cooked.path), None, folders=(tmp_path,))
    assert replay(record).path.read_bytes() == cooked.sound


def test_a_record_that_names_another_ingredient_is_refused(cooked: Cooked, monkeypatch):
    record = cooked.record
    monkeypatch.setattr(SoupRecord, "members", record.pool[1:])
    before = sorted(cooked.storage.checkpoints.iterdir())
    with pytest.raises(InputError, match=f"but the soup's is {cooked.path.stem}"):
        replay(record)
    assert sorted(cooked.storage.checkpoints.iterdir()) == before


def test_a_record_of_before_the_geometry_is_read(cooked: Cooked):
    path = cooked.record.job.path
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (souped,) = [line for line in lines if line["kind"] == "souped"]
    for key in ("geometry", "chosen_on"):
        souped.pop(key)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    record = cooked.record
    assert (record.souped.geometry, record.souped.chosen_on) == ({}, "")
    assert replay(record).sha256 == cooked.path.stem


def test_pool_and_members_name_what_was_tried_and_taken(cooked: Cooked):
    record = cooked.record
    assert [member.name for member in record.pool] == [f"seed {n}" for n in range(7, -1, -1)]
    assert record.members == record.pool[:7]
    twice = [*record.souped.decisions, record.souped.decisions[0]]
    record.__dict__["souped"] = replace(record.souped, decisions=twice)
    assert len(record.members) == 8  # one that was taken twice counts twice


def test_a_file_that_is_no_soup_is_refused(cooked: Cooked):
    other = cooked.storage.checkpoint(cooked.record.members[0].sha256)
    with pytest.raises(InputError, match="no soup with sha256"):
        records.find(str(other), None)
    with pytest.raises(InputError, match="no such file"):
        records.find(str(other.with_name("x.safetensors")), None)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_a_soup_in_mlflow_is_found_by_model_or_experiment_and_takes_copies_there(
    kitchen: Kitchen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    uri = kitchen.tracker.store.uri
    with pytest.raises(InputError, match="no soup in sweep"):
        records.find("mlflow:omega", uri)
    made = kitchen.cook()
    sound = made.path.read_bytes()
    (trial, *_) = kitchen.reader.checkpoints("omega")
    with pytest.raises(InputError, match="is a trial, no soup"):
        records.find(f"models:/{trial.model_id}", uri)
    record = records.find(f"models:/{kitchen.model_id(made)}", uri)
    kitchen.storage.checkpoint(record.members[0].sha256).unlink()
    made.path.unlink()
    assert replay(record).path.read_bytes() == sound
    made.path.unlink()
    with pytest.raises(InputError, match="1 of 2 checkpoints"):
        replay(records.find(str(made.path), None))
    assert greedy.main(["--replay", "mlflow:omega", "--tracking-uri", uri]) == 0
    out = capsys.readouterr().out
    for text in ("the mean of 2: omega=0.0 step 10", "bit for bit", f"{made.path}, which was lost"):
        assert text in out, text
    shutil.move(kitchen.storage.ledger, tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is in none of"):
        records.find("mlflow:omega", uri)


def test_the_command_replays_and_gives_json(cooked: Cooked, capsys: pytest.CaptureFixture[str]):
    assert greedy.main(["--replay", str(cooked.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    place = {"file": str(cooked.path), "sha256": cooked.path.stem}
    assert told["soup"] == {**place, "was_there": True}
    assert len(told["ingredients"]) == 7


def test_a_replay_with_options_of_a_search_is_refused(capsys: pytest.CaptureFixture[str]):
    words = ["--replay", "mlflow:omega", "--again", "--runs", "mlflow:omega", "--data", "x"]
    assert greedy.main(words) == 2
    assert "leave out --data, --again, --runs mlflow:omega" in capsys.readouterr().err
