"""Test in which type `train.amp: auto` trains, and what is said of a type that is emulated."""

import json
from pathlib import Path

import pytest
import torch

from orchestrator.config import SweepConfig
from orchestrator.execution.precision import emulated, precision_of
from orchestrator.planning.plan import plan_sweep
from orchestrator.tracking.storage import Storage
from vosmodels.support import processor


def sweep(amp="auto", cluster=None, parameters=None):
    return SweepConfig.model_validate(
        {
            "name": "any",
            "train": {"amp": amp},
            "cluster": cluster or {},
            "sweep": {"parameters": parameters or {"loss.omega": [0.0, 1.0]}},
        }
    )


@pytest.fixture
def knows(monkeypatch):
    def set_to(answer):
        monkeypatch.setattr(processor, "multiplies", lambda dtype: answer)

    return set_to


def flags():
    """Instructions of the processor as the kernel lists them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        word for line in lines if line.startswith(("flags", "Features")) for word in line.split()
    }


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the kernel lists no instructions")
def test_a_processor_multiplies_bfloat16_where_the_kernel_lists_instructions_for_it():
    listed = flags() & {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}
    assert processor.multiplies(torch.bfloat16) == bool(listed)


@pytest.mark.parametrize(
    ("answer", "cluster", "expected"),
    [
        (True, {}, "bfloat16"),
        (False, {}, "off"),
        (False, {"address": "127.0.0.1:6379", "gpus_per_worker": 0.5}, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_where_it_is_multiplied(tmp_path, knows, answer, cluster, expected):
    knows(answer)
    assert precision_of(sweep(cluster=cluster), Storage(tmp_path), "s1") == expected


@pytest.mark.parametrize(("record", "expected"), [({"amp": "off"}, "off"), ({}, "auto")])
def test_a_sweep_keeps_the_type_of_its_first_run(tmp_path, knows, record, expected):
    """One from before there was a choice on CPUs keeps `auto`, and so its keys."""
    knows(True)
    path = tmp_path / "sweeps" / "s1.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"threads": 1, **record}))
    assert precision_of(sweep(), Storage(tmp_path), "s1") == expected


def test_the_type_is_in_the_key_and_the_configuration_of_every_job():
    def jobs(config, precision):
        return plan_sweep(config, "s1", 1, precision).jobs

    decided, said = jobs(sweep(), "bfloat16"), jobs(sweep(amp="bfloat16"), "off")
    assert {job.config.train.amp for job in decided} == {"bfloat16"}
    assert {stage.train.amp for job in decided for stage in job.stages} == {"bfloat16"}
    assert [job.key for job in decided] == [job.key for job in said]
    assert not {job.key for job in decided} & {job.key for job in jobs(sweep(), "off")}


def test_a_swept_auto_is_decided_too():
    config = sweep(parameters={"train.amp": ["auto", "off"]})
    trials = plan_sweep(config, "s1", 1, "bfloat16").trials
    assert [job.config.train.amp for job in trials] == ["bfloat16", "off"]


def test_a_type_that_is_emulated_is_named_with_what_it_costs(knows, monkeypatch):
    knows(False)
    monkeypatch.setattr(processor, "slowdown", lambda dtype: 9.74)
    (line,) = emulated(sweep(amp="bfloat16"))
    assert line.startswith("train.amp bfloat16: ")
    assert "takes 9.7 times as long as in float32; take train.amp=auto" in line
    assert not emulated(sweep())
    assert not emulated(sweep(amp="bfloat16", cluster={"gpus_per_worker": 1}))
    knows(True)
    assert not emulated(sweep(amp="bfloat16"))


def test_the_cost_of_a_type_is_measured_against_float32():
    assert processor.slowdown(torch.float32) == pytest.approx(1, rel=0.9)
