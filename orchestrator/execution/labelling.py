"""Label training videos by a teacher: segment each once, and keep its masks in the storage.

The masks of a video are named by what they come from: the teacher's weights, the video with its
given masks, and the rows that the teacher sees. Jobs and sweeps that share a storage share them,
also while they run: each takes a video that no other is at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from orchestrator.config.content_key import digest
from orchestrator.config.models import TeacherConfig
from orchestrator.execution.teachers import load_teacher, teacher_file
from orchestrator.planning.datasets import Teach, Unlabelled
from orchestrator.planning.plan import Job, Plan, videos_segmented, videos_taught
from orchestrator.tracking import events, leases
from orchestrator.tracking.leases import Held
from orchestrator.tracking.ledger import JobRecord, Ledger
from orchestrator.tracking.storage import Storage
from orchestrator.training.distributed import Workers
from vosmodels import registry
from vosmodels.data.mask_folder import MaskFolder
from vosmodels.data.teacher_masks import CERTAIN, StoredMasks, TaughtVideo, doubtful, write
from vosmodels.errors import InputError
from vosmodels.inference.fold import for_inference
from vosmodels.inference.scaled import ScaledSegmenter
from vosmodels.inference.segmenter import VideoSegmenter
from vosmodels.inference.soft_masks import soft_masks
from vosmodels.model import VideoModel
from vosmodels.support.atomic_files import read_json, write_json
from vosmodels.support.digests import sha256_of
from vosmodels.support.paths import expanded
from vosmodels.types import U8

logger = logging.getLogger(__name__)

VERSION = 1  # raise it when the same teacher would make other masks of the same video
WAIT_S = 5.0  # for a video that another process segments, before the watchdog is told again


def labels_of(
    job: Job, storage: Storage, workers: Workers, record: JobRecord | None
) -> Teach | None:
    """Make the labels of a job's videos, or wait until another job has made them.

    Returns what gives each video its labels; None where the job reads none of a teacher, or the
    teacher labels each clip in its step. record: None on ranks above 0. Raises InputError where
    teacher, video or masks cannot be read.
    """
    if not job.taught:
        return None
    videos = videos_taught(job)
    config = job.config.teacher
    taught = partial(
        events.Taught,
        segments=config.segments,
        targets=config.targets,
        threshold=config.threshold,
        videos=len(videos),
    )
    if config.masks is not None:
        folder = MaskFolder(expanded(config.masks))
        if record:
            record.write(taught(teacher=config.masks, segments="masks"))
        return partial(_of_folder, folder)
    name = f"{config.name} {teacher_file(job, storage)[0]}"
    if config.segments == "clip":
        if record:
            record.write(taught(teacher=name))
        return None
    model, sha256 = load_teacher(job, storage)
    cache = MaskCache(storage, config, sha256, model, workers.device, workers.alive)
    made = cache.make(
        videos, lambda done, of: record.write(events.Segmented(done, of)) if record else None
    )
    ignored = cache.ignored(videos, config.threshold)
    if record:
        record.write(taught(teacher=name, ignored=ignored))
        logger.info(
            "%s: labels of %d videos by %s, %d segmented now; %.2f %% of the pixels below the "
            "threshold %g",
            job.name,
            len(videos),
            name,
            made,
            100 * ignored,
            config.threshold,
        )
    return partial(_of_cache, {each.key: cache.path(each) for each in videos}, config)


def labels_of_plan(plan: Plan, storage: Storage) -> list[str]:
    """Say which labels each teacher makes for a plan's jobs, and how many videos are left."""
    said: dict[str, list[Job]] = {}
    for job in plan.jobs:
        if not (videos := videos_taught(job)):
            continue
        config, of = job.config.teacher, f"labels of {_videos(len(videos))}"
        if config.masks is not None:
            how = f"the masks in {config.masks}"
        elif job.labels_clips:
            how = f"{config.name} on each clip, in its step"
        else:
            how = f"{config.name} {f'at {config.rows} rows' if config.rows else 'at full size'}"
        said.setdefault(f"{of}: {how}", []).append(job)
    return [
        f"{text}, {_videos(len(left_to_segment(jobs, storage)))} left to segment"
        if videos_segmented(jobs[0])
        else text
        for text, jobs in said.items()
    ]


def _videos(count: int) -> str:
    return f"{count} video{'s' * (count != 1)}"


def left_to_segment(jobs: Sequence[Job], storage: Storage) -> dict[str, tuple[Job, Unlabelled]]:
    """Return the videos that jobs have to segment before they train, each once, with a job.

    All of them where the teacher is not trained yet, else those without masks in the storage.
    """
    left: dict[str, tuple[Job, Unlabelled]] = {}
    known: dict[tuple[str | None, str | None], str] = {}  # sha256 by what names the teacher
    for job in jobs:
        config, videos = job.config.teacher, videos_segmented(job)
        made_by = (job.needs.get("teacher"), config.weights)
        if videos and made_by not in known:
            known[made_by] = _sha256_of_teacher(job, storage)
        sha256 = known.get(made_by, "")
        cache = MaskCache(storage, config, sha256)
        for each in videos:
            if not (sha256 and cache.recorded(each)):
                left.setdefault(cache.path(each).stem, (job, each))
    return left


