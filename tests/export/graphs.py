"""Export with graphs that run in torch, so that a test needs no runtime and no exporter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vosmodels import checkpoint
from vosmodels.data.frames import frame_tensor
from vosmodels.data.generated import GeneratedSequence
from vosmodels.export import folder, runner
from vosmodels.export.families import FrameGraph
from vosmodels.export.folder import Request
from vosmodels.model import VideoModel

Export = Callable[..., Path]


def saved(model: VideoModel, place: Path) -> Path:
    """Write a model's checkpoint."""
    info = checkpoint.CheckpointInfo.of(model, ancestor=None, step=7, scores={"jf": 0.5})
    return checkpoint.write(place, model.state_dict(), info)[0]


def run_in_torch(patch: pytest.MonkeyPatch) -> None:
    """Let `export` write a graph's name in place of its file, and runners call the graph."""
    graphs: dict[bytes, FrameGraph] = {}

    def write(graph: FrameGraph, examples: Sequence[Tensor], precision: str) -> bytes:
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

    patch.setattr(folder, "write_onnx", write)
    patch.setattr(runner, "RUNTIMES", {"onnx": load})


def exported(model: VideoModel, place: Path, size: tuple[int, int] = (32, 48), **request) -> Path:
    """Export a model into a folder below `place`."""
    out = place / "exported"
    folder.export(saved(model, place / "checkpoints"), Request(*size, **request), out)
    return out


def frames_of(count: int, size: tuple[int, int], objects: int = 3) -> list[Tensor]:
    """Frames (3, H, W) of a generated video."""
    video = GeneratedSequence("frames", (0, "export-test"), *size, count, objects)
    return [frame_tensor(video.frame(index)) for index in range(count)]
