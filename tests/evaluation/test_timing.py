"""Test the parts of a speed measurement."""

import mmap
from typing import Any

import pytest
import torch
from torch import Tensor

from vosmodels import registry
from vosmodels.evaluation.speed.timing import ProcessPeak, device_name, measure, warn_of_other_work
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel

STUDENT = "mobilevos_mobilenetv2_noaspp"


@pytest.fixture(scope="module")
def student() -> VideoModel:
    return registry.build(STUDENT, seed=0)


def test_frames_a_second_are_frames_over_all_their_seconds(
    monkeypatch: pytest.MonkeyPatch, student: VideoModel
):
    ticks = iter(range(0, 10_000, 5))  # every clock reading is 5 s after the last
    monkeypatch.setattr(
        "vosmodels.evaluation.speed.timing.time.perf_counter", lambda: float(next(ticks))
    )
    found = measure(student, size=(32, 48), frames=4)
    assert found.fps == pytest.approx(1 / 5)
    assert (found.median_ms, found.p95_ms) == (5000, 5000)


def test_the_model_that_is_timed_stays_as_it_was(student: VideoModel):
    before = {key: value.clone() for key, value in student.state_dict().items()}
    measure(student, size=(32, 48), frames=1, precision="bf16")
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_the_peak_is_memory_above_the_start():
    size = 64 * 2**20
    with ProcessPeak() as watch, mmap.mmap(-1, size) as block:  # new pages, whatever was freed
        for page in range(0, size, mmap.PAGESIZE):
            block[page] = 1
        watch.look()
    assert size * 0.95 < watch.peak < size * 1.3


@pytest.mark.parametrize(("queue", "untimed"), [(2, 3), (5, 5), ("all", 3)])
def test_the_clock_starts_when_the_queue_is_full(
    monkeypatch: pytest.MonkeyPatch, student: VideoModel, queue: Any, untimed: int
):
    held: list[int] = []
    real = VideoSegmenter.step

    def step(self: VideoSegmenter, frame: Tensor, mask: Tensor | None = None) -> Tensor:
        answer = real(self, frame, mask)
        held.append(len(self.state.banks[0].key))
        return answer

    monkeypatch.setattr(VideoSegmenter, "step", step)
    measure(student, size=(32, 48), frames=2, queue=queue, mem_every=1)
    assert len(held) == 1 + untimed + 2  # the given frame, the warm-up, the timed ones
    if queue != "all":
        assert held[untimed] == queue  # memory before the first timed frame


def test_a_memory_is_as_full_as_its_rule_lets_it_be_when_the_timing_starts(
    student: VideoModel, monkeypatch: pytest.MonkeyPatch
):
    held: list[int] = []
    step = VideoSegmenter.step

    def counted(self: VideoSegmenter, *args: Any, **options: Any) -> Any:
        answer = step(self, *args, **options)
        held.append(len(self.state.banks[0].key))
        return answer

    monkeypatch.setattr(VideoSegmenter, "step", counted)
    measure(student, size=(32, 48), frames=3, memory=MemoryRule.of("first,last,2x3"))
    assert set(held[-3:]) == {4}


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [False, True])
def test_a_gpu_is_timed_in_half_precision(student: VideoModel, graph: bool):
    found = measure(student, size=(64, 96), frames=3, device="cuda", precision="bf16", graph=graph)
    assert found.device == torch.cuda.get_device_name("cuda")
    assert 0 < found.median_ms <= found.p95_ms
    assert found.peak_mib > 0


def test_a_device_has_one_thread_or_several_threads():
    torch.set_num_threads(1)
    assert device_name("cpu").endswith(", 1 thread")
    torch.set_num_threads(2)
    assert device_name("cpu").endswith(", 2 threads")


@pytest.mark.parametrize(
    ("percent", "threads", "told"),
    [
        (5.0, 4, None),
        (50.0, 2, None),
        (50.0, 3, "other work keeps 2.0 of 4 cores busy, and the model is timed on 3 threads:"),
        (90.0, 1, "other work keeps 3.6 of 4 cores busy, and the model is timed on 1 thread:"),
    ],
)
def test_other_work_is_told_where_it_takes_cores_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    percent: float,
    threads: int,
    told: str | None,
):
    monkeypatch.setattr("psutil.cpu_count", lambda: 4)
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: percent)
    warn_of_other_work(threads)
    assert (told or "") in caplog.text
    assert bool(told) == bool(caplog.text)