def _sha256_of_teacher(job: Job, storage: Storage) -> str:
    """Return the sha256 of the teacher's weights; empty where it is still to be trained."""
    if "teacher" in job.needs and Ledger.of(storage).job(job.needs["teacher"]).state != "done":
        return ""
    return teacher_file(job, storage)[0]


def _of_folder(folder: MaskFolder, each: Unlabelled) -> TaughtVideo:
    return TaughtVideo(each.video, folder.of(each.video))


def _of_cache(paths: dict[str, Path], config: TeacherConfig, each: Unlabelled) -> TaughtVideo:
    masks = StoredMasks(paths[each.key])
    return TaughtVideo(each.video, masks, config.threshold, config.targets == "soft")


@dataclass(frozen=True)
class MaskCache:
    """The masks of a teacher under a storage folder.

    sha256: of the weights; model: the network, needed to segment; alive: called after every frame.
    """

    storage: Storage
    teacher: TeacherConfig
    sha256: str
    model: VideoModel | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    alive: Callable[[], None] = lambda: None

    def path(self, each: Unlabelled) -> Path:
        """Return the file of a video's masks."""
        name, rows = self.teacher.name, self.teacher.rows
        options = registry.config(name, **self.teacher.options).model_dump(mode="json")
        key = digest([VERSION, name, options, self.sha256, rows, each.key])
        return self.storage.masks / f"{key}.npz"

    def recorded(self, each: Unlabelled) -> bool:
        """Return True if a video's masks were written, whether they are whole or not."""
        return self.path(each).is_file() and self._record(each).is_file()

    def make(self, videos: Sequence[Unlabelled], on_done: Callable[[int, int], None]) -> int:
        """Segment the videos whose masks are not there, or are not what was written.

        on_done(done, of): called after each video. Returns how many were segmented here; those that
        another process is at are waited for, and taken over where it ends without them.
        """
        self.storage.masks.mkdir(parents=True, exist_ok=True)
        for each in videos:
            self.storage.mirror.fetch(self.path(each), self._record(each))
        left = [each for each in videos if not self._is_whole(each)]
        of, done, made, wait = len(left), 0, 0, 0.0
        while left:
            busy = []
            for each in left:
                self.alive()
                try:
                    with FileLock(self.path(each).with_suffix(".lock")).acquire(timeout=wait):
                        made += self._segment_once(each, wait)
                except (Timeout, Held):
                    busy.append(each)
                    continue
                done += 1
                on_done(done, of)
            left, wait = busy, WAIT_S
        return made

    def ignored(self, videos: Sequence[Unlabelled], threshold: float) -> float:
        """Return the share of the pixels after the first frames that is below a threshold."""
        counts = np.zeros(CERTAIN + 1, dtype=np.int64)
        for each in videos:
            counts += np.array(read_json(self._record(each))["confidence"])
        below = doubtful(np.arange(CERTAIN + 1, dtype=np.uint8), threshold)
        return float(counts[below].sum() / max(1, counts.sum()))

    def _segment_once(self, each: Unlabelled, wait_s: float) -> bool:
        """Segment a video, unless another process has; return whether it was done here."""
        mirror = self.storage.mirror
        with leases.held(mirror, f"masks-{self.path(each).stem}", wait_s):
            mirror.pull(self.path(each), self._record(each))
            if self._is_whole(each):
                return False
            self._segment(each)
            mirror.push([self.path(each), self._record(each)])
        return True

    @cached_property
    def _ready(self) -> VideoModel:
        assert self.model is not None
        return for_inference(self.model).to(self.device)

    def _record(self, each: Unlabelled) -> Path:
        return self.path(each).with_suffix(".json")

    def _is_whole(self, each: Unlabelled) -> bool:
        """Compare the file with its sha256; a file that is another is named in a warning."""
        path = self.path(each)
        try:
            saved = read_json(self._record(each))
            if saved is None:
                return False
            whole = len(saved["confidence"]) == CERTAIN + 1 and sha256_of(path) == saved["sha256"]
            reason = "another sha256 than was written"
        except (InputError, KeyError, TypeError) as error:
            whole, reason = False, str(error)
        if not whole:
            logger.warning("%s: not the masks that were written (%s); anew", path, reason)
        return whole

    def _segment(self, each: Unlabelled) -> None:
        """Segment a video and write its masks, then the record that vouches for them."""
        video, path = each.video, self.path(each)
        network = VideoSegmenter(self._ready)
        rows = self.teacher.rows
        segmenter = network if rows is None else ScaledSegmenter(network, rows)

        def frames() -> Iterator[U8]:
            for planes in soft_masks(segmenter, video):
                self.alive()
                yield planes

        counts = write(path, sorted(video.begins), frames())
        record = {
            "sha256": sha256_of(path),
            "teacher": {"name": self.teacher.name, "sha256": self.sha256, "rows": rows},
            "video": {"name": video.name, "key": each.key, "frames": len(video)},
            "confidence": counts.tolist(),
        }
        write_json(self._record(each), record)
