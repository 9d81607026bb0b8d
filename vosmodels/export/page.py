"""Write the web page: an exported folder that any static server can host."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vosmodels.data import sample
from vosmodels.data.generated import GeneratedSequence
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError
from vosmodels.export import web_runtime
from vosmodels.export.folder import CLIP, Request, Say, export
from vosmodels.export.sidecar import MemoryPlan, Sidecar

SOURCES = Path(__file__).parent / "web"
PARTS = ("index.html", "style.css", "js")
RUNTIME = "runtime"
LICENCE = "runtime-licence.txt"
LIST = "page.json"  # what the page cannot read off its folder: clips, the runtime's version
SAMPLE = "sample"
RATE = 24  # frames a second at which a clip is played
QUALITY = 90  # of the sample's JPEGs


@dataclass(frozen=True)
class Page:
    """A page that was written, and the bytes of what a browser loads of it first.

    wasm, webgpu: of the runtime, of which a browser loads one.
    """

    sidecar: Sidecar
    graphs: int
    wasm: int
    webgpu: int
    scripts: int


def export_page(file: Path, request: Request, out: Path, say: Say = lambda line: None) -> Page:
    """Export the checkpoint `file` as graphs with their page into the folder `out`.

    Raises as `export`, and InputError where ONNX Runtime Web is not installed or the model keeps
    its memory in a way that the page does not.
    """
    web_runtime.check_runtime()

    def finish(folder: Path) -> None:
        say("page: scripts, runtime, sample clip")
        for name in PARTS:
            copy = shutil.copytree if (SOURCES / name).is_dir() else shutil.copy
            copy(SOURCES / name, folder / name)
        (folder / RUNTIME).mkdir()
        for name in web_runtime.MEMBERS:
            shutil.copy(web_runtime.FOLDER / name, folder / RUNTIME / name)
        shutil.copy(SOURCES / LICENCE, folder / RUNTIME / "LICENCE.txt")
        clips = [_write_sample(folder / SAMPLE, request.objects), _check_clip(folder)]
        runtime = {"version": web_runtime.VERSION, "licence": web_runtime.LICENCE}
        text = json.dumps({"runtime": runtime, "clips": clips}, indent=1)
        (folder / LIST).write_text(text + "\n", encoding="utf-8")

    def check(memory: MemoryPlan) -> None:
        if memory.kind != "slots":
            raise InputError(
                f"{file}: its objects share a memory, and the page keeps one for each object, as "
                "STCN and MobileVOS do; export graphs alone: --format onnx in place of --web"
            )

    sidecar = export(file, request, out, say, check=check, finish=finish)
    return Page(
        sidecar,
        graphs=sum(graph.bytes for graph in sidecar.graphs.values()),
        wasm=sum(_bytes_in(out / RUNTIME / name) for name in web_runtime.WASM),
        webgpu=sum(_bytes_in(out / RUNTIME / name) for name in web_runtime.WEBGPU),
        scripts=sum(_bytes_in(out / name) for name in PARTS),
    )


def _write_sample(folder: Path, objects: int) -> Mapping[str, Any]:
    """Write the sample clip with the mask of its first frame, of `objects` objects at most."""
    video = GeneratedSequence("sample", sample.SCENE, *sample.SIZE, sample.FRAMES)
    for name in ("frames", "given"):
        (folder / name).mkdir(parents=True)
    for index in range(len(video)):
        picture = Image.fromarray(video.frame(index))
        picture.save(folder / "frames" / f"{index:05d}.jpg", quality=QUALITY)
    first = video.mask(0)
    write_palette(folder / "given" / "00000.png", np.where(first > objects, 0, first))
    return {
        "name": "sample",
        "title": "Sample clip",
        "frames": f"{SAMPLE}/frames",
        "suffix": "jpg",
        "count": len(video),
        "rate": RATE,
        "given": f"{SAMPLE}/given",
        "given_in": [0],
        "expected": None,
    }


def _check_clip(folder: Path) -> Mapping[str, Any]:
    """Describe the clip of the export, whose masks are known."""
    return {
        "name": "check",
        "title": "Check clip",
        "frames": CLIP.frames,
        "suffix": "png",
        "count": len(list((folder / CLIP.frames).glob("*.png"))),
        "rate": RATE,
        "given": CLIP.given,
        "given_in": sorted(int(path.stem) for path in (folder / CLIP.given).glob("*.png")),
        "expected": CLIP.expected,
    }


def _bytes_in(place: Path) -> int:
    files = [place] if place.is_file() else place.rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())
