"""Time a model on random video and measure the memory of the run."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import torch
from torch import Tensor

from vosmodels.errors import InputError
from vosmodels.export.sidecar import open_folder
from vosmodels.inference.fold import for_inference
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.model import VideoModel
from vosmodels.support import provenance
from vosmodels.support.seeding import generator

logger = logging.getLogger(__name__)

WARM_UP = 3  # least frames before the timing starts; a longer queue is filled first
PICTURES = 8  # random frames, repeated in turn
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WATCH_S = 0.3  # seconds for which the machine's other work is watched
SLACK = 0.5  # cores' worth of other work that any machine has
SAMPLE_S = 0.005  # seconds between two samples of the process's memory


@dataclass(frozen=True)
class Speed:
    """The speed of a model on one video of random frames on one device.

    median_ms, p95_ms: time per predicted frame; fps: predicted frames / sum of their seconds;
    peak_mib: largest memory above the loaded model and the pictures, of the process (CPU) or of the
    device.
    """

    median_ms: float
    p95_ms: float
    fps: float
    peak_mib: float
    parameters: int
    device: str
    size: str
    frames: int
    objects: int
    precision: str


def _nothing() -> None:
    """Wait for nothing: a call on a CPU returns when its work is done."""


def random_video(height: int, width: int, objects: int) -> tuple[list[Tensor], Tensor]:
    """Draw PICTURES frames (3, H, W) and ids (H, W) of one vertical stripe per object."""
    rng = generator(0, "speed")
    frames = [torch.rand(3, height, width, generator=rng) for _ in range(PICTURES)]
    ids = torch.zeros(height, width, dtype=torch.int64)
    stripe = width // (2 * objects)
    for k in range(objects):
        x = 2 * k * stripe
        ids[height // 4 : 3 * height // 4, x : x + stripe] = k + 1
    return frames, ids


def measure(
    model: VideoModel,
    *,
    size: tuple[int, int],
    frames: int,
    objects: int = 1,
    device: str = "cpu",
    precision: str = "fp32",
    **options: Any,
) -> Speed:
    """Time `frames` predicted frames after a warm-up that fills the queue.

    size: (H, W) of the frames. The model is folded, put on the device and run by `VideoSegmenter`;
    the time to read frames is not counted. options: of the propagator.
    """
    ready = for_inference(model, dtype=DTYPES[precision]).to(device)
    pictures, ids = random_video(*size, objects)
    pictures = [picture.to(device) for picture in pictures]
    segmenter = VideoSegmenter(ready, **options)
    on_gpu = device.startswith("cuda")
    rule = options.get("memory") or model.memory
    queue = options.get("queue") or (rule.frames and rule.frames * rule.every)
    seconds, peak = _timed(
        segmenter.step,
        (pictures, ids),
        frames=frames,
        warm_up=max(WARM_UP, queue) if isinstance(queue, int) else WARM_UP,
        wait=partial(torch.cuda.synchronize, device) if on_gpu else _nothing,
        memory=DevicePeak(device) if on_gpu else ProcessPeak(),
    )
    return Speed(
        **_summed(seconds),
        peak_mib=peak / 2**20,
        parameters=parameters(model),
        device=device_name(device),
        size=f"{size[0]}x{size[1]}",
        frames=frames,
        objects=objects,
        precision=precision,
    )


def measure_exported(
    folder: Path, *, frames: int, objects: int = 1, threads: int | None = None
) -> Speed:
    """Time predicted frames of the graphs in an exported folder, as `measure` times a model.

    threads: as `Runner` takes them. Raises InputError as `open_folder`, and on more objects than
    the graphs have slots.
    """
    sidecar, runner = open_folder(folder, threads=threads)
    if objects > sidecar.objects:
        raise InputError(
            f"objects {objects}: the graphs of {folder} take {sidecar.objects} at most"
        )
    pictures, ids = random_video(*runner.size, objects)
    seconds, peak = _timed(
        runner.step,
        ([picture.numpy() for picture in pictures], ids.numpy()),
        frames=frames,
        warm_up=max(WARM_UP, sidecar.memory.frames * sidecar.memory.every),
    )
    processor, many = provenance.processor(), threads or psutil.cpu_count() or 1
    return Speed(
        **_summed(seconds),
        peak_mib=peak / 2**20,
        parameters=sidecar.checkpoint.parameters,
        device=f"{processor}, {many} thread{'s' * (many > 1)}, {sidecar.runtime}",
        size="{}x{}".format(*runner.size),
        frames=frames,
        objects=objects,
        precision=sidecar.precision,
    )


def _timed(
    step: Callable[..., object],
    video: tuple[Sequence[Any], Any],
    *,
    frames: int,
    warm_up: int,
    wait: Callable[[], object] = _nothing,
    memory: ProcessPeak | DevicePeak | None = None,
) -> tuple[list[float], int]:
    """Return the seconds of each step after the warm-up, and the peak of memory in bytes."""
    (pictures, ids), seconds = video, []
    memory = memory or ProcessPeak()
    with memory:
        step(pictures[0], ids)
        for index in range(1, warm_up + frames + 1):
            wait()
            start = time.perf_counter()
            step(pictures[index % PICTURES])
            wait()
            if index > warm_up:
                seconds.append(time.perf_counter() - start)
    return seconds, memory.peak


def _summed(seconds: Sequence[float]) -> dict[str, float]:
    """Return the figures of `Speed` that come from seconds."""
    return {
        "median_ms": 1000 * float(np.median(seconds)),
        "p95_ms": 1000 * float(np.percentile(seconds, 95)),
        "fps": len(seconds) / sum(seconds),
    }


def parameters(model: VideoModel) -> int:
    """Count the model's learnt numbers."""
    return sum(p.numel() for p in model.parameters())


def device_name(device: str) -> str:
    """Name the GPU, or the processor and the number of threads that torch uses."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{provenance.processor()}, {threads} thread{'s' * (threads > 1)}"


def warn_of_other_work(threads: int) -> None:
    """Log a warning if other work leaves too few cores to time on.

    threads: those of the model. Watches for WATCH_S, in which this process does nothing.
    """
    cores = psutil.cpu_count() or 1
    busy = psutil.cpu_percent(interval=WATCH_S) / 100 * cores
    if busy + threads >= cores + SLACK:
        logger.warning(
            "other work keeps %.1f of %d core%s busy, and the model is timed on %d thread%s: its "
            "times will be longer than on an idle machine; time again when that work is done",
            *(busy, cores, "s" * (cores > 1), threads, "s" * (threads > 1)),
        )


class ProcessPeak:
    """A context that records this process's peak resident memory, above that at entry."""

    def __enter__(self) -> Self:
        gc.collect()  # else a collection on the way takes from the peak what was garbage before
        self.peak = 0
        self._process = psutil.Process()
        self._start = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def look(self) -> None:
        """Raise `peak` to the memory in use now, if that is larger."""
        self.peak = max(self.peak, self._process.memory_info().rss - self._start)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.look()


class DevicePeak:
    """A context that records the peak of torch's memory on a CUDA device, above entry."""

    def __init__(self, device: str) -> None:
        self.peak = 0
        self._device = device

    def __enter__(self) -> Self:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._start = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = torch.cuda.max_memory_allocated(self._device) - self._start
