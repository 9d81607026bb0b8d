"""Export a student with several memories and precisions, score each on videos, and time it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestrator.config.data import DataConfig
from orchestrator.execution.folder_scores import exported_segmenters, score_videos
from orchestrator.planning.datasets import sequences
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import Scores
from vosmodels.evaluation.speed.graphs import measure_folder
from vosmodels.export.folder import Request, export
from vosmodels.export.formats import Precision
from vosmodels.export.sidecar import Measured, note_measured, read
from vosmodels.memory_rule import MemoryRule

Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """A memory and a precision of an export; memory: as it was asked for, which may have no end."""

    memory: MemoryRule
    precision: Precision = "fp32"

    @property
    def name(self) -> str:
        """Return the name of the export's folder."""
        return f"{str(self.memory).replace(',', '-')}-{self.precision}"


@dataclass(frozen=True)
class ExportRow:
    """Hold what an export has on videos and costs on this machine.

    memory: the rule asked for; frames: of the memory in the graphs; bytes: of both graphs; j, f,
    jf: means over the videos; videos: J&F by name; median_ms, p95_ms: of a predicted frame of
    random video, peak_mib: memory above the loaded graphs.
    """

    memory: str
    precision: str
    folder: str
    frames: int
    bytes: int
    j: float
    f: float
    jf: float
    videos: dict[str, float]
    median_ms: float
    p95_ms: float
    peak_mib: float


def choices(memories: Sequence[MemoryRule], precisions: Sequence[Precision]) -> list[Choice]:
    """List what is exported: every memory in the first precision, the last memory in all."""
    first, *others = precisions
    rows = [Choice(memory, first) for memory in memories]
    return [*rows, *(Choice(memories[-1], precision) for precision in others)]


def bounded(memory: MemoryRule, frames: int) -> MemoryRule:
    """Return a rule with room for all that `memory` keeps of a video of so many frames."""
    if memory.older is not None:
        return memory
    return replace(memory, older=max(1, frames // memory.every))


def export_rows(
    file: Path,
    request: Request,
    wanted: Sequence[Choice],
    data: DataConfig,
    split: str,
    out: Path,
    *,
    frames: int,
    threads: int,
    done: Sequence[ExportRow] = (),
    say: Say = lambda line: None,
) -> Iterator[ExportRow]:
    """Export `file` for each choice into a folder of `out`, and yield its row.

    request: size and object slots of all; done: rows of an earlier call, yielded again. A row of a
    precision other than fp32 is compared with that of fp32 and the same memory before it, and the
    result noted in the folder's description. Raises InputError as `export` and `score_videos` do,
    and on a video with more objects than slots.
    """
    videos = sequences(data, split)
    longest = max(len(video) for video in videos)
    busiest = max(videos, key=lambda video: len(video.begins))
    if len(busiest.begins) > request.objects:
        raise InputError(
            f"{busiest.name}: {len(busiest.begins)} objects, and the graphs are to have "
            f"{request.objects}: give --objects {len(busiest.begins)}"
        )
    finished = {row.folder: row for row in done}
    whole: dict[str, float] = {}  # J&F in fp32, by memory
    for number, choice in enumerate(wanted, 1):
        if choice.name not in finished:
            say(f"{number} of {len(wanted)}: memory {choice.memory}, {choice.precision}")
            rule = bounded(choice.memory, longest)
            asked = replace(request, memory=rule, precision=choice.precision)
            folder = out / choice.name
            export(file, asked, folder)
            scores = score_videos(partial(exported_segmenters, folder), data, split)
            finished[choice.name] = _row(choice, folder, scores, frames, threads)
        row = finished[choice.name]
        if choice.precision == "fp32":
            whole[row.memory] = row.jf
        against = whole.get(row.memory)
        measured = Measured.of(Path(split).name, len(row.videos), row.jf, against)
        note_measured(out / row.folder, measured)
        yield row


def _row(choice: Choice, folder: Path, scores: Scores, frames: int, threads: int) -> ExportRow:
    sidecar = read(folder)
    speed = measure_folder(folder, objects=1, frames=frames, threads=threads)
    return ExportRow(
        memory=str(choice.memory),
        precision=choice.precision,
        folder=choice.name,
        frames=sidecar.memory.frames,
        bytes=sum(graph.bytes for graph in sidecar.graphs.values()),
        j=scores.j,
        f=scores.f,
        jf=scores.jf,
        videos={video.name: video.jf for video in scores.sequences},
        median_ms=speed.median_ms,
        p95_ms=speed.p95_ms,
        peak_mib=speed.peak_mib,
    )
