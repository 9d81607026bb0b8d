"""Say how weights are scored: on which videos, at which size, on which frames."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.sections import DataConfig
from vosmodels.data import split_file


@dataclass(frozen=True)
class ScoringProtocol:
    """Scores are comparable where their protocols are equal.

    data: the folder `split` is of; height: rows that frames and masks are scaled down to before
    anything is run or scored, None for full size; stride: every so many frames are visited;
    rows: rows the network sees of a frame that is scored at its own size, None for all.
    """

    data: DataConfig
    split: str
    height: int | None = None
    stride: int = 1
    rows: int | None = None

    @classmethod
    def for_select(cls, data: DataConfig) -> ScoringProtocol:
        """Return the protocol that checkpoints, trials and soups are chosen by."""
        return cls(data, data.select, height=data.select_height, stride=data.select_stride)

    @classmethod
    def for_report(cls, data: DataConfig) -> ScoringProtocol | None:
        """Return the protocol of the scores at the end; None where `data.report` is null."""
        if not data.report:
            return None
        return cls(data, data.report, rows=data.report_height)

    def describe(self) -> str:
        """Return split, size and frames in words, such as `val, at most 240 px high, stride 2`."""
        split = split_file.label(self.split)
        if self.height is not None:
            return f"{split}, at most {self.height} px high, stride {self.stride}"
        frames = "every frame" if self.stride == 1 else f"stride {self.stride}"
        seen = f", of which the network sees {self.rows} rows" if self.rows else ""
        return f"{split} at full size, {frames}{seen}"
