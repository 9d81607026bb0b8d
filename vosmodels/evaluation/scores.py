"""J and F of objects, videos and sets, as they gather frame after frame and as JSON."""

from __future__ import annotations

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
    """J and F of one object, one value for each scored frame."""

    j_frames: tuple[float, ...]
    f_frames: tuple[float, ...]

    @property
    def j(self) -> float:
        return float(np.mean(self.j_frames))

    @property
    def f(self) -> float:
        return float(np.mean(self.f_frames))

    @property
    def j_statistics(self) -> Statistics:
        return statistics(np.array(self.j_frames))

    @property
    def f_statistics(self) -> Statistics:
        return statistics(np.array(self.f_frames))


@dataclass(frozen=True)
class SequenceScore:
    """Scores of one video by object id; j, f, jf are means over its objects.

    unseen: as the `ScoredVideo` has it.
    """

    name: str
    objects: Mapping[int, ObjectScore]
    unseen: frozenset[int] | None = None

    @property
    def j(self) -> float:
        return float(np.mean([score.j for score in self.objects.values()]))

    @property
    def f(self) -> float:
        return float(np.mean([score.f for score in self.objects.values()]))

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class Scores:
    """Scores of several videos; j, f, jf are means over all objects, not over videos.

    sequences: those with anything to score; the means raise InputError where there is none.
    fps: frames a second of segmentation alone; None where masks were scored that were there.
    """

    sequences: tuple[SequenceScore, ...]
    fps: float | None = None

    @property
    def j(self) -> float:
        return float(np.mean([score.j for score in self._objects()]))

    @property
    def f(self) -> float:
        return float(np.mean([score.f for score in self._objects()]))

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2

    @property
    def seen_unseen(self) -> dict[str, float] | None:
        """j_seen, f_seen, j_unseen, f_unseen, means over objects, and g, the mean of the four.

        None where a video does not know which objects are unseen, or either kind is missing.
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
        """JSON-able: `mean`, `sequences` by name, `objects` by id in each, `fps` if measured.

        `mean` is None where nothing was scored. Where they are known, `seen_unseen`, and each
        sequence's `unseen` ids.
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
        """Inverse of `as_dict`; means and statistics are computed again from the frames."""
        return cls(
            tuple(
                SequenceScore(
                    name,
                    {
                        int(number): ObjectScore(tuple(o["J_frames"]), tuple(o["F_frames"]))
                        for number, o in sequence["objects"].items()
                    },
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


class Tally:
    """J and F of each object, frame after frame: no video is held in memory."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = tuple(ids)
        self._j: dict[int, list[float]] = {i: [] for i in self.ids}
        self._f: dict[int, list[float]] = {i: [] for i in self.ids}

    def add(
        self, truth: NDArray[Any], prediction: NDArray[Any], ids: Iterable[int] | None = None
    ) -> None:
        """One frame; ids: the objects it counts for, by default all."""
        for i in self.ids if ids is None else ids:
            j, f = frame_scores(truth == i, prediction == i)
            self._j[i].append(j)
            self._f[i].append(f)

    def scores(self) -> dict[int, ObjectScore]:
        """By object id; without those no frame counted for."""
        return {
            i: ObjectScore(tuple(self._j[i]), tuple(self._f[i])) for i in self.ids if self._j[i]
        }
