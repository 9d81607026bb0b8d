"""Test the copy of the ledger in MLflow: complete, without duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.config.loading import resolve
from orchestrator.config.sections import SweepSection
from orchestrator.tracking import mlflow_names
from orchestrator.tracking.events import (
    Attention,
    Checkpoint,
    Done,
    Evaluated,
    Event,
    Failed,
    Gradients,
    Losses,
    Picture,
    Started,
    Usage,
    Warned,
)
from orchestrator.tracking.ledger import Ledger
from orchestrator.tracking.mlflow_names import flatten, run_page
from orchestrator.tracking.mlflow_reader import MlflowReader
from orchestrator.tracking.mlflow_store import Connection
from orchestrator.tracking.mlflow_writer import Tracker
from tests.full_disk import room
from tests.stores import (
    WARNING,
    checkpoint_of,
    contents,
    empty_tracker,
    finished_trial,
    sha_of,
    sweep_config,
    trial_job,
)
from vosmodels.errors import InputError

pytestmark = pytest.mark.filterwarnings(WARNING)


def again(tracker: Tracker) -> Tracker:
    """Another process's tracker of the same store."""
    return Tracker(Connection(tracker.store))


def test_a_finished_trial_is_shown_whole(tracker: Tracker, ledger: Ledger):
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config), "the: yaml")
    tracker.project(finished_trial(ledger, config, 1, "abcdefgh99", [0.3, 0.4]))
    shown = contents(tracker)
    run = shown["omega=1.0"]
    assert run["status"] == "FINISHED"
    assert run["parent"] == "omega: generated"
    assert run["params"]["loss.omega"] == "1.0"
    assert set(run["params"]) == set(
        flatten(resolve(config).model_dump(mode="json", exclude={"sweep"}))
    )
    assert run["history"]["train/loss_total"] == [(10, 1.0), (20, 0.5)]
    assert run["history"]["train/grad_norm"] == [(10, 2.0), (20, 2.0)]
    assert run["history"]["select/jf"] == [(10, 0.3), (20, 0.4)]
    assert run["history"]["usage/seconds"] == [(0, 5.0)]
    assert run["outputs"] == [("omega-1_0-step-10", 10), ("omega-1_0-step-20", 20)]
    assert shown["models"]["omega-1_0-step-20"] == {
        "status": "READY",
        "tags": {
            "vos.role": "trial",
            "vos.key": "abcdefgh99",
            "vos.step": "20",
            "vos.sha256": sha_of("abcdefgh992"),
            "vos.ancestor": "stem",
            f"vos.sweep.{sweep_id(config)}": "yes",
        },
        "run": "omega=1.0",
        "metrics": [
            ("select/f", pytest.approx(0.41), 20, "generated-val"),
            ("select/j", pytest.approx(0.39), 20, "generated-val"),
            ("select/jf", 0.4, 20, "generated-val"),
        ],
    }


def test_the_parent_has_the_config_without_swept_values_and_the_file(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    sweep = sweep_id(config)
    run_id = tracker.open_sweep(config, sweep, "the: yaml")
    assert tracker.open_sweep(config, sweep, "the: yaml") == run_id
    parent = contents(tracker)["omega: generated"]
    assert parent["status"] == "RUNNING"
    assert parent["params"]["loss.tau"] == "0.1"
    assert "loss.omega" not in parent["params"]
    assert {"config.json", "sweep.yaml"} <= set(parent["artifacts"])


def test_a_teacher_and_a_stem_have_no_point_in_a_chart_of_what_the_trials_vary(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config))
    record, started = trial_job(ledger, config, 0, "stem-key")
    with record.claim():
        record.write(replace(started, role="stem", name="stem"))
    tracker.project(record)
    params = contents(tracker)["stem"]["params"]
    assert "loss.omega" not in params
    assert params["loss.tau"] == "0.1"


