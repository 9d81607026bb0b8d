"""Test what is refused before a search, by its words, and what is warned of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.config.loading import changed, run_of
from orchestrator.tracking.events import Souped, Warned
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.storage import Storage
from soups import guards, recipe
from soups.search import Ingredient
from soups.sources import Pool, config_of_folder, from_folder
from tests.soups.pantry import of_videos
from tests.stores import sweep_config
from vosmodels import checkpoint
from vosmodels.errors import InputError, UsageError
from vosmodels.evaluation.scores import Scores
from vosmodels.types import ScoredVideo

BN = "bn.running_mean"


class Store:
    """Checkpoints in a storage folder, and elsewhere where `inside` is False."""

    def __init__(self, folder: Path) -> None:
        self.storage, self.folder = Storage(folder / "storage"), folder / "elsewhere"

    def put(
        self,
        name: str,
        values: Mapping[str, float],
        *,
        model: str = "mobilevos_mobilenetv2",
        config: Mapping[str, Any] | None = None,
        ancestor: str | None = "stem",
        inside: bool = True,
    ) -> Ingredient:
        weights: dict[str, Tensor] = {key: torch.tensor([v]) for key, v in values.items()}
        info = checkpoint.CheckpointInfo(model, config or {}, ancestor, len(name), {"jf": 0.5})
        folder = self.storage.checkpoints if inside else self.folder
        path, sha256 = checkpoint.write(folder, weights, info)
        return Ingredient(name, sha256, 0.5, lambda: checkpoint.read_tensors(path), ancestor)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_corrupt_file_is_no_reason_to_refuse_what_can_be_loaded_from_elsewhere(store: Store):
    one, other = (store.put(name, {BN: 1.0}) for name in ("one", "other"))
    store.storage.checkpoint(other.sha256).write_bytes(b"torn")
    copy = Ingredient("copy", other.sha256, 0.5, lambda: {BN: torch.tensor([1.0])}, "stem")
    assert guards.check_pool([one, copy], store.storage) == []
    far = Ingredient("far", other.sha256, 0.5, lambda: {BN: torch.tensor([2.0])}, "stem")
    with pytest.raises(InputError, match=BN):
        guards.check_pool([one, far], store.storage)


def test_another_model_is_refused_with_the_first_key_that_differs(store: Store):
    one = store.put("a", {"w": 1.0}, config={"width": 64, "norm": True})
    for other, words in (
        (store.put("bb", {"w": 2.0}, config={"width": 32, "norm": False}), "norm True and False"),
        (store.put("ccc", {"w": 2.0}, config={"width": 64}), "norm True and None"),
        (store.put("d", {"w": 2.0}, model="stcn"), "model 'mobilevos_mobilenetv2' and 'stcn'"),
    ):
        with pytest.raises(InputError, match=f"a and {other.name} are of two models: {words};"):
            guards.check_pool([one, other], store.storage)


def test_options_that_shape_no_weight_may_differ(store: Store):
    one = store.put("a", {"w": 1.0}, config={"memory": "first,last"})
    other = store.put("b", {"w": 2.0}, config={"memory": "all"})
    assert guards.check_pool([one, other], store.storage) == []


@pytest.mark.parametrize("inside", [True, False])
def test_other_statistics_of_batchnorm_are_refused_or_averaged_with_a_warning(
    store: Store, inside: bool
):
    one = store.put("a", {"w": 1.0, BN: 0.5, "bn.running_var": 1.0})
    same = store.put("same", {"w": 3.0, BN: 0.5, "bn.running_var": 1.0}, inside=inside)
    other = store.put("bb", {"w": 2.0, BN: 0.25, "bn.running_var": 1.0}, inside=inside)
    assert guards.check_pool([one, same], store.storage) == []
    with pytest.raises(InputError, match=r"a and bb differ in bn\.running_mean: .* --bn average"):
        guards.check_pool([one, same, other], store.storage)
    (warning,) = guards.check_pool([one, other], store.storage, bn="average")
    assert "averaged (--bn average)" in warning


def test_a_pool_of_no_one_stem_is_taken_only_by_force(store: Store):
    one, other = store.put("a", {"w": 1.0}), store.put("b", {"w": 2.0}, ancestor="another")
    family, (warning,) = guards.one_family([one, other])
    assert [ingredient.ancestor for ingredient in family] == [None, None]
    assert "(another, stem)" in warning
    assert guards.one_family([one, one]) == ((one, one), [])


def test_a_folder_of_several_stems_gives_the_best_one_s_or_by_force_all(store: Store):
    store.put("a", {"w": 1.0}, inside=False)
    store.put("bb", {"w": 2.0}, ancestor="another", inside=False)
    store.put("ccc", {"w": 3.0}, ancestor=None, inside=False)
    assert len(from_folder(store.folder).ingredients) == 1
    pool = from_folder(store.folder, force=True)
    assert len(pool.ingredients) == 3
    assert "(another, no stem, stem)" in pool.warnings[0]


def test_a_folder_of_two_models_is_refused_with_the_key(store: Store):
    store.put("a", {"w": 1.0}, config={"width": 64}, inside=False)
    store.put("bb", {"w": 2.0}, config={"width": 32}, inside=False)
    pool = from_folder(store.folder)
    with pytest.raises(InputError, match=r"2 students; soups need one: width (64|32) and (64|32)"):
        config_of_folder(store.folder, pool, "generated", None)


@pytest.fixture
def config(store: Store) -> RunConfig:
    return run_of(sweep_config(store.storage.root))


def test_training_videos_choose_only_where_they_are_asked_to(config: RunConfig):
    assert guards.chosen_on(config.data) == ""
    values = guards.select_on_train(config)
    asked = changed(config, values, "command line")
    assert (asked.data.select, guards.chosen_on(asked.data)) == ("train", "train")
    assert guards.chosen_on(DataConfig(root="a", select_root="b", select="train")) == ""
    folders = changed(config, {"data.train": [{"root": "x", "split": "train"}]}, "command line")
    with pytest.raises(UsageError, match=r"data\.train is a list"):
        guards.select_on_train(folders)


def test_a_split_that_reports_cannot_be_made_to_choose(config: RunConfig):
    reported = changed(config, {"data.report": "test"}, "command line")
    with pytest.raises(UsageError, match=r"is also data\.select"):
        changed(reported, {"data.select": "test"}, "command line")


def test_the_record_says_what_was_done_against_a_guard(store: Store, config: RunConfig):
    one = store.put("a", {"w": 1.0, BN: 0.5}, ancestor=None)
    other = store.put("bb", {"w": 2.0, BN: 0.25}, ancestor=None)
    config = changed(config, guards.select_on_train(config), "command line")
    pool = Pool((one, other), "s", config, scored=True, warnings=("by force",))

    def opening(weights: Mapping[str, Tensor]) -> Callable[[ScoredVideo], Scores]:
        return lambda video: of_videos({video.name: 0.9})

    with pytest.raises(InputError, match="--bn average"):
        recipe.make_soup(pool, config, storage=store.storage, opening=opening)
    made = recipe.make_soup(pool, config, storage=store.storage, bn="average", opening=opening)
    job = Ledger(store.storage.root).job(made.key)
    assert job.of(Souped)[0].chosen_on == "train"
    assert made.warnings == [event.text for event in job.of(Warned)]
    for text, words in zip(
        made.warnings, ("by force", "a and bb|bb and a", "training videos chose"), strict=True
    ):
        assert any(word in text for word in words.split("|")), text
    assert checkpoint.read_info(made.path).ancestor is None
