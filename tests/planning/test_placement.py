"""Test placement on resources given as numbers."""

import dataclasses

import pytest

from orchestrator.planning import placement
from orchestrator.planning.placement import Placement, place, scorers
from vosmodels.errors import InputError

LAPTOP = [{"CPU": 2.0}]
H200S = [{"CPU": 128.0, "GPU": 8.0}] * 2


@pytest.mark.parametrize(
    ("cores", "threads", "seconds", "expected"),
    [(2, 1, 119.0, 1), (2, 1, 121.0, 2), (2, 2, 1e6, 1), (7, 2, 1e6, 3), (64, 1, 1e6, 8)],
)
def test_long_scoring_is_shared_by_the_processes_that_the_cores_have_threads_for(
    monkeypatch, cores, threads, seconds, expected
):
    monkeypatch.setattr(placement, "cores", lambda: cores)
    assert scorers(seconds, threads) == expected


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


def test_a_job_that_fits_on_a_node_leaves_its_workers_room_to_share_it():
    """With 32 threads each, which two nodes would have, no node holds the eight workers."""
    placed = place(H200S, jobs=1, workers=8, gpus_per_worker=1)
    assert placed.threads == 16
    assert slots_of(placed, H200S) == [8, 8]


def test_quarter_gpus_of_worker_groups_stay_on_a_node():
    nodes = [{"CPU": 32.0, "GPU": 1.0}] * 3
    assert place(nodes, jobs=9, workers=2, gpus_per_worker=0.25) == Placement(6, 2, 8, 0.25)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("gpus", [0, 0.5, 1])
@pytest.mark.parametrize(
    "nodes",
    [
        [{"CPU": 10.0, "GPU": 5.0}, {"CPU": 10.0, "GPU": 1.0}],
        [{"CPU": 3.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 8.0}],
        [{"CPU": 0.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 7.0, "GPU": 2.0}],
    ],
)
def test_all_jobs_at_once_find_room_on_unequal_nodes(nodes, gpus, workers):
    """Placed one by one on what is left, as Ray does; the next thread per worker has no room."""
    for jobs in range(1, 40):
        placed = place(nodes, jobs=jobs, workers=workers, gpus_per_worker=gpus)
        groups = [n // workers for n in slots_of(placed, nodes)]
        assert sum(groups) >= placed.at_once
        more = dataclasses.replace(placed, threads=placed.threads + 1)
        assert sum(n // workers for n in slots_of(more, nodes)) < placed.at_once


def slots_of(placed, nodes):
    """Return how many workers each node takes, one after the other."""
    counts = []
    for node in nodes:
        cpus, devices = node["CPU"], [1.0] * int(node.get("GPU", 0))
        count = 0
        while cpus >= placed.threads:
            if placed.gpus:
                free = [n for n, left in enumerate(devices) if left >= placed.gpus]
                if not free:
                    break
                devices[free[0]] -= placed.gpus
            cpus -= placed.threads
            count += 1
        counts.append(count)
    return counts


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


def test_a_refusal_counts_nodes_that_are_alike():
    with pytest.raises(InputError, match=r"needs 17 x \(1 CPU, 1 GPU\).* 2 x \(128 CPU 8 GPU\);"):
        place(H200S, jobs=1, workers=17, gpus_per_worker=1)


def test_one_and_a_half_gpus_are_refused():
    with pytest.raises(InputError, match=r"gpus_per_worker: 1\.5"):
        place(H200S, jobs=1, gpus_per_worker=1.5)
