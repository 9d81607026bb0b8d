"""Export, by graphs that run in torch where no runtime is needed, and compare with the model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vosmodels import checkpoint, demo
from vosmodels.aot.network import AOTNetwork
from vosmodels.data.frames import frame_tensor
from vosmodels.data.generated import GeneratedSequence
from vosmodels.export import folder, runner
from vosmodels.export.families import FrameGraph
from vosmodels.export.folder import Request
from vosmodels.export.formats import NAMES, Format, Precision
from vosmodels.inference import VideoSegmenter, for_inference
from vosmodels.memory_rule import MemoryRule
from vosmodels.model import VideoModel

Export = Callable[..., Path]
TINY, TINY_RULE = (48, 80), MemoryRule.of("first,last")
WITHOUT_TORCH = """
import json, sys
for name in ("torch", "vosmodels", "pydantic"):
    sys.modules[name] = None  # an import of it fails
import numpy as np
from runner import Runner
runner = Runner(".")
frame = np.random.default_rng(0).random((3, 48, 80), np.float32)
mask = np.zeros((48, 80), np.int64)
mask[8:30, 8:40] = 5
first, then = runner.step(frame, mask), runner.step(frame)
print(json.dumps([first.sum().item(), then.shape, runner.ids]))
"""


def saved(model: VideoModel, place: Path) -> Path:
    """Write a model's checkpoint."""
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=7, scores={"jf": 0.5})
    return checkpoint.write(place, model.state_dict(), info)[0]


def run_in_torch(patch: pytest.MonkeyPatch) -> None:
    """Let `export` write a graph's name in place of its file, and runners call the graph."""
    graphs: dict[bytes, FrameGraph] = {}

    def write(graph: FrameGraph, examples: Mapping[str, Tensor], precision: str) -> bytes:
        name = f"{type(graph).__name__} {len(graphs)}".encode()
        graphs[name] = graph
        return name

    def load(data: bytes, outputs: Sequence[str], threads: int | None) -> runner.Run:
        graph = graphs[data]

        def run(inputs):
            with torch.inference_mode():
                found = graph(*(torch.from_numpy(np.array(inputs[key])) for key in graph.inputs))
            return dict(zip(outputs, (x.numpy() for x in found), strict=True))

        return run

    patch.setattr(folder, "WRITERS", dict.fromkeys(NAMES, write))
    patch.setattr(runner, "RUNTIMES", dict.fromkeys(NAMES, load))


def exported(model: VideoModel, place: Path, size: tuple[int, int] = (32, 48), **request) -> Path:
    """Export a model into a folder below `place`."""
    out = place / "exported"
    folder.export(saved(model, place / "checkpoints"), Request(*size, **request), out)
    return out


def follows_the_model(
    out: Path,
    model: VideoModel,
    rule: MemoryRule,
    frames: Sequence[Tensor],
    given: Mapping[int, np.ndarray],
) -> np.ndarray:
    """Hold a folder's graphs to the model, frame by frame; return the last frame's ids.

    given: masks by frame. Probabilities are within 1e-3, ids equal wherever no two are that near.
    AOT remembers ids: a tie that rounding decides the other way changes what later frames read, so
    its segmenter is given the ids that the graphs found.
    """
    graphs = runner.Runner(out, threads=1)
    segmenter = VideoSegmenter(for_inference(model), memory=rule)
    for number, frame in enumerate(frames):
        mask = given.get(number)
        ids = graphs.step(frame.numpy(), mask)
        told = isinstance(model, AOTNetwork) and mask is None
        wanted = segmenter.step(
            frame,
            None if mask is None else torch.from_numpy(mask),
            remember=torch.from_numpy(ids) if told else None,
        ).numpy()
        expected = segmenter.probabilities.numpy()
        assert np.abs(graphs.probabilities - expected).max() < 1e-3
        ranked = np.sort(expected, 0)
        assert (ids == wanted)[ranked[-1] - ranked[-2] > 2e-3].all()
    return ids


def export_tiny(place: Path, form: Format, precision: Precision = "fp32", objects: int = 2) -> Path:
    """Export the student that ships in a small size, once for a place."""
    out = place / f"{form}-{precision}-{objects}"
    if not out.exists():
        request = Request(*TINY, objects, TINY_RULE, precision, format=form)
        folder.export(demo.student_file(), request, out)
    return out


def follows_two_objects(out: Path) -> np.ndarray:
    """Hold the graphs of `export_tiny` to the model, where the second object is given late."""
    given = {number: np.zeros(TINY, np.int64) for number in (0, 3)}
    given[0][4:24, 6:26] = 4
    given[3][20:40, 50:70] = 9
    model = checkpoint.load_model(demo.student_file())
    return follows_the_model(out, model, TINY_RULE, frames_of(7, TINY), given)


def segment_alone(out: Path) -> None:
    """Run a folder of TINY by its own copy of the runner, where torch cannot be imported."""
    words = [sys.executable, "-c", WITHOUT_TORCH]
    answer = subprocess.run(words, cwd=out, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == [5 * 22 * 32, [48, 80], [5]]


def frames_of(count: int, size: tuple[int, int], objects: int = 3) -> list[Tensor]:
    """Frames (3, H, W) of a generated video."""
    video = GeneratedSequence("frames", (0, "export-test"), *size, count, objects)
    return [frame_tensor(video.frame(index)) for index in range(count)]
