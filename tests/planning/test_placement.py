"""Test placement on resources given as numbers."""

import pytest

from orchestrator.planning.placement import Placement, place
from vosmodels.errors import InputError

LAPTOP = [{"CPU": 2.0}]
H200S = [{"CPU": 128.0, "GPU": 8.0}] * 2


def test_two_cores_run_two_one_thread_trials():
    assert place(LAPTOP, jobs=4) == Placement(at_once=2, workers=1, threads=1, gpus=0)


def test_a_single_job_takes_every_core():
    assert place([{"CPU": 16.0}], jobs=1).threads == 16


def test_two_workers_on_two_cores_run_one_job():
    assert place(LAPTOP, jobs=4, workers=2) == Placement(1, 2, 1, 0)


def test_sixteen_cores_are_shared_by_four_trials():
    assert place([{"CPU": 16.0}], jobs=4) == Placement(4, 1, 4, 0)


def test_quarter_gpus_put_four_workers_on_each():
    assert place(H200S, jobs=100, gpus_per_worker=0.25) == Placement(64, 1, 4, 0.25)


def test_a_fraction_that_does_not_divide_a_gpu_is_floored_per_gpu_not_per_node():
    assert place([{"CPU": 64.0, "GPU": 2.0}], jobs=9, gpus_per_worker=0.6).at_once == 2


def test_whole_jobs_are_floored_per_node():
    nodes = [{"CPU": 16.0, "GPU": 3.0}] * 2
    assert place(nodes, jobs=9, workers=2, gpus_per_worker=1).at_once == 2


def test_a_job_larger_than_any_node_spreads():
    assert place(H200S, jobs=9, workers=16, gpus_per_worker=1) == Placement(1, 16, 16, 1)


def test_given_threads_limit_how_many_run_at_once():
    assert place([{"CPU": 16.0}], jobs=9, threads=6) == Placement(2, 1, 6, 0)


def test_a_node_without_gpus_runs_no_gpu_worker():
    nodes = [{"CPU": 64.0}, {"CPU": 8.0, "GPU": 1.0}]
    assert place(nodes, jobs=9, gpus_per_worker=1) == Placement(1, 1, 8, 1)


@pytest.mark.parametrize(
    ("nodes", "wants"),
    [(LAPTOP, {"workers": 3}), (LAPTOP, {"gpus_per_worker": 1}), (LAPTOP, {"threads": 3})],
)
def test_a_job_that_never_fits_is_refused_with_what_there_is(nodes, wants):
    with pytest.raises(InputError, match="the nodes have: 2 CPU 0 GPU"):
        place(nodes, jobs=1, **wants)


def test_one_and_a_half_gpus_are_refused():
    with pytest.raises(InputError, match=r"gpus_per_worker: 1\.5"):
        place(H200S, jobs=1, gpus_per_worker=1.5)
