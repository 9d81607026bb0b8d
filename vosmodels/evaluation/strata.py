"""Score parts of a set: the objects that have something in common.

A stratum is a name and a rule that picks objects of a video. Its J, F and J&F are means over its
objects, as those of the set are over all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from vosmodels.evaluation.scores import Scores, SequenceScore

SCALE_CHANGE = 4.0  # an object's largest true mask over its smallest: from here on it is strong

Members = Callable[[SequenceScore], Collection[int]]


@dataclass(frozen=True)
class Stratum:
    """The scores of a part of a set: means over its objects, and how many they and videos are."""

    name: str
    j: float
    f: float
    jf: float
    objects: int
    videos: int

    @property
    def key(self) -> str:
        """Return the name as it stands in names of metrics."""
        return self.name.replace(" ", "_")


def changing_scale(video: SequenceScore) -> list[int]:
    """Return the objects whose area changes by more than SCALE_CHANGE over the scored frames.

    arXiv:2401.13937, appendix F, names such objects as what its networks fail on, without a figure.
    Frames without the object are left out. An object that is partly hidden, or leaves the frame,
    changes its area too.
    """
    return [
        number
        for number, score in video.objects.items()
        if (areas := [area for area in score.areas if area])
        and max(areas) > SCALE_CHANGE * min(areas)
    ]


RULES: Mapping[str, Members] = {"scale change": changing_scale}


def strata(scores: Scores) -> list[Stratum]:
    """Return the strata of a scored set that hold an object, in the order of RULES."""
    found = []
    for name, members in RULES.items():
        parts = {video.name: members(video) for video in scores.sequences}
        objects = [video.objects[i] for video in scores.sequences for i in parts[video.name]]
        if objects:
            j, f = fmean(one.j for one in objects), fmean(one.f for one in objects)
            videos = sum(bool(ids) for ids in parts.values())
            found.append(Stratum(name, j, f, (j + f) / 2, len(objects), videos))
    return found


def as_dict(scores: Scores) -> dict[str, dict[str, Any]]:
    """Return the strata as JSON-able values by `Stratum.key`."""
    return {one.key: asdict(one) for one in strata(scores)}


def metrics(scores: Scores) -> dict[str, float]:
    """Return the J&F of each stratum as `jf_KEY`, for the ledger and MLflow."""
    return {f"jf_{one.key}": one.jf for one in strata(scores)}
