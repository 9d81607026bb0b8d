"""Collect J and F per frame, average over objects and videos, and convert to JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vosmodels.errors import InputError
from vosmodels.evaluation.metrics import Statistics, frame_scores, statistics

ON_THE_SERVER = (
    "no scores: the masks here only give the objects; scores come from the benchmark's server"
)


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, one value for each scored frame.

    areas: of its true mask in px, in the same frames; empty in files older than this count.
    """

    j_frames: tuple[float, ...]
    f_frames: tuple[float, ...]
    areas: tuple[int, ...] = ()

    @property
    def j(self) -> float:
        """Return the mean J over frames."""
        return float(np.mean(self.j_frames))

    @property
    def f(self) -> float:
        """Return the mean F over frames."""
        return float(np.mean(self.f_frames))

    @property
    def j_statistics(self) -> Statistics:
        """Return mean, recall and decay of J."""
        return statistics(np.array(self.j_frames))

    @property
    def f_statistics(self) -> Statistics:
        """Return mean, recall and decay of F."""
        return statistics(np.array(self.f_frames))


@dataclass(frozen=True)
class SequenceScore:
    """The scores of one video by object id; j, f, jf are means over the objects.

    unseen: as in `ScoredVideo`.
    """

    name: str
    objects: Mapping[int, ObjectScore]
    unseen: frozenset[int] | None = None

    @property
    def j(self) -> float:
        """Return the mean J over the video's objects."""
        return float(np.mean([score.j for score in self.objects.values()]))

    @property
    def f(self) -> float:
        """Return the mean F over the video's objects."""
        return float(np.mean([score.f for score in self.objects.values()]))

    @property
    def jf(self) -> float:
        """Return J&F, the mean of `j` and `f`."""
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Scores:
    """The scores of several videos; j, f, jf are means over all objects, not videos.

    sequences: the videos with a scored frame; the means raise InputError if there is none.
    fps: frames per second of the segmenter alone; None if the masks came from disk.
    """

    sequences: tuple[SequenceScore, ...]
    fps: float | None = None

    @property
    def j(self) -> float:
        """Return the mean J over all objects. Raises InputError if there is none."""
        return float(np.mean([score.j for score in self._objects()]))

    @property
    def f(self) -> float:
        """Return the mean F over all objects. Raises InputError if there is none."""
        return float(np.mean([score.f for score in self._objects()]))

    @property
    def jf(self) -> float:
        """Return J&F, the mean of `j` and `f`. Raises InputError if there is no object."""
        return (self.j + self.f) / 2

    @property
    def seen_unseen(self) -> dict[str, float] | None:
        """Return YouTube-VOS's j_seen, f_seen, j_unseen, f_unseen and their mean g.

        The four are means over objects. None if a video does not tell which objects are unseen, or
        if no object is seen, or none unseen.
        """
        kinds: dict[str, list[ObjectScore]] = {"seen": [], "unseen": []}
        for sequence in self.sequences:
            if sequence.unseen is None:
                return None
            for number, score in sequence.objects.items():
                kinds["unseen" if number in sequence.unseen else "seen"].append(score)
        if not all(kinds.values()):
            return None
        four = {}
        for kind, scores in kinds.items():
            four[f"j_{kind}"] = float(np.mean([score.j for score in scores]))
            four[f"f_{kind}"] = float(np.mean([score.f for score in scores]))
        return four | {"g": sum(four.values()) / 4}

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as a JSON-able mapping; inverse of `from_dict`.

        Keys: `mean` (None if nothing was scored); `sequences` by name, each with `objects` by id
        and, if known, the `unseen` ids; `seen_unseen` if known; `fps` if measured.
        """
        mean = {"j": self.j, "f": self.f, "jf": self.jf} if self.sequences else None
        result: dict[str, Any] = {
            "mean": mean,
            "sequences": {
                sequence.name: {
                    "objects": {
                        str(number): {
                            "J": vars(score.j_statistics),
                            "F": vars(score.f_statistics),
                            "J_frames": list(score.j_frames),
                            "F_frames": list(score.f_frames),
                            **({"areas": list(score.areas)} if score.areas else {}),
                        }
                        for number, score in sequence.objects.items()
                    }
                }
                | ({} if sequence.unseen is None else {"unseen": sorted(sequence.unseen)})
                for sequence in self.sequences
            },
        }
        if four := self.seen_unseen:
            result["seen_unseen"] = four
        return result if self.fps is None else result | {"fps": self.fps}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Read the mapping of `as_dict`, computing means and statistics from the frames.

        Raises KeyError, TypeError, ValueError or AttributeError if it is no such mapping, or a
        value is outside [0, 1].
        """
        return cls(
            tuple(
                SequenceScore(
                    name,
                    {int(number): _object_score(o) for number, o in sequence["objects"].items()},
                    frozenset(sequence["unseen"]) if "unseen" in sequence else None,
                )
                for name, sequence in values["sequences"].items()
            ),
            values.get("fps"),
        )

    def _objects(self) -> list[ObjectScore]:
        if not self.sequences:
            raise InputError(ON_THE_SERVER)
        return [score for sequence in self.sequences for score in sequence.objects.values()]


def _object_score(values: Mapping[str, Any]) -> ObjectScore:
    """Read the scores of an object, one J and one F for each of its frames."""
    j_frames, f_frames = tuple(values["J_frames"]), tuple(values["F_frames"])
    if not j_frames or len(j_frames) != len(f_frames):
        raise ValueError(f"{len(j_frames)} values of J and {len(f_frames)} of F")
    if odd := [value for value in (*j_frames, *f_frames) if not 0 <= value <= 1]:
        raise ValueError(f"{odd[0]} is no J or F, which are 0 to 1")
    areas = tuple(int(area) for area in values.get("areas", ()))
    if areas and len(areas) != len(j_frames):
        raise ValueError(f"{len(j_frames)} values of J and {len(areas)} areas")
    return ObjectScore(j_frames, f_frames, areas)


class PartialScores(InputError):
    """Some videos could not be scored; the scores of the others are kept.

    scores: those of the videos that were scored, whose means are not the result of the set;
    wanted: number of videos to score; failed: names of the videos that failed while they were run.
    """

    def __init__(
        self,
        message: str,
        scores: Scores | None = None,  # defaults, as unpickling passes the message alone
        wanted: int = 0,
        failed: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.scores = scores or Scores(())
        self.wanted = wanted
        self.failed = failed


class Tally:
    """A running list of J and F per object, so that no video is held in memory."""

    def __init__(self) -> None:
        self._j: dict[int, list[float]] = defaultdict(list)
        self._f: dict[int, list[float]] = defaultdict(list)
        self._areas: dict[int, list[int]] = defaultdict(list)

    def add(self, truth: NDArray[Any], prediction: NDArray[Any], ids: Iterable[int]) -> None:
        """Score the objects `ids` on one frame, truth and prediction (H, W) ids."""
        for i in ids:
            own = truth == i
            j, f = frame_scores(own, prediction == i)
            self._j[i].append(j)
            self._f[i].append(f)
            self._areas[i].append(int(np.count_nonzero(own)))

    def scores(self) -> dict[int, ObjectScore]:
        """Return the scores by object id, ascending, of the objects that a frame scored."""
        return {
            i: ObjectScore(tuple(self._j[i]), tuple(self._f[i]), tuple(self._areas[i]))
            for i in sorted(self._j)
        }