def test_a_teachers_page_has_no_parameter_of_the_sweep_whatever_its_points_are_named(
    tracker: Tracker, ledger: Ledger
):
    run = RunConfig(name="omega", storage=str(ledger.storage))
    config = SweepConfig(
        **dict(run), sweep=SweepSection(points={"omega=0.0 & all": {"loss.omega": 0.0}})
    )
    tracker.open_sweep(config, sweep_id(config))
    record = ledger.job("teacher-key")
    whole = config.model_dump(mode="json")
    with record.claim():
        record.write(Started("teacher", "teacher", sweep_id(config), whole, experiment="omega"))
    tracker.project(record)
    params = contents(tracker)["teacher"]["params"]
    assert params["loss.tau"] == "0.1"
    assert not [key for key in params if key.startswith("sweep")]


def test_projecting_again_changes_nothing_in_this_process_or_another(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    tracker.project(job)
    before = contents(tracker)
    tracker.project(job)
    again(tracker).project(job)
    assert contents(tracker) == before


def test_a_job_without_a_new_line_asks_nothing_of_the_store(
    tracker: Tracker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config), "")
    record = finished_trial(ledger, config, 1, "k1", [0.3])
    tracker.project(record)
    monkeypatch.setattr(tracker, "_client", None)
    tracker.project(record)
    with record.claim():
        record.write(Losses(99, {"total": 0.1}))
    with pytest.raises(AttributeError):
        tracker.project(record)


def test_a_job_projected_as_it_grows_is_shown_like_one_projected_at_its_end(
    tracker: Tracker, ledger: Ledger, tmp_path: Path
):
    config = sweep_config(ledger.storage)
    job, started = trial_job(ledger, config, 0, "k1")
    events = [
        started,
        Losses(5, {"total": 1.0}),
        checkpoint_of(ledger.storage, 5, "a", 0.1),
        Evaluated(7, {"jf": 0.2}),
        Failed("killed"),
        started,  # goes on from step 5: steps are played again
        Losses(5, {"total": 9.0}),
        Losses(10, {"total": 0.5}),
        Gradients(10, {"ce_z": 2.0}),
        Warned(10, "loss.logit: too much"),
        checkpoint_of(ledger.storage, 10, "b", 0.3),
        Done(1.0),
    ]
    for number, event in enumerate(events):
        with job.claim():
            job.write(event)
        tracker = again(tracker) if number % 2 else tracker  # as after a restart
        tracker.project(job)
        offered = [
            r.step for r in MlflowReader(tracker.connection).checkpoints("omega", started.sweep)
        ]
        assert offered == [c.step for c in job.checkpoints()]
    other = empty_tracker(tmp_path / "other")
    other.project(job)
    grown, whole = contents(tracker), contents(other)
    tags = grown["omega=0.0"].pop("tags")
    assert tags["vos.error"] == "killed"
    for shown in (tags, whole["omega=0.0"].pop("tags")):
        assert shown["vos.warning"] == "loss.logit: too much"
    assert grown == whole
    assert grown["omega=0.0"]["history"]["train/loss_total"] == [(5, 1.0), (10, 0.5)]
    assert grown["omega=0.0"]["history"]["train_gradients/ce_z"] == [(10, 2.0)]


def dying_call(client: Any, step: str) -> Callable[..., None]:
    """Return a client method that kills the driver; of log_batch the one for a model."""
    real = getattr(client, step)

    def call(*args: Any, **batch: Any) -> None:
        if step == "log_batch" and not any(m.model_id for m in batch.get("metrics", ())):
            real(*args, **batch)
        else:
            raise ConnectionError("the driver died")

    return call


