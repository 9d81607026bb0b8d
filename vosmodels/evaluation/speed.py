"""`python -m vosmodels.evaluation.speed`: how fast a model follows objects, and in what memory."""

from __future__ import annotations

import argparse
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vosmodels import checkpoint, console, registry
from vosmodels.folding import for_inference
from vosmodels.inference import VideoSegmenter
from vosmodels.seeding import generator
from vosmodels.spacetime import SpaceTimeNetwork
from vosmodels.types import InputError, UsageError

MODULE = "vosmodels.evaluation.speed"
WARM_UP = 3  # frames before the clock starts
PICTURES = 8  # random frames, shown again and again
SHORT, LONG, RUNS = 50, 500, 3  # MobileVOS, arXiv:2303.07815, Table 4
OBJECTS = (1, 2, 3, 4, 5)
QUEUES: tuple[int | Literal["all"], ...] = (1, 2, 5, 10, 20, "all")  # Figure 4
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SAMPLE_S = 0.005  # between two looks at the process's memory


@dataclass(frozen=True)
class Speed:
    """One video of random frames on one device.

    median_ms, p95_ms: of a predicted frame; fps: predicted frames over all their seconds; peak_mib:
    memory above the loaded model and the pictures, of the process (CPU) or of the device.
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


def random_video(height: int, width: int, objects: int) -> tuple[list[Tensor], Tensor]:
    """Frames (3, H, W), to be repeated, and ids (H, W) of vertical stripes, one an object."""
    rng = generator(0, "speed")
    frames = [torch.rand(3, height, width, generator=rng) for _ in range(PICTURES)]
    ids = torch.zeros(height, width, dtype=torch.int64)
    stripe = width // (2 * objects)
    for k in range(objects):
        left = 2 * k * stripe
        ids[height // 4 : 3 * height // 4, left : left + stripe] = k + 1
    return frames, ids


def measure(
    model: SpaceTimeNetwork,
    *,
    size: tuple[int, int],
    frames: int = SHORT,
    objects: int = 1,
    device: str = "cpu",
    precision: str = "fp32",
    **options: Any,
) -> Speed:
    """Time `frames` predicted frames after a warm-up. The model is folded, put on the device and
    run as `VideoSegmenter` runs it; reading frames is not in the time. options: of the propagator.
    """
    ready = for_inference(model, dtype=PRECISIONS[precision]).to(device)
    pictures, ids = random_video(*size, objects)
    pictures = [picture.to(device) for picture in pictures]
    segmenter = VideoSegmenter(ready, **options)
    wait = torch.cuda.synchronize if device.startswith("cuda") else _nothing
    memory = _DevicePeak() if device.startswith("cuda") else ProcessPeak()
    seconds = []
    with memory:
        segmenter.step(pictures[0], ids)
        for index in range(1, WARM_UP + frames + 1):
            wait()
            start = time.perf_counter()
            segmenter.step(pictures[index % PICTURES])
            wait()
            if index > WARM_UP:
                seconds.append(time.perf_counter() - start)
    return Speed(
        median_ms=1000 * float(np.median(seconds)),
        p95_ms=1000 * float(np.percentile(seconds, 95)),
        fps=frames / sum(seconds),
        peak_mib=memory.peak / 2**20,
        parameters=sum(p.numel() for p in model.parameters()),
        device=_device_name(device),
        size=f"{size[0]}x{size[1]}",
        frames=frames,
        objects=objects,
        precision=precision,
    )


def durations(model: SpaceTimeNetwork, **settings: Any) -> list[dict[str, Any]]:
    """The shape of MobileVOS's Table 4: a short and a long video, each the mean of three runs, for
    one to five objects."""
    return [
        _repeated(partial(measure, model, frames=n, objects=k, **settings))
        for k in OBJECTS
        for n in (SHORT, LONG)
    ]


def queue_lengths(model: SpaceTimeNetwork, **settings: Any) -> list[dict[str, Any]]:
    """The shape of MobileVOS's Figure 4: queue lengths, and every frame remembered."""
    return [
        {"queue": queue} | _repeated(partial(measure, model, queue=queue, mem_every=1, **settings))
        for queue in QUEUES
    ]


