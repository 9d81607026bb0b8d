"""Open the videos of a scoring protocol, and compute the protocol's key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.config.protocol import ScoringProtocol
from orchestrator.planning.datasets import fingerprint, sequences, unscorable_videos
from vosmodels.data.files import unusable
from vosmodels.errors import InputError
from vosmodels.types import ScoredVideo

PROBED_FRAMES = 64  # that a probe segments at most: a number in seconds, not the score of a split


def scored_videos(protocol: ScoringProtocol) -> Sequence[ScoredVideo]:
    """Open the videos of a protocol's split.

    Raises InputError where the split does not exist, or has no labelled frame after the first.
    """
    videos = sequences(protocol.data, protocol.split)
    if any(max(video.judged, default=0) > 0 for video in videos):
        return videos
    raise InputError(
        f"{protocol.data.root}: split {protocol.split!r} has nothing to score, as its masks only "
        "show where objects begin; take a split whose frames are labelled"
    )


def check_scored_videos(protocol: ScoringProtocol) -> None:
    """Raise one InputError that names every video of a protocol that cannot be scored, and why."""
    problems = unscorable_videos(protocol.data, protocol.split, protocol.stride)
    if problems:
        raise unusable(Path(protocol.data.root), protocol.split, problems)
    scored_videos(protocol)


def protocol_key(protocol: ScoringProtocol) -> list[str | int | None]:
    """Return a protocol's part of a content key: [fingerprint, height, stride, rows, composites].

    The fingerprint covers the content of the split, not the path of its folder. `rows` and
    `composites` are left out where they are unset, so that keys from before them stay valid.
    """
    content = fingerprint(protocol.data, protocol.split)
    rows = [protocol.rows] if protocol.rows else []
    pasted = protocol.data.composites
    composed = [f"composites {pasted}"] if pasted else []
    return [content, protocol.height, protocol.stride, *rows, *composed]
