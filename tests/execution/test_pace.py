"""Test how far jobs are said to be, and how long they are said to take."""

import pytest

from orchestrator.execution.pace import (
    HEAD,
    Counted,
    JobPace,
    Total,
    duration,
    fitting,
    scored_at,
)
from orchestrator.planning.datasets import staged
from orchestrator.planning.plan import Job
from orchestrator.tracking.events import (
    Checkpoint,
    Done,
    Evaluated,
    Losses,
    Segmented,
    Speed,
    Started,
)
from orchestrator.tracking.ledger import Ledger
from tests.stores import sweep_config, trial_job


def job_of(config, key, role="trial", **train):
    config = config.model_copy(update={"train": config.train.model_copy(update=train)})
    return Job(role, key, f"job {key}", config, staged(config), config.loss, 1, "sweep")


@pytest.fixture
def pace(ledger):
    """A trial of 100 steps that is scored every 50, and what writes lines of its process."""
    config = sweep_config(ledger.storage)
    record, started = trial_job(ledger, config, 0, "k1")
    trial = job_of(config, "k1", steps=100, checkpoint_every=50, eval_every=50, batch_size=4)

    def write(*lines):
        with record.claim():
            for line in lines:
                record.write(line)

    write(started)
    return JobPace(trial, Ledger(ledger.storage).job("k1"), {}), write


def cells(pace, now):
    pace.update(now)
    return dict(zip(HEAD, pace.cells(now), strict=True))


def test_a_row_has_step_loss_score_speed_and_time_left(pace):
    job, write = pace
    assert cells(job, 0.0)["state"] == "starting"
    write(Losses(10, {"total": 0.51}), Speed(10, {"samples_per_s": 8.0, "data_wait": 0.25}))
    write(Evaluated(50, {"j": 0.6, "f": 0.8, "jf": 0.7}), Losses(60, {"total": 0.25}))
    row = cells(job, 1.0)
    assert row == {
        "job": "job k1",
        "state": "training",
        "step": "60/100",
        "loss": "0.25",
        "J&F": "0.700",
        "steps/s": "2.00",  # 8 samples a second, 4 a step
        "data": "25%",
        "left": "20 s",  # 40 steps
    }


def test_scoring_is_a_state_whose_time_is_told_by_the_scoring_before(pace):
    job, write = pace
    write(Losses(50, {"total": 1.0}), Speed(50, {"samples_per_s": 8.0, "data_wait": 0.0}))
    assert cells(job, 100.0)["state"] == "scoring"
    assert cells(job, 110.0)["left"] == ""  # the first scoring: nobody knows
    write(Checkpoint(50, "a", "a", {"j": 0.5, "f": 0.5, "jf": 0.5}))
    row = cells(job, 130.0)
    assert (row["state"], row["left"]) == ("training", "55 s")  # 50 steps, and 30 s of scoring
    write(Losses(100, {"total": 1.0}))
    assert (cells(job, 155.0)["state"], cells(job, 165.0)["left"]) == ("scoring", "20 s")
    write(Checkpoint(100, "b", "b", {"j": 0.4, "f": 0.4, "jf": 0.4}), Done(12.0))
    row = cells(job, 190.0)
    assert (row["state"], row["J&F"], row["left"]) == ("done", "0.500", "took 12 s")


def test_a_teacher_that_segments_videos_is_seen_before_the_first_step(pace):
    job, write = pace
    write(Segmented(1, 3), Segmented(2, 3))
    row = cells(job, 0.0)
    assert (row["state"], row["step"]) == ("labels", "masks 2/3")


def test_a_trial_is_scored_where_it_says_so_and_a_stem_at_the_end_of_its_stages(ledger):
    config = sweep_config(ledger.storage)
    train = {"steps": 50, "checkpoint_every": 20, "eval_every": 15}
    assert scored_at(job_of(config, "a", **train)) == [15, 20, 30, 40, 45, 50]
    assert scored_at(job_of(config, "b", "stem", **train)) == [50]


def test_trials_that_are_still_to_be_asked_for_count_their_own_steps(ledger):
    config = sweep_config(ledger.storage)
    stem = JobPace(job_of(config, "stem", "stem", steps=400), ledger.job("stem"), {})
    assert Total(trials=[80] * 10).of([stem], 0.0)[1] == 400 + 10 * 80
    assert Total(trials=[80] * 10).cells([stem], 0.0)[1] == "0/11 done"


def test_the_steps_of_all_jobs_have_one_total(ledger):
    config = sweep_config(ledger.storage)
    paces: list[JobPace] = []
    for key in ("k1", "k2", "k3"):
        paces.append(JobPace(job_of(config, key, steps=100), ledger.job(key), {}))
    total = Total(trials=[100] * 4)  # of which a search has asked for three
    assert total.of(paces, 5.0) == (0, 400, None)
    writers = [Ledger(ledger.storage).job(key) for key in ("k1", "k2", "k3")]
    with writers[0].claim():
        writers[0].write(Started("trial", "t", "s", {}))
    paces[0].update(10.0)
    assert total.of(paces, 10.0) == (0, 400, None)
    with writers[0].claim():
        writers[0].write(Losses(50, {"total": 1.0}))
    paces[0].update(20.0)
    done, steps, left_s = total.of(paces, 20.0)
    assert (done, steps) == (50, 400)
    assert left_s == pytest.approx(70.0)  # 5 steps a second
    assert total.cells(paces, 20.0)[:3] == ("all", "0/4 done", "50/400")


def test_what_is_counted_has_a_time_left_from_its_first_part_on():
    work = Counted("rows", "frames", began=100.0, of=50)
    assert work.cells(110.0) == ("rows", "scoring", "0/50 frames", "", "", "", "", "")
    work.done = 10
    assert work.cells(110.0)[-1] == "40 s"
    work.done = 50
    assert work.cells(160.0)[1:3] == ("done", "50/50 frames")


def test_a_small_screen_shows_the_jobs_at_work_and_counts_the_others():
    states = ["done"] * 4 + ["failed", "training", "done", "scoring"] + ["waiting"] * 5
    rows = [(f"job {n}", state, *[""] * 6) for n, state in enumerate(states)]
    assert fitting(rows, 13) == rows
    *shown, more = fitting(rows, 7)
    assert [row[0] for row in shown] == ["job 2", "job 3", "job 4", "job 5", "job 6", "job 7"]
    assert more[:2] == ("and 7 more", "2 done, 5 waiting")
    assert [row[0] for row in fitting(rows, 3)[:-1]] == ["job 4", "job 5"]


def test_times_are_short():
    found = [duration(seconds) for seconds in (None, 99.4, 150.0, 3 * 3600.0)]
    assert found == ["", "99 s", "2 min", "3.0 h"]