def test_a_checkpoint_half_shown_by_a_driver_that_died_is_completed(
    tracker: Tracker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    whole = empty_tracker(ledger.storage / "whole")
    whole.project(job)
    for step in ("log_model_artifact", "log_outputs", "log_batch", "finalize_logged_model"):
        dying = empty_tracker(ledger.storage / step)

        with monkeypatch.context() as patch:
            patch.setattr(dying._client, step, dying_call(dying._client, step))
            with pytest.raises(ConnectionError):
                dying.project(job)
        assert (
            MlflowReader(dying.connection).checkpoints("omega", sweep_id(config)) == []
        )  # nothing half-made is offered
        completed = again(dying)
        completed.project(job)
        assert contents(completed) == contents(whole), step


def test_a_failed_job_is_failed_with_its_error_and_runs_again_when_it_does(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    job, started = trial_job(ledger, config, 0, "k1")
    for event, status in ((started, "RUNNING"), (Failed("boom"), "FAILED"), (started, "RUNNING")):
        with job.claim():
            job.write(event)
        tracker.project(job)
        assert contents(tracker)["omega=0.0"]["status"] == status
    assert contents(tracker)["omega=0.0"]["tags"]["vos.error"] == "boom"


def test_runs_of_jobs_that_nobody_is_at_are_killed_and_others_left(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    dead, started = trial_job(ledger, config, 0, "dead")
    alive, other = trial_job(ledger, config, 1, "alive")
    with dead.claim():
        dead.write(started)
    with alive.claim():
        alive.write(other)
        for job in (dead, alive):
            tracker.project(job)
        assert tracker.kill_orphans(ledger, "omega") == ["dead"]
        shown = contents(tracker)
        assert (shown["omega=0.0"]["status"], shown["omega=1.0"]["status"]) == ("KILLED", "RUNNING")
    with dead.claim():
        dead.write(started)
        tracker.project(dead)
        assert contents(tracker)["omega=0.0"]["status"] == "RUNNING"


def test_a_later_sweep_tags_the_checkpoints_it_uses(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    first, second = sweep_config(ledger.storage), sweep_config(ledger.storage, seed=1)
    job = finished_trial(ledger, first, 0, "k1", [0.3])
    for config in (first, second):
        tracker.open_sweep(config, sweep_id(config))
        tracker.project(job, sweep_id(config))
    for config in (first, second):
        assert [r.key for r in reader.checkpoints("omega", sweep_id(config))] == ["k1"]
    assert sum(run.startswith("omega=") for run in contents(tracker)) == 1


def test_pictures_and_report_scores_are_shown(tracker: Tracker, ledger: Ledger):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    picture = ledger.storage / "pictures" / "0000010.png"
    picture.parent.mkdir()
    picture.write_bytes(b"png")
    picture.with_name("attention-0000010.png").write_bytes(b"png")
    with job.claim():
        job.write(Picture(10, "pictures/0000010.png"))
        job.write(Attention(10, "pictures/attention-0000010.png"))
        job.write(Evaluated(10, {"jf": 0.25, "fps": 30.0}, split="report"))
    for _ in range(2):
        tracker.project(job)
    run = contents(tracker)["omega=0.0"]
    pictures = ["images/0000010.png", "images/attention-0000010.png"]
    assert run["artifacts"] == ["images", *pictures]
    assert run["history"]["report/jf"] == [(10, 0.25)]
    assert run["history"]["speed/fps"] == [(10, 30.0)]
    assert run["status"] == "FINISHED"


def test_what_a_job_took_of_its_node_is_a_system_metric_at_the_time_of_its_measurement(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    with job.claim():
        job.write(Usage(10, 1234.5, {"cpu_utilization_percentage": 50.0}))
        job.write(Usage(20, 1244.5, {"cpu_utilization_percentage": 75.0}))
        job.write(Usage(20, 9999.0, {"cpu_utilization_percentage": 1.0}))  # played again
    for _ in range(2):
        again(tracker).project(job)
    (run,) = tracker.connection.runs("1", "tags.`vos.role` = 'trial'")
    history = tracker.connection.client.get_metric_history(
        run.info.run_id, "system/cpu_utilization_percentage"
    )
    assert sorted((m.step, m.value, m.timestamp) for m in history) == [
        (10, 50.0, 1234500),
        (20, 75.0, 1244500),
    ]


def test_a_copy_reads_each_event_once_and_a_quiet_job_costs_no_request(
    tracker: Tracker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    assert not tracker.has(job)
    tracker.project(job)
    assert tracker.has(job)
    seen: list[object] = []
    real = mlflow_names.metrics_of

    def noted(event: Event) -> Any:
        seen.append(event)
        return real(event)

    monkeypatch.setattr(mlflow_names, "metrics_of", noted)
    tracker.connection.client = tracker._client = None  # any request would be an error
    tracker.project(job)
    assert seen == []
    with job.claim():
        job.write(Warned(10, "told late"))
    assert not tracker.has(job)
    tracker.project(job)
    assert tracker.has(job)
    assert seen == [Warned(10, "told late")]


def test_a_new_checkpoint_tags_itself_and_none_of_those_before(
    tracker: Tracker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    config = sweep_config(ledger.storage)
    job, started = trial_job(ledger, config, 0, "k1")
    tagged = []
    real = tracker._client.set_logged_model_tags

    def noted(model_id: str, tags: dict[str, str]) -> None:
        tagged.append(tags)
        real(model_id, tags)

    monkeypatch.setattr(tracker._client, "set_logged_model_tags", noted)
    for step in (0, 10, 20, 30):
        with job.claim():
            job.write(checkpoint_of(ledger.storage, step, f"{step}", 0.1) if step else started)
        tracker.project(job, "other")
    both = {f"vos.sweep.{sweep}": "yes" for sweep in (sweep_id(config), "other")}
    assert tagged == [both] * 3


def test_a_ledger_that_was_set_aside_meanwhile_gets_a_run_of_its_own(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "key1", [0.9, 0.8])
    tracker.project(job)
    job.path.unlink()
    job, started = trial_job(ledger, config, 0, "key1")
    with job.claim():
        job.write(replace(started, time=2000.0))
    tracker.project(job)
    runs = tracker.connection.runs("1", "tags.`vos.key` = 'key1'")
    assert sorted(run.info.start_time for run in runs) == [1_000_000, 2_000_000]


def test_a_picture_of_which_the_store_has_a_part_is_copied_again_and_a_whole_one_is_kept(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    folder = ledger.storage / "pictures"
    folder.mkdir()
    for step, name in enumerate(("torn", "whole", "lost")):
        (folder / f"{name}.png").write_bytes(b"a picture")
        with job.claim():
            job.write(Picture(step, f"pictures/{name}.png"))
    tracker.project(job)
    (torn,) = ledger.storage.rglob("images/torn.png")
    (whole,) = ledger.storage.rglob("images/whole.png")
    torn.write_bytes(b"a pic")
    before = whole.stat().st_mtime_ns
    (folder / "lost.png").unlink()
    again(tracker).project(job)
    assert torn.read_bytes() == b"a picture"
    assert whole.stat().st_mtime_ns == before


def test_a_checkpoint_whose_file_is_gone_is_told(tracker: Tracker, ledger: Ledger):
    config = sweep_config(ledger.storage)
    job, started = trial_job(ledger, config, 0, "k1")
    with job.claim():
        job.write(started)
        job.write(Checkpoint(10, "x", "checkpoints/x.safetensors"))
    with pytest.raises(InputError, match=r"x\.safetensors: gone, but job k1 has it at step 10"):
        tracker.project(job)


def test_a_checkpoint_whose_file_is_corrupt_is_not_copied(
    tracker: Tracker, reader: MlflowReader, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config))
    job = finished_trial(ledger, config, 0, "k1", [0.3])
    path = ledger.storage / job.checkpoints()[0].path
    path.write_text("weights of another")
    with pytest.raises(InputError, match=rf"{path}: corrupt: .*{job.path}; put a sound copy"):
        tracker.project(job)
    assert reader.checkpoints("omega") == []
    path.write_text("weights k11")
    tracker.project(job)
    assert [record.step for record in reader.checkpoints("omega")] == [10]


def test_results_are_kept_on_the_parent_with_a_table_and_the_best_row(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    sweep = sweep_id(config)
    tracker.open_sweep(config, sweep)
    rows = [{"name": "omega=1.0", "role": "trial", "select": {"j": 0.1, "f": 0.3, "jf": 0.2}}]
    tracker.log_results("omega", sweep, {"rows": rows})
    tracker.log_best("omega", sweep, "omega=1.0", {"j": 0.1, "f": 0.3, "jf": 0.2})
    tracker.describe("omega", sweep, "omega: generated, best omega=1.0", "x" * 9000)
    tracker.close_sweep("omega", sweep)
    tracker.open_sweep(config, sweep)  # keeps its name
    tracker.close_sweep("omega", sweep)
    parent = contents(tracker)["omega: generated, best omega=1.0"]
    assert parent["status"] == "FINISHED"
    assert parent["tags"]["vos.best"] == "omega=1.0"
    assert parent["history"]["best/jf"] == [(0, 0.2)]
    assert {"results.json", "table.csv"} <= set(parent["artifacts"])
    (run,) = tracker.connection.sweeps("1", sweep)
    assert run.data.tags["mlflow.note.content"] == "x" * 8000  # all that MLflow takes


def test_pages_are_those_of_the_experiment_and_of_the_jobs_that_were_copied(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    sweep = sweep_id(config)
    parent = tracker.open_sweep(config, sweep)
    tracker.project(finished_trial(ledger, config, 1, "k1", [0.3]))
    pages = tracker.pages("omega", sweep)
    (trial,) = tracker.connection.runs("1", "tags.`vos.role` = 'trial'")
    assert pages.jobs == {"k1": run_page("1", trial.info.run_id)}
    assert pages.artifacts == f"get-artifact?run_uuid={parent}&path=table/"
    assert pages.runs.startswith("#/experiments/1/runs?workflowType=machine_learning")
    tags = tracker.connection.client.get_experiment("1").tags
    key = pages.runs.rpartition("viewStateShareKey=")[2]
    assert "params.`loss.omega`" in tags[f"mlflow.sharedViewState.{key}"]


def test_the_same_sweep_on_another_cluster_keeps_its_parent(tracker: Tracker, ledger: Ledger):
    config = sweep_config(ledger.storage)
    first = tracker.open_sweep(config, sweep_id(config))
    elsewhere = config.model_copy(
        update={
            "cluster": config.cluster.model_copy(update={"threads": 7}),
            "storage": str(ledger.storage / "moved"),
        }
    )
    assert sweep_id(elsewhere) == sweep_id(config)
    assert again(tracker).open_sweep(elsewhere, sweep_id(elsewhere)) == first
    kept = MlflowReader(tracker.connection).config_of("omega", sweep_id(config))
    assert kept.cluster.threads == 7


def test_a_deleted_experiment_is_told_with_how_to_get_it_back(tracker: Tracker, ledger: Ledger):
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config))
    tracker.connection.client.delete_experiment("1")
    with pytest.raises(InputError, match=r"'omega' was deleted.*mlflow experiments restore -x 1"):
        again(tracker).open_sweep(config, sweep_id(config))


def test_a_job_that_is_trained_again_gets_a_run_of_its_own_and_the_earlier_one_stays(
    tracker: Tracker, ledger: Ledger, reader: MlflowReader
):
    """Its ledger was set aside. The models of before stay, and no sweep takes them any more."""
    config = sweep_config(ledger.storage)
    sweep = sweep_id(config)
    tracker.open_sweep(config, sweep)
    job = finished_trial(ledger, config, 0, "key1", [0.9])
    tracker.project(job, "borrower")
    before = job.path.read_bytes()
    job.path.rename(job.path.with_name("key1.jsonl.20260101T000000"))
    job, started = trial_job(ledger, config, 0, "key1")
    with job.claim():
        job.write(replace(started, time=2000.0))
        job.write(checkpoint_of(ledger.storage, 10, "another", 0.4))
        job.write(Done(1.0))
    for _ in range(2):
        again(tracker).project(job)
    experiment = tracker.connection.experiment("omega").experiment_id
    runs = tracker.connection.runs(experiment, "tags.`vos.key` = 'key1'")
    earlier, later = sorted(runs, key=lambda run: run.info.start_time)
    assert [run.info.start_time for run in (earlier, later)] == [1_000_000, 2_000_000]
    assert earlier.data.tags["vos.replaced"] == later.info.run_id
    assert earlier.data.metrics["select/jf"] == 0.9
    assert later.data.metrics["select/jf"] == 0.4
    assert [r.sha256 for r in reader.checkpoints("omega", sweep)] == [sha_of("another")]
    assert reader.best_checkpoint("omega", sweep).scores["jf"] == 0.4
    models = tracker.connection.models(experiment)
    assert {model.tags["vos.sha256"] for model in models} == {sha_of("another"), sha_of("key11")}
    assert (job.path.with_name("key1.jsonl.20260101T000000")).read_bytes() == before


def test_of_two_storages_with_the_same_job_the_later_one_takes_nothing_back(
    tracker: Tracker, ledger: Ledger, tmp_path: Path, reader: MlflowReader
):
    """Copying the earlier one again changes nothing of the later one's run."""
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config))
    earlier = finished_trial(ledger, config, 0, "key1", [0.9])
    other, started = trial_job(Ledger(tmp_path / "other"), config, 0, "key1")
    (tmp_path / "other").mkdir()
    with other.claim():
        other.write(replace(started, time=2000.0))
        other.write(checkpoint_of(tmp_path / "other", 10, "another", 0.4))
        other.write(Done(1.0))
    for job in (other, earlier, other, earlier):
        again(tracker).project(job)
    assert sha_of("another") in {r.sha256 for r in reader.checkpoints("omega", sweep_id(config))}


def models_of(tracker: Tracker) -> list[Any]:
    return tracker.connection.models(tracker.connection.experiment("omega").experiment_id)


def test_a_disk_that_is_full_for_a_while_leaves_each_checkpoint_once(
    tracker: Tracker, ledger: Ledger
):
    config = sweep_config(ledger.storage)
    tracker.open_sweep(config, sweep_id(config))
    job = finished_trial(ledger, config, 0, "key1", [0.3])
    assert tracker.store.file is not None
    size = 2 * tracker.store.file.stat().st_size
    file = ledger.storage / job.checkpoints()[0].path
    content = bytes(2 * size)
    sha256 = hashlib.sha256(content).hexdigest()
    file.with_name(f"{sha256}.safetensors").write_bytes(content)
    with job.claim():
        job.write(Checkpoint(20, sha256, f"checkpoints/{sha256}.safetensors", {"jf": 0.5}))
    with room(size):
        for _ in range(2):  # two polls of the run that goes on
            with pytest.raises(OSError, match="too large"):
                tracker.project(job)
    assert {model.tags["vos.step"]: str(model.status) for model in models_of(tracker)} == {
        "10": "READY",
        "20": "PENDING",
    }
    tracker.project(job)
    assert sorted((model.tags["vos.step"], str(model.status)) for model in models_of(tracker)) == [
        ("10", "READY"),
        ("20", "READY"),
    ]


class Lossy:
    """A client of a store that does what it is told, and whose answer to a write is lost once."""

    def __init__(self, client: Any, number: int) -> None:
        self._client = client
        self.left = number  # writes before the one whose answer is lost

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def answered(*args: Any, **named: Any) -> Any:
            answer = call(*args, **named)
            self.left -= not name.startswith(("get_", "list_", "search_"))
            if self.left == -1:
                self.left -= 1
                raise ConnectionError(f"the answer to {name} is lost")
            return answer

        return answered


@pytest.mark.slow
def test_whichever_answer_of_the_store_is_lost_the_next_copy_adds_nothing_twice(
    tmp_path: Path,
):
    def copied(number: int) -> tuple[dict[str, Any], int]:
        storage = tmp_path / str(number)
        ledger, tracker = Ledger(storage), empty_tracker(storage)
        config = sweep_config(storage)
        tracker.open_sweep(config, sweep_id(config))
        job = finished_trial(ledger, config, 0, "key1", [0.3])
        client = Lossy(tracker.connection.client, number)
        tracker.connection.client = tracker._client = client
        if number < 1000:
            with pytest.raises(ConnectionError):
                tracker.project(job)
        tracker.project(job)
        assert len(models_of(tracker)) == 1
        experiment = tracker.connection.experiment("omega").experiment_id
        assert len(tracker.connection.runs(experiment, "")) == 2  # with the sweep's
        shown = contents(tracker)
        del shown["omega=0.0"]["params"]["storage"]
        return {key: shown[key] for key in ("omega=0.0", "models")}, 1000 - client.left

    expected, calls = copied(1000)
    assert calls > 5
    for number in range(calls):
        found, _ = copied(number)
        assert found == expected, number
