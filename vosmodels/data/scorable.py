"""Decide whether a video can be scored, before a segmenter runs on it."""

from __future__ import annotations

from vosmodels.data.frames import visited_frames
from vosmodels.data.masks import object_ids
from vosmodels.errors import InputError
from vosmodels.types import ScoredVideo

MIN_FRAMES = 3  # least frames of a DAVIS video, whose first and last frames are not scored


def unscorable(video: ScoredVideo, *, stride: int = 1) -> list[str]:
    """Return what keeps a video from being scored at every `stride`-th frame, a line each.

    Too few frames, no object in the first mask, or a mask whose values cannot be read. Reads every
    mask whole, and no frame.
    """
    problems: dict[str, None] = {}
    for number in dict.fromkeys((0, *video.judged)):
        try:
            ids = object_ids(video.mask(number))
            if number == 0 and not ids:
                problems[f"{video.name}: no object in the first mask, so nothing to follow"] = None
        except InputError as error:
            problems[str(error)] = None
    if problems:
        return list(problems)
    return too_short(video, stride=stride)


def too_short(video: ScoredVideo, *, stride: int = 1) -> list[str]:
    """Return a line if so few frames of a video are visited that none is scored, else nothing."""
    if not video.judged or video.last_counts:
        return []
    if len(visited_frames(video, stride)) >= MIN_FRAMES:
        return []
    return [
        f"{video.name}: {len(video)} frames at stride {stride} leave nothing to score; wanted "
        f"at least {MIN_FRAMES}, as the first and the last are not scored"
    ]
