"""Describe an exported folder by the schema of `student.json`, and open one that keeps to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vosmodels.errors import InputError
from vosmodels.export.formats import Format, Precision
from vosmodels.export.runner import SIDECAR, Runner, RunnerError
from vosmodels.support.atomic_files import write_whole

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1)]
Shape = list[Size]
Name = Literal["begin", "step"]
MemoryKind = Literal["slots", "shared"]
NOTICED = 0.005  # J&F that a precision may cost without a word


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Graph(_Closed):
    """A graph's file, and the shapes of its named inputs and outputs, all float32."""

    file: str
    sha256: Sha256
    bytes: Size
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


class Frame(_Closed):
    """Say how a frame is given; normalised: by mean and std inside the graphs."""

    height: Size
    width: Size
    layout: Literal["NCHW"] = "NCHW"
    colour: Literal["RGB"] = "RGB"
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    normalised: Literal["in the graphs"] = "in the graphs"


class MemoryPlan(_Closed):
    """Say which frames the caller keeps, by `rule`; hidden: memory_bias of a place without a frame.

    kind: each object slot has a memory of its own, or all share one; frames: places of a memory;
    last: one holds the latest frame beside those that stay; queue: of a shared memory, frames that
    stay, of which those with given masks always do; read: entries of the memory that a query reads,
    inside the graph.
    """

    kind: MemoryKind = "slots"
    rule: str
    frames: Size
    every: Size
    last: bool
    queue: Annotated[Size | None, Field(exclude_if=lambda queue: queue is None)] = None
    positions: Size
    read: Size
    hidden: float


class Checkpoint(_Closed):
    """The weights that were exported, and their scores where the checkpoint tells them."""

    model: str
    sha256: Sha256
    parameters: Size
    step: int
    scores: dict[str, float]


class Clip(_Closed):
    """A generated clip with what the graphs must answer; masks are given in `given`'s frames."""

    frames: str
    given: str
    expected: str


class Measured(_Closed):
    """J&F of the graphs on a split of videos, full size, every frame.

    fp32: that of the same graphs with float32 weights, where it was measured too; warning: says so
    where the graphs' is more than NOTICED below it.
    """

    split: str
    videos: Size
    jf: float
    fp32: float | None = None
    warning: str | None = None

    @classmethod
    def of(cls, split: str, videos: int, jf: float, fp32: float | None) -> Measured:
        """Compare J&F with that of float32 weights."""
        warning = None
        if fp32 is not None and fp32 - jf > NOTICED:
            warning = f"J&F {fp32 - jf:.3f} below that of float32 weights, {jf:.3f} for {fp32:.3f}"
        return cls(split=split, videos=videos, jf=jf, fp32=fp32, warning=warning)


class Sidecar(_Closed):
    """All that a caller of the graphs must know."""

    version: Literal[1] = 1
    name: str
    runtime: Format
    precision: Precision
    frame: Frame
    objects: Size
    memory: MemoryPlan
    graphs: dict[Name, Graph]
    checkpoint: Checkpoint
    licences: list[str]
    clip: Clip
    versions: dict[str, str]
    measured: Measured | None = None


def open_folder(folder: Path, *, threads: int | None = None) -> tuple[Sidecar, Runner]:
    """Read an exported folder and load its graphs; threads: as `Runner` takes them.

    Raises InputError naming what is wrong with the folder, or the package that is missing.
    """
    sidecar = read(folder)
    try:
        return sidecar, Runner(folder, threads=threads)
    except RunnerError as error:
        raise InputError(str(error)) from error


def note_measured(folder: Path, measured: Measured) -> None:
    """Write what the graphs of a folder reach into its description. Raises InputError as `read`."""
    write_description(folder, read(folder).model_copy(update={"measured": measured}))


def write_description(folder: Path, sidecar: Sidecar) -> None:
    """Write the description of a folder."""
    write_whole(folder / SIDECAR, (sidecar.model_dump_json(indent=1) + "\n").encode())


def read(folder: Path) -> Sidecar:
    """Read and check the description of a folder. Raises InputError naming what is wrong."""
    path = folder / SIDECAR
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a folder of vosmodels.export") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()
        )
        raise InputError(f"{path}: {found}; export again") from error
