"""Write an exported folder: graphs, `student.json`, the runner, and a clip to check them by."""

from __future__ import annotations

import platform
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vosmodels import checkpoint
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError, UsageError
from vosmodels.export import runner
from vosmodels.export.clip import ParityClip, parity_clip
from vosmodels.export.executorch_format import write_executorch
from vosmodels.export.families import FrameGraph, exportable_step
from vosmodels.export.formats import FORMATS, Format, Precision
from vosmodels.export.litert_format import write_litert
from vosmodels.export.onnx_format import write_onnx
from vosmodels.export.sidecar import (
    Checkpoint,
    Clip,
    Frame,
    Graph,
    MemoryPlan,
    Name,
    Sidecar,
    write_description,
)
from vosmodels.memory_rule import MemoryRule
from vosmodels.support.digests import sha256_of

# Makes the copy of runner.py a command.
RUN = '\n\nif __name__ == "__main__":\n    sys.exit(main(sys.argv[1:]))\n'
CLIP = Clip(frames="clip/frames", given="clip/given", expected="clip/expected")
Say = Callable[[str], None]
Write = Callable[[FrameGraph, Mapping[str, Tensor], Precision], bytes]
WRITERS: Mapping[Format, Write] = {
    "onnx": write_onnx,
    "litert": write_litert,
    "executorch": write_executorch,
}


@dataclass(frozen=True)
class Request:
    """Say what is asked of an export.

    memory: None for the model's own rule; precision: one that the format offers.
    """

    height: int
    width: int
    objects: int = 1
    memory: MemoryRule | None = None
    precision: Precision = "fp32"
    licences: Sequence[str] = ()
    format: Format = "onnx"


def export(
    file: Path,
    request: Request,
    out: Path,
    say: Say = lambda line: None,
    *,
    check: Callable[[MemoryPlan], None] = lambda memory: None,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Sidecar:
    """Export the checkpoint `file` as graphs into the folder `out`; return its description.

    `out` appears when all of it is written; files of an earlier export there are replaced.
    say: is told what is done next, as a step takes seconds; check: may refuse how the model keeps
    its memory; finish: adds files to the folder before it appears. Raises InputError on a
    checkpoint that cannot be read, UsageError as `exportable_step`, and on AOT or DeAOT in another
    format than onnx.
    """
    model = checkpoint.load_model(file)
    rule = request.memory or model.memory
    size = {"height": request.height, "width": request.width, "objects": request.objects}
    step = exportable_step(model, rule, **size)
    if step.memory.kind == "shared" and request.format != "onnx":
        raise UsageError(
            f"--format {request.format}: {model.name} is exported as onnx alone: its objects share "
            "a memory, which the other formats were not tried with"
        )
    check(step.memory)
    scratch = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        scratch.mkdir(parents=True)
        described: dict[Name, Graph] = {}
        for name, graph in step.graphs.items():
            say(f"{name}: {request.precision}, {request.height}x{request.width}")
            inputs = {key: step.examples[key] for key in graph.inputs}
            data = WRITERS[request.format](graph, inputs, request.precision)
            place = f"{name}{FORMATS[request.format].suffix}"
            (scratch / place).write_bytes(data)
            with torch.inference_mode():
                outputs = graph(*inputs.values())
            described[name] = Graph(
                file=place,
                sha256=sha256_of(data),
                bytes=len(data),
                inputs={key: list(x.shape) for key, x in inputs.items()},
                outputs={k: list(x.shape) for k, x in zip(graph.outputs, outputs, strict=True)},
            )
        say("clip: frames, and what the model answers")
        _write_clip(scratch, parity_clip(model, rule, **size))
        info = checkpoint.read_info(file)
        sidecar = Sidecar(
            name=info.name,
            runtime=request.format,
            precision=request.precision,
            frame=Frame(
                height=request.height,
                width=request.width,
                mean=_three(step.mean),
                std=_three(step.std),
            ),
            objects=request.objects,
            memory=step.memory,
            graphs=described,
            checkpoint=Checkpoint(
                model=info.name,
                sha256=sha256_of(file),
                parameters=sum(p.numel() for p in model.parameters()),
                step=info.step,
                scores=dict(info.scores),
            ),
            licences=list(request.licences),
            clip=CLIP,
            versions={"python": platform.python_version(), "torch": torch.__version__},
        )
        (scratch / "runner.py").write_text(Path(runner.__file__).read_text() + RUN)
        write_description(scratch, sidecar)
        finish(scratch)
        _move(scratch, out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sidecar


def _three(buffer: Tensor) -> tuple[float, float, float]:
    red, green, blue = (round(float(x), 6) for x in buffer.flatten())
    return red, green, blue


def _write_clip(folder: Path, clip: ParityClip) -> None:
    frames, given, expected = (folder / place for place in (CLIP.frames, CLIP.given, CLIP.expected))
    for place in (frames, given, expected):
        place.mkdir(parents=True)
    for number, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(frames / f"{number:05d}.png")
        write_palette(expected / f"{number:05d}.png", clip.expected[number])
    for number, mask in clip.given.items():
        write_palette(given / f"{number:05d}.png", mask)


def _move(scratch: Path, out: Path) -> None:
    """Put a finished folder in its place, file by file where an earlier one stands there."""
    if not out.exists():
        scratch.rename(out)
        return
    for path in sorted(scratch.rglob("*")):
        place = out / path.relative_to(scratch)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            path.replace(place)
