"""Test which exports are made and compared, with exports, scores and times written down here."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.data import DataConfig
from orchestrator.execution import export_rows as module
from orchestrator.execution.export_rows import ExportRow, bounded, choices, export_rows
from tests.export.graphs import run_in_torch, saved
from tests.model_tools import filled
from vosmodels.errors import InputError
from vosmodels.evaluation.speed.timing import Speed
from vosmodels.export.folder import Request
from vosmodels.export.sidecar import Measured, read
from vosmodels.memory_rule import MemoryRule

RULES = [MemoryRule.of(text) for text in ("first", "first,last,allx5", "first,last")]
DATA = DataConfig(root="generated", leave_out=tuple(f"generated-val-{n:02d}" for n in range(1, 12)))


def test_every_memory_is_exported_whole_and_the_last_one_in_all_precisions():
    names = [choice.name for choice in choices(RULES, ["fp32", "fp16", "int8"])]
    assert names == [
        *("first-fp32", "first-last-allx5-fp32", "first-last-fp32"),
        *("first-last-fp16", "first-last-int8"),
    ]


@pytest.mark.parametrize("frames", [1, 5, 24, 61])
@pytest.mark.parametrize("text", ["all", "first,last,allx5", "first,allx3", "first,last,2x5"])
def test_a_memory_with_room_for_the_longest_video_forgets_nothing_of_it(text: str, frames: int):
    rule = MemoryRule.of(text)
    room = bounded(rule, frames)
    assert room.frames is not None
    assert room.after(frames - 1) == min(rule.after(frames - 1), room.frames)
    assert room.frames >= rule.after(frames - 1) or rule.frames is not None


@pytest.mark.parametrize(
    ("jf", "fp32", "warned"),
    [(0.7, None, False), (0.7, 0.704, False), (0.7, 0.71, True), (0.8, 0.7, False)],
)
def test_a_precision_that_loses_more_than_five_thousandths_says_so(jf, fp32, warned):
    measured = Measured.of("val", 3, jf, fp32)
    assert (measured.warning is not None) == warned
    if warned:
        assert measured.warning == "J&F 0.010 below that of float32 weights, 0.700 for 0.710"


def test_rows_are_made_once_compared_with_fp32_and_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run_in_torch(monkeypatch)
    timed = []

    def quick(folder: Path, **settings: Any) -> Speed:
        timed.append((folder.name, settings))
        return Speed(10.0, 12.0, 100.0, 3.5, 1, "x", "32x48", 4, 1, "fp32")

    monkeypatch.setattr(module, "measure_folder", quick)
    file = saved(filled("mobilevos_mobilenetv2_noaspp"), tmp_path / "checkpoints")
    wanted = choices([MemoryRule.of("first,last")], ["fp32", "int8"])

    def rows(done: list[ExportRow], objects: int = 3) -> list[ExportRow]:
        return list(
            export_rows(
                file, Request(32, 48, objects), wanted, DATA, "val", tmp_path, frames=4, threads=1,
                done=done,
            )
        )  # fmt: skip

    first = rows([])
    assert [row.folder for row in first] == ["first-last-fp32", "first-last-int8"]
    assert [name for name, _ in timed] == [row.folder for row in first]
    assert {**timed[0][1]} == {"objects": 1, "frames": 4, "threads": 1}
    assert all(0 <= row.jf <= 1 and list(row.videos) == ["generated-val-00"] for row in first)
    assert rows([ExportRow(**asdict(row)) for row in first]) == first
    assert len(timed) == 2
    with pytest.raises(InputError, match=r"3 objects, .*: give --objects 3"):
        rows([], objects=2)
    noted = read(tmp_path / "first-last-int8").measured
    assert noted == Measured.of("val", 1, first[1].jf, first[0].jf)
