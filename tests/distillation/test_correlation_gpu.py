"""Test the GPU benchmark of the correlation loss, as far as a CPU can."""

import json

import pytest
import torch

from tests.benchmarks import correlation_gpu
from tests.benchmarks.rounds import Timing


def test_both_candidates_give_the_exact_gradient_up_to_bfloat16():
    steps = correlation_gpu.candidates("cpu", 600)
    exact = steps.pop("exact")()
    assert set(steps) == {"dense bf16", "tiled bf16"}
    for run in steps.values():
        turned = (run() - exact).norm() / exact.norm()
        assert 0 < turned < correlation_gpu.ROUNDED


@pytest.mark.parametrize(
    ("wall", "mib", "holds"),
    [((2.0, 1.0), (900.0, 80.0), [True, True]), ((1.0, 2.0), (80.0, 95.0), [False, False])],
)
def test_the_claims_are_time_by_the_wall_clock_and_memory(wall, mib, holds):
    names = ("dense bf16", "tiled bf16")
    timings = {name: Timing([9.0], [seconds]) for name, seconds in zip(names, wall, strict=True)}
    made = correlation_gpu.claims(timings, dict(zip(names, mib, strict=True)))
    assert [claim.holds for claim in made] == holds
    assert made[0].value == wall[0] / wall[1]


def test_without_a_gpu_the_command_says_which_one_to_run(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as exit_:
        correlation_gpu.main([])
    assert exit_.value.code == 2
    assert "tests.benchmarks.correlation" in capsys.readouterr().err


@pytest.mark.gpu
def test_the_benchmark_runs_to_its_end_on_a_gpu(tmp_path):
    out = tmp_path / "made.json"
    correlation_gpu.main(["--rounds", "2", "--out", str(out)])
    assert len(json.loads(out.read_text())["claims"]) == 2
