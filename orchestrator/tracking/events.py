"""Define the events of the ledger: one dataclass per kind of line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Role = Literal["teacher", "stem", "trial", "soup"]


@dataclass(frozen=True)
class Event:
    """Base of all events; `kind` is the tag of a line on disk."""

    kind: ClassVar[str] = ""


@dataclass(frozen=True)
class Started(Event):
    """A process started or resumed the job.

    time: seconds since 1970; task: the driver's piece of work that it is an attempt at; students:
    jobs that train in lock-step in that process, this one with them.
    """

    kind = "started"
    role: Role
    name: str
    sweep: str
    config: Mapping[str, Any]
    ancestor: str | None = None
    experiment: str = ""
    time: float = field(default_factory=time.time)
    task: str = ""
    students: int = 1


@dataclass(frozen=True)
class Code(Event):
    """The code by which the job trains from a step on.

    at: that step, 0 at the beginning and after a resume the one resumed from; files: sha256 of each
    source file that shapes weights, by its path; torch: version.
    """

    kind = "code"
    at: int
    files: Mapping[str, str]
    torch: str


@dataclass(frozen=True)
class Segmented(Event):
    """The teacher has segmented another training video. done, of: videos that were to be."""

    kind = "segmented"
    done: int
    of: int


@dataclass(frozen=True)
class Taught(Event):
    """Labels of a teacher are there for the videos of a job.

    teacher: name and sha256 of the network, or the folder of masks; segments: video, clip or masks;
    targets: hard or soft;
    ignored: share of the pixels after the first frames that are below the threshold, None where
    that is known of each batch alone.
    """

    kind = "taught"
    teacher: str
    segments: str
    threshold: float
    videos: int
    ignored: float | None = None
    targets: str = "hard"

    def describe(self) -> str:
        """Name the teacher, what it labelled, and the threshold, on one line."""
        how = {"video": "each video once", "clip": "each clip in its step", "masks": "its masks"}
        said = f"{self.teacher}: {how[self.segments]}, {self.targets} targets"
        return f"{said}, threshold {self.threshold:g}"


@dataclass(frozen=True)
class Losses(Event):
    """Training losses by name, e.g. {"total": ..., "ce": ...}.

    Beside them grad_norm and, where a teacher labels videos, `ignored`: the share of pixels of the
    batch without a label.
    """

    kind = "losses"
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Speed(Event):
    """Training speed {"samples_per_s", "data_wait"}, see training/throughput.py."""

    kind = "speed"
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Gradients(Event):
    """Gradient norm of every loss term at z and at the logits, e.g. {"ce_z": ...}."""

    kind = "gradients"
    step: int
    norms: Mapping[str, float]


@dataclass(frozen=True)
class Usage(Event):
    """What the job's processes took of their node since the line before, by MLflow's names.

    time: of the measurement, in seconds since 1970; values: e.g. {"cpu_utilization_percentage"},
    see execution/usage.py.
    """

    kind = "usage"
    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Warned(Event):
    """A warning about a job that continues."""

    kind = "warned"
    step: int
    text: str


@dataclass(frozen=True)
class Evaluated(Event):
    """Scores {"j", "f", "jf"} on a split, and of every sequence of the split."""

    kind = "evaluated"
    step: int
    scores: Mapping[str, float]
    sequences: Mapping[str, Any] = field(default_factory=dict)
    split: Literal["select", "report"] = "select"


@dataclass(frozen=True)
class Checkpoint(Event):
    """A checkpoint on disk, with select scores. path: relative to the storage folder."""

    kind = "checkpoint"
    step: int
    sha256: str
    path: str
    scores: Mapping[str, float] = field(default_factory=dict)
    sequences: Mapping[str, Any] = field(default_factory=dict)
    ancestor: str | None = None


@dataclass(frozen=True)
class Picture(Event):
    """A picture of predicted masks. path: relative to the storage folder."""

    kind = "picture"
    step: int
    path: str


@dataclass(frozen=True)
class Attention(Picture):
    """A picture of where the attentions of a trained model look."""

    kind = "attention"


@dataclass(frozen=True)
class Souped(Event):
    """A soup: the pool, the ingredients taken, and every decision in order.

    decisions: each with name and sha256 of the checkpoint that was tried. geometry: as
    `soups.geometry.measure` returns it; chosen_on: `train` where training videos chose, as in the
    paper. search: how the pool was searched, besides soup.min_delta. statistics: sha256 of the file
    of BatchNorm statistics that the mean was given in place of its own. Empty in older lines.
    """

    kind = "souped"
    pool: str
    ingredients: Sequence[str]
    decisions: Sequence[Mapping[str, Any]]
    scores: Mapping[str, float]
    geometry: Mapping[str, Any] = field(default_factory=dict)
    chosen_on: str = ""
    search: Mapping[str, Any] = field(default_factory=dict)
    statistics: str = ""


@dataclass(frozen=True)
class Failed(Event):
    """The job ended with an error. error: one line; log: path of the job's log."""

    kind = "failed"
    error: str
    log: str = ""


@dataclass(frozen=True)
class Stopped(Event):
    """The sweep stopped the job before its end; its resume state stays.

    at: the step, which is not named `step` as several stops at one step all count; why: what
    stopped it, `asha` or `sweep.max_hours`.
    """

    kind = "stopped"
    at: int
    why: str


@dataclass(frozen=True)
class Done(Event):
    """The job is finished.

    seconds: of its own work and, in lock-step, its part of what all of them share; peak_mib: peak
    memory of its process in MiB.
    """

    kind = "done"
    seconds: float
    peak_mib: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        *(Started, Code, Segmented, Taught, Losses, Speed, Gradients, Usage, Warned, Evaluated),
        *(Checkpoint, Picture, Attention, Souped, Stopped, Failed, Done),
    )
}
