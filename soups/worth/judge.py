"""Judge soups: compare them on select and on report, keep the answer, and draw it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.config.content_key import digest
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer
from orchestrator.planning.protocol import check_scored_videos, protocol_key
from soups.recalibration import Recalibration
from soups.records import SoupRecord
from soups.select_scores import threads_of
from soups.worth import figures
from soups.worth.comparison import Comparison, Table, compared, verdict
from soups.worth.entrants import MEANS, Entrant, entrants
from soups.worth.rows import ROWS
from soups.worth.scored import RowScorer
from vosmodels.errors import InputError
from vosmodels.evaluation.scores import Scores
from vosmodels.support.atomic_files import write_json

logger = logging.getLogger(__name__)

NO_REPORT = (
    "no table on videos that chose nothing: data.report is null in this sweep; name a split with "
    "--report"
)


@dataclass(frozen=True)
class Judgement:
    """The comparisons of one soup, or of several together, by split, and what they lack, in words.

    address: command, commit, machine and date of the figures.
    """

    records: Sequence[SoupRecord]
    comparisons: Sequence[Comparison]
    remarks: Sequence[str]
    address: Mapping[str, str]

    @property
    def verdicts(self) -> list[str]:
        """Return a sentence for every split that has the greedy soup's row."""
        return [said for comparison in self.comparisons if (said := verdict(comparison))]

    def as_dict(self) -> dict[str, Any]:
        """Return the judgement as JSON-able values."""
        return {
            "soups": [
                {
                    "job": record.job.key,
                    "sha256": record.file.sha256,
                    "sweep": record.started.sweep,
                    "experiment": record.started.experiment,
                    "seed": record.config.seed,
                    "ingredients": [member.name for member in record.members],
                    "pool": len(set(record.pool)),
                    "geometry": record.souped.geometry,
                }
                for record in self.records
            ],
            "verdicts": self.verdicts,
            "splits": {c.split: c.as_dict() for c in self.comparisons},
            "remarks": list(self.remarks),
            **self.address,
        }

    def keep(self, out: Path | None = None) -> list[Path]:
        """Write JSON and Markdown, and of one soup its figure; return the files.

        What an earlier answer of that name wrote is replaced, its figure by none if there is none.
        out: the JSON's path, beside which the others go; by default beside the results of the
        (first) soup's sweep.
        """
        first = self.records[0]
        keys = [record.job.key for record in self.records]
        name = keys[0] if len(keys) == 1 else digest(keys)
        path = out or first.storage.sweeps / f"{first.started.sweep}-{name}-worth.json"
        files, figure = [path, path.with_suffix(".md")], path.with_suffix(".png")
        write_json(path, self.as_dict())
        files[1].write_text(self._markdown())
        if len(self.records) == 1:
            files.append(figure)
            figures.draw(first, self.comparisons, figure)
        else:
            figure.unlink(missing_ok=True)
        if out is None:
            first.storage.mirror.push(files)
        return files

    def _markdown(self) -> str:
        grids = [grid.markdown() for c in self.comparisons for grid in c.grids()]
        address = "`{command}` · commit {commit} · {machine} · {date}".format(**self.address)
        return "\n\n".join([*self.verdicts, *grids, *self.remarks, address]) + "\n"


