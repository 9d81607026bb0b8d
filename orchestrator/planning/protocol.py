"""Open the videos of a scoring protocol, and name it by what those videos hold."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.protocol import ScoringProtocol
from orchestrator.planning.datasets import fingerprint, sequences
from vosmodels.errors import InputError
from vosmodels.types import ScoredVideo


def scored_videos(protocol: ScoringProtocol) -> Sequence[ScoredVideo]:
    """Open the videos of the protocol's split.

    InputError where there is no such split, or nothing in it to score.
    """
    videos = sequences(protocol.data, protocol.split)
    if any(max(video.judged, default=0) > 0 for video in videos):
        return videos
    raise InputError(
        f"{protocol.data.root}: split {protocol.split!r} has nothing to score, as its masks only "
        "show where objects begin; take a split whose frames are labelled"
    )


def protocol_key(protocol: ScoringProtocol) -> list[str | int | None]:
    """Return the protocol's part of a content key: [fingerprint of the split, height, stride].

    The folder's place is not in it, the content of the split is. `rows` comes fourth, only where
    it is set: keys made before there were rows stay what they are.
    """
    content = fingerprint(protocol.data, protocol.split)
    rows = [protocol.rows] if protocol.rows else []
    return [content, protocol.height, protocol.stride, *rows]
