"""Test that the reader finds in MLflow what the tracker wrote."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import resolve
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_writer import Tracker
from tests.stores import WARNING, checkpoint_of, sha_of, show_sweep, trial_job
from vosmodels.errors import InputError

pytestmark = pytest.mark.filterwarnings(WARNING)


def test_checkpoints_are_those_of_the_newest_sweep_by_key_and_step(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    for seed, key in ((0, "b"), (1, "c"), (0, "a")):
        newest = show_sweep(tracker, ledger, {key: [0.1, 0.2]}, seed=seed)
    assert reader.newest_sweep("omega") == sweep_id(newest)
    found = [(record.key, record.step) for record in reader.checkpoints("omega")]
    assert found == [("a", 10), ("a", 20), ("b", 10), ("b", 20)]
    assert reader.checkpoints("omega", roles=("teacher",)) == []


def test_the_best_checkpoint_is_the_highest_select_score_and_its_file_can_be_had(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {"k1": [0.3, 0.7], "k2": [0.6]})
    best = reader.best_checkpoint("omega")
    assert (best.name, best.job, best.scores["jf"]) == ("omega-0_0-step-20", "omega=0.0", 0.7)
    assert reader.download(best).read_text() == "weights k12"
    assert reader.model(best.model_id) == best


def test_the_best_checkpoint_may_be_a_stem(tracker: Tracker, reader: MlflowReader, ledger: Ledger):
    config = show_sweep(tracker, ledger, {"k1": [0.3]})
    record, started = trial_job(ledger, config, 0, "s1")
    with record.claim():
        record.write(replace(started, role="stem", name="stem"))
        record.write(checkpoint_of(ledger.storage, 4, "s1", 0.5))
    tracker.project(record, sweep_id(config))
    assert reader.best_checkpoint("omega").job == "stem"


def test_a_sweep_is_named_by_the_first_letters_of_its_id(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger, caplog: pytest.LogCaptureFixture
):
    ids = [sweep_id(show_sweep(tracker, ledger, {f"k{s}": [0.1]}, seed=s)) for s in (0, 1)]
    with caplog.at_level("INFO", "orchestrator"):
        assert reader.resolve(f"omega@{ids[0][:8]}") == ("omega", ids[0])
        assert caplog.text == ""  # nothing was chosen
        assert reader.resolve("omega") == ("omega", ids[1])
    assert f"sweep {ids[1][:8]} is taken, the newest of 2" in caplog.text
    assert f"omega@{ids[0][:8]}" in caplog.text
    for wanted in ("zz", ""):
        with pytest.raises(InputError, match="sweeps of experiment 'omega' begin with") as caught:
            reader.resolve(f"omega@{wanted}")
        assert ids[0] in str(caught.value)


def test_what_a_sweep_kept_is_given_back(tracker: Tracker, reader: MlflowReader, ledger: Ledger):
    config = show_sweep(tracker, ledger, {"k1": [0.3]})
    kept = reader.config_of("omega", sweep_id(config))
    assert kept.model_dump() == resolve(config).model_dump(exclude={"sweep"})
    with pytest.raises(InputError, match=r"has no results\.json yet; let it run to its end"):
        reader.results_of("omega", sweep_id(config))
    tracker.log_results("omega", sweep_id(config), {"rows": [], "seconds": 3})
    assert reader.results_of("omega", sweep_id(config)) == {"rows": [], "seconds": 3}


def test_a_checkpoint_that_is_not_ready_is_not_offered(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {"k1": [0.3, 0.7]})
    best = reader.best_checkpoint("omega")
    tracker.connection.client.finalize_logged_model(best.model_id, "FAILED")
    assert [r.step for r in reader.checkpoints("omega")] == [10]


def test_an_unknown_experiment_is_told_with_the_store_and_those_there(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {}, name="exp-3")
    assert reader.find_experiment("exp-3") == "exp-3"
    assert reader.find_experiment("1") == "exp-3"  # by id, where no experiment has that name
    with pytest.raises(InputError, match=r"with space/mlflow\.db: no experiment 'exp-4'.*exp-3"):
        reader.find_experiment("exp-4")
    with pytest.raises(InputError, match="no scored checkpoint in experiment 'exp-3'"):
        reader.best_checkpoint("exp-3")
    with pytest.raises(InputError, match="no sweep in experiment 'Default'"):
        reader.checkpoints("Default")
    with pytest.raises(InputError, match="no sweep 'abc' in experiment 'exp-3'"):
        reader.config_of("exp-3", "abc")
    with pytest.raises(InputError, match=r"models:/m-1: .*not found"):
        reader.model("m-1")


def test_a_checkpoint_is_had_by_its_content(tracker: Tracker, reader: MlflowReader, ledger: Ledger):
    sweep = sweep_id(show_sweep(tracker, ledger, {"k1": [0.3, 0.7]}))
    assert reader.download_content("omega", sweep, sha_of("k11")).read_text() == "weights k11"
    with pytest.raises(InputError, match="no checkpoint k19 in sweep"):
        reader.download_content("omega", sweep, "k19")


def test_a_file_in_the_store_that_is_not_the_one_logged_is_refused(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    show_sweep(tracker, ledger, {"k1": [0.3]})
    best = reader.best_checkpoint("omega")
    file = reader.download(best)
    file.write_text("weights k12")
    with pytest.raises(InputError, match=rf"{file}: corrupt: .*the tag vos\.sha256 of {best.name}"):
        reader.download(best)
    file.write_text("")
    with pytest.raises(InputError, match=r"empty, 0 bytes; take the file from"):
        reader.download(best)


@pytest.mark.parametrize("best_first", [True, False])
def test_mlflow_itself_sorts_checkpoints_by_their_score(
    tracker: Tracker, ledger: Ledger, best_first: bool
):
    """By the search of its models; its page has no such order. Unlike metrics, tags are text."""
    show_sweep(tracker, ledger, {"k1": [0.3, 0.9], "k2": [0.5, 0.05]})
    (experiment,) = tracker.connection.client.search_experiments(filter_string="name = 'omega'")
    models = tracker.connection.client.search_logged_models(
        [experiment.experiment_id],
        filter_string="metrics.`select/jf` > 0.1 AND tags.`vos.role` = 'trial'",
        order_by=[{"field_name": "metrics.select/jf", "ascending": not best_first}],
    )
    scores = [next(m.value for m in model.metrics if m.key == "select/jf") for model in models]
    assert scores == sorted([0.9, 0.5, 0.3], reverse=best_first)
