"""Judge a soup: compare it on select and on report, keep the answer, and draw it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.execution.scoring import Scorer
from orchestrator.planning.protocol import check_scored_videos
from soups.worth import figures
from soups.worth.comparison import Comparison, compared, verdict
from soups.worth.entrants import Entrant, entrants
from soups.records import SoupRecord
from soups.worth.rows import ROWS
from soups.worth.scored import RowScorer
from vosmodels.evaluation.scores import Scores
from vosmodels.support.atomic_files import write_json

logger = logging.getLogger(__name__)

NO_REPORT = (
    "no table on videos that chose nothing: data.report is null in this sweep; name a split with "
    "--report"
)


@dataclass(frozen=True)
class Judgement:
    """The comparisons of a soup by split, and what they lack, in words."""

    record: SoupRecord
    comparisons: Sequence[Comparison]
    remarks: Sequence[str]

    @property
    def verdicts(self) -> list[str]:
        """Return a sentence for every split that has the greedy soup's row."""
        return [said for comparison in self.comparisons if (said := verdict(comparison))]

    def as_dict(self) -> dict[str, Any]:
        """Return the judgement as JSON-able values."""
        return {
            "soup": {"job": self.record.job.key, "sha256": self.record.file.sha256},
            "verdicts": self.verdicts,
            "splits": {c.split: c.as_dict() for c in self.comparisons},
            "remarks": list(self.remarks),
        }

    def keep(self) -> list[Path]:
        """Write JSON, Markdown and figure beside the sweep's results; return the files."""
        start = f"{self.record.started.sweep}-{self.record.job.key}-worth"
        folder = self.record.storage.sweeps
        files = [folder / f"{start}.{suffix}" for suffix in ("json", "md", "png")]
        write_json(files[0], self.as_dict())
        grids = [grid.markdown() for c in self.comparisons for grid in c.grids()]
        files[1].write_text("\n\n".join([*self.verdicts, *grids, *self.remarks]) + "\n")
        figures.draw(self.record, self.comparisons, files[2])
        self.record.storage.mirror.push(files)
        return files


def judge(
    record: SoupRecord,
    config: RunConfig,
    rows: Sequence[str] = ROWS,
    *,
    scorer_of: Callable[[str, ScoringProtocol], RowScorer] | None = None,
) -> Judgement:
    """Score the rows on select, and on report where `config` has one, and compare them.

    config: of the soup, perhaps with another report split. scorer_of: makes what scores on a split;
    by default the network does. Raises InputError before anything is scored where a checkpoint is
    gone or a video cannot be scored.
    """
    protocols = {"select": ScoringProtocol.for_select(config.data)}
    if report := ScoringProtocol.for_report(config.data):
        protocols["report"] = report

    def of_network(split: str, protocol: ScoringProtocol) -> RowScorer:
        check_scored_videos(protocol)
        return RowScorer(Scorer(record.storage, protocol), config.student)

    scorers = {
        split: (scorer_of or of_network)(split, protocol) for split, protocol in protocols.items()
    }

    def known(sha256: str) -> float | None:
        scores: Scores | None = scorers["select"].scorer.known(sha256)
        return None if scores is None else scores.jf

    found, remarks = entrants(record, known, rows)
    comparisons = []
    for split, protocol in protocols.items():
        tell = _Progress(split, len(found))
        scorer = scorers[split]
        chose = chosen_by(record) if split == "select" else ""
        said = f"{protocol.data.root} {protocol.describe()}"
        comparisons.append(
            compared(split, said, found, scorer.score, scorer.cost, chose=chose, tell=tell)
        )
    return Judgement(record, comparisons, [*remarks, *([] if report else [NO_REPORT])])


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
