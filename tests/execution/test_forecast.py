"""Test what a forecast makes of the times that it measures."""

import pytest

from orchestrator.config import SweepConfig
from orchestrator.config.content_key import sweep_id
from orchestrator.execution import forecast
from orchestrator.planning.datasets import sequences
from orchestrator.planning.paths import located
from orchestrator.planning.placement import Placement
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.storage import Storage


@pytest.mark.parametrize(
    ("students", "at_once", "seconds"),
    [
        (1, 1, 4 * 50 * (1.0 + 0.25)),  # four trials of 50 steps, one after the other
        (1, 2, 2 * 50 * (1.0 + 0.25)),
        (2, 2, 50 * (1.0 + 2 * 0.25)),
        (4, 1, 50 * (1.0 + 4 * 0.25)),
    ],
)
def test_trials_in_lockstep_count_once_what_they_share(
    monkeypatch, tmp_path, students, at_once, seconds
):
    monkeypatch.setattr(forecast, "step_seconds", lambda job, train, students: 1 + 0.25 * students)
    monkeypatch.setattr(forecast, "pixel_seconds", lambda job, model: 0.0)
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": "generated"},
            "teacher": {"steps": 10},
            "stem": {"steps": 20},
            "train": {"steps": 50},
            "sweep": {"parameters": {"loss.omega": [0.0, 0.3, 0.6, 1.0]}},
        }
    )
    plan = plan_sweep(located(config), sweep_id(config), threads=1)
    place = Placement(at_once, 1, 1, 0)
    told = forecast.forecast(plan, config, Storage(tmp_path), place, students=students).seconds
    assert told["trial"] == pytest.approx(seconds)
    assert told["teacher"] == pytest.approx(10 * 1.25)  # trains alone
    assert told["stem"] == pytest.approx(20 * 1.25)


def test_a_step_of_more_students_takes_longer(tmp_path):
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "student": {"name": "mobilevos_mobilenetv2_noaspp"},
            "train": {"steps": 50, "batch_size": 1, "clip_length": 2, "crop": 32},
            "sweep": {"parameters": {"loss.omega": [0.0]}},
        }
    )
    (job,) = plan_sweep(located(config), sweep_id(config), threads=1).trials
    (stage,) = job.stages
    one, many = (forecast.step_seconds(job, stage.train, count) for count in (1, 1000))
    assert 0 < one < many < 1000 * 100 * one


@pytest.mark.parametrize(("checkpoint_every", "checkpoints"), [(50, 1), (25, 2)])
def test_the_barriers_of_a_soup_of_all_are_forecast_on_64_frames(
    monkeypatch, tmp_path, checkpoint_every, checkpoints
):
    """A second a frame: each checkpoint alone, and halfway to the best if it is another."""
    frame = 240 * 432  # of a generated video
    monkeypatch.setattr(forecast, "step_seconds", lambda job, train, students: 0.0)
    monkeypatch.setattr(forecast, "pixel_seconds", lambda job, model: 1 / frame)
    config = SweepConfig.model_validate(
        {
            "name": "tiny",
            "data": {"root": "generated", "select_stride": 1},
            "train": {"steps": 50, "checkpoint_every": checkpoint_every},
            "sweep": {"parameters": {"loss.omega": [0.0]}},
        }
    )
    plan = plan_sweep(located(config), sweep_id(config), threads=1)
    told = forecast.forecast(plan, config, Storage(tmp_path), Placement(1, 1, 1, 0)).seconds
    videos = sequences(config.data, "val")
    pixels = sum(len(video) * video.mask(0).size for video in videos)
    frames = sum(map(len, videos))
    assert frames > 64
    assert told["soup"] == pytest.approx(checkpoints * pixels / frame)
    barriers = (1 + 2) * pixels / frame * 64 / frames if checkpoints == 2 else None
    assert told.get("barriers") == (barriers and pytest.approx(barriers))