def judge(
    soups: Sequence[tuple[SoupRecord, RunConfig]],
    rows: Sequence[str] = ROWS,
    *,
    address: Mapping[str, str],
    scorer_of: Callable[[SoupRecord, str, ScoringProtocol], RowScorer] | None = None,
) -> Judgement:
    """Score the rows on select, and on report where the configurations have one, and compare them.

    soups: each with its configuration, perhaps with another report split; several are compared
    together, each with its own best single checkpoint. scorer_of: makes what scores on a split; by
    default the network does. Raises InputError before anything is scored where the soups were
    chosen or report on different videos, a checkpoint is gone or a video cannot be scored.
    """
    first, config = soups[0]
    protocols = _protocols(config)
    for other, others in soups[1:]:
        if _keys(_protocols(others)) != _keys(protocols):
            raise InputError(
                f"{first.job.path} and {other.job.path}: soups of different videos or sizes have "
                "no common table; judge them one by one"
            )

    def of_network(record: SoupRecord, split: str, protocol: ScoringProtocol) -> RowScorer:
        check_scored_videos(protocol)
        threads = threads_of(record.storage, record.started.sweep)
        return RowScorer(Scorer(record.storage, protocol), record.config.student, threads)

    scorers = [
        {split: (scorer_of or of_network)(record, split, p) for split, p in protocols.items()}
        for record, _ in soups
    ]
    found, remarks = [], list[str]()
    for (record, _), scorer in zip(soups, scorers, strict=True):
        known = _known(scorer["select"])
        listed, lacking = entrants(record, known, rows, settled_by(record, rows))
        found.append(listed)
        remarks += [said for said in lacking if said not in remarks]
    comparisons = []
    for split, protocol in protocols.items():
        tables = [
            Table(listed, scorer[split].score, scorer[split].cost)
            for listed, scorer in zip(found, scorers, strict=True)
        ]
        tell = _Progress(split, sum(map(len, found)))
        chose = chosen_by(first) if split == "select" else ""
        said = f"{protocol.data.root} {protocol.describe()}"
        comparisons.append(compared(split, said, tables, chose=chose, tell=tell))
    if "report" not in protocols:
        remarks.append(NO_REPORT)
    return Judgement([record for record, _ in soups], comparisons, remarks, address)


def settled_by(record: SoupRecord, rows: Sequence[str] = ROWS) -> Recalibration | None:
    """Return what gave the means of a soup's search their BatchNorm statistics; None: nothing did.

    Raises InputError where a row is such a mean and the clips of these statistics are not here.
    """
    key = record.souped.search.get("bn")
    means = [row for row in MEANS if row in rows]
    if not key or not means:
        return None
    others = ",".join(row for row in rows if row not in means)
    left_out = f"leave the rows {', '.join(means)} out: --rows {others}"
    try:
        anew = Recalibration.of(record.config)
    except InputError as error:
        raise InputError(f"{record.job.path}: {error}; or {left_out}") from error
    if anew.key != key:
        raise InputError(
            f"{record.job.path}: its means got BatchNorm statistics from the clips of another "
            f"stem than its configuration has ({key}, not {anew.key}): {left_out}"
        )
    return anew


def _protocols(config: RunConfig) -> Mapping[str, ScoringProtocol]:
    """Map each split that scores to how it does."""
    protocols = {"select": ScoringProtocol.for_select(config.data)}
    if report := ScoringProtocol.for_report(config.data):
        protocols["report"] = report
    return protocols


def _keys(protocols: Mapping[str, ScoringProtocol]) -> Mapping[str, object]:
    return {split: protocol_key(protocol) for split, protocol in protocols.items()}


def _known(scorer: RowScorer) -> Callable[[str], float | None]:
    """Return what knows the J&F of checkpoints that were scored before."""

    def known(sha256: str) -> float | None:
        scores: Scores | None = scorer.scorer.known(sha256)
        return None if scores is None else scores.jf

    return known


def chosen_by(record: SoupRecord) -> str:
    """Say what the videos of select have chosen."""
    kind = "training videos" if record.souped.chosen_on == "train" else "videos"
    return f"These {kind} chose the best checkpoint and the soup's ingredients"


class _Progress:
    """Logs every row as it is scored."""

    def __init__(self, split: str, count: int) -> None:
        self._split, self._count, self._done = split, count, 0

    def __call__(self, entrant: Entrant, jf: float) -> None:
        self._done += 1
        logger.info(
            "%s, row %d of %d: %s: J&F %.4f",
            *(self._split, self._done, self._count),
            entrant.name,
            jf,
        )
