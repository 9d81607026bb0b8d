"""Group trials that can train in lock-step: those that learn from the same batches and teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from orchestrator.config.content_key import digest
from orchestrator.planning.plan import Job

Group = tuple[Job, ...]


def kin(job: Job) -> str:
    """Return the digest of what the jobs of a group share: all but the settings of the loss.

    Of the loss they share what it reads: labels, the teacher, and which of its intermediates,
    since a network that is watched may compute in another order. Teachers and stems stand alone.
    """
    if job.role != "trial":
        return job.key
    config = job.config.model_dump(mode="json", exclude={"loss"})
    watched = sorted({name for term in job.loss.terms() for name in term.teacher_names})
    read = [job.labels, job.taught, job.labels_clips, job.teaches, watched]
    return digest([config, job.needs, job.seed, job.threads, read])


def grouped(
    jobs: Sequence[Job],
    students: int | Literal["auto"],
    at_once: int,
    fits: Callable[[Sequence[Group]], bool] = lambda groups: True,
) -> list[Group]:
    """Divide jobs into groups that train in lock-step, in the order of their first jobs.

    students: most jobs of a group; auto: as many as leave `at_once` groups to run side by side,
    since a core without work would cost more than a teacher that runs once more, and as `fits`
    says that the memory has room for.
    """
    if students != "auto":
        return _divided(jobs, students)
    size = max(1, -(-len(jobs) // at_once))
    while size > 1 and not fits(groups := _divided(jobs, size)):
        size = max(map(len, groups)) - 1
    return _divided(jobs, size)


def _divided(jobs: Sequence[Job], most: int) -> list[Group]:
    """Divide kin into groups of at most `most`, which differ by one job at most."""
    families: dict[str, list[Job]] = {}
    for job in jobs:
        families.setdefault(kin(job), []).append(job)
    groups = []
    for family in families.values():
        count = -(-len(family) // most)
        groups += [
            tuple(family[n * len(family) // count : (n + 1) * len(family) // count])
            for n in range(count)
        ]
    place = {job.key: number for number, job in enumerate(jobs)}
    return sorted(groups, key=lambda group: place[group[0].key])