def _repeated(run: Callable[[], Speed]) -> dict[str, Any]:
    runs = [run() for _ in range(RUNS)]
    fps = [r.fps for r in runs]
    middle = sorted(runs, key=lambda r: r.median_ms)[RUNS // 2]
    return asdict(middle) | {"fps": sum(fps) / RUNS, "fps_runs": fps}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = console.parser(
        MODULE,
        "Time a model on random video; prints JSON.",
        f"python -m {MODULE} --model mobilevos_resnet18 --size 480x910 --frames 50",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="NAME", help="random weights of a registered model")
    which.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--size", default="480x910", help="HEIGHTxWIDTH; default 480x910")
    parser.add_argument("--frames", type=int, default=SHORT)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    tables = parser.add_mutually_exclusive_group()
    tables.add_argument(
        "--durations", action="store_true", help="50 and 500 frames, one to five objects: Table 4"
    )
    tables.add_argument(
        "--queues", action="store_true", help="queues of 1 to 20 frames and all: Figure 4"
    )

    def work(args: argparse.Namespace) -> Mapping[str, Any]:
        settings = _settings(args)
        if not (args.durations or args.queues):
            args.json = True
            return asdict(
                measure(_model(args), frames=args.frames, objects=args.objects, **settings)
            )
        rows = (durations if args.durations else queue_lengths)(_model(args), **settings)
        if not args.json:
            _print(rows, args.model or args.checkpoint)
        return {"rows": rows}

    return console.run(parser, argv, work)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    problems = []
    found = re.fullmatch(r"(\d+)x(\d+)", args.size)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 16:
        problems.append(f"--size {args.size}: HEIGHTxWIDTH, 16 or more each, such as 480x910")
    if args.frames < 1:
        problems.append(f"--frames {args.frames}: 1 or more")
    if not 1 <= args.objects <= 255 or 2 * args.objects > size[1]:
        problems.append(f"--objects {args.objects}: 1 or more, and two columns of pixels for each")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", args.device):
        problems.append(f"--device {args.device}: cpu, cuda or cuda:N")
    if problems:
        raise UsageError("\n".join(problems))
    if args.device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"--device {args.device}: no CUDA device here; use --device cpu")
    return {"size": size, "device": args.device, "precision": args.precision}


def _model(args: argparse.Namespace) -> SpaceTimeNetwork:
    if args.model:
        return registry.build(args.model, seed=0)
    if args.checkpoint.startswith(("models:/", "mlflow:")):
        raise UsageError(
            f"--checkpoint {args.checkpoint}: a file is wanted; get it with: "
            f"python -m orchestrator.fetch {args.checkpoint} student.safetensors"
        )
    return checkpoint.load_model(Path(args.checkpoint))[0]


def _print(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    first = rows[0]
    table = Table(
        title=f"{name}: {first['parameters'] / 1e6:.1f} M parameters, {first['size']}, "
        f"{first['precision']}, {first['device']}",
        title_justify="left",
    )
    varied = [key for key in ("queue", "objects", "frames") if key in first]
    numbers = ("fps", "median_ms", "p95_ms", "peak_mib")
    for column in (*varied, *numbers):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(str(row[key]) for key in varied), *(f"{row[key]:.1f}" for key in numbers))
    Console(highlight=False, soft_wrap=True, width=100).print(table)


class ProcessPeak:
    """Largest resident memory of this process while it is open, above what it was at the start."""

    def __enter__(self) -> Self:
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
        """Take note of the memory now."""
        self.peak = max(self.peak, self._process.memory_info().rss - self._start)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.look()


class _DevicePeak:
    """The same for the memory that torch has on a CUDA device."""

    peak = 0

    def __enter__(self) -> Self:
        torch.cuda.reset_peak_memory_stats()
        self._start = torch.cuda.memory_allocated()
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = torch.cuda.max_memory_allocated() - self._start


def _nothing() -> None:
    """A CPU has finished when it answers."""


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpu = re.search(r"model name\s*:\s*(.+)", _cpuinfo())
    name = cpu[1] if cpu else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
