"""Define a scoring protocol: the videos, size and frames of a score."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.data import DataConfig
from vosmodels.data import split_file


@dataclass(frozen=True)
class ScoringProtocol:
    """Split, size and frames of a score; scores compare if their protocols are equal.

    data: section of the dataset that has `split`; height: rows that frames and masks are scaled
    down to before segmenting and scoring, None for full size; stride: every `stride`-th frame is
    segmented; rows: rows of the network's input for masks scored at full size, None for all.
    """

    data: DataConfig
    split: str
    height: int | None = None
    stride: int = 1
    rows: int | None = None

    @classmethod
    def for_select(cls, data: DataConfig) -> ScoringProtocol:
        """Return the protocol by which checkpoints, trials and soups are chosen."""
        own = data.of_select
        return cls(own, data.select, height=data.select_height, stride=data.select_stride)

    @classmethod
    def for_report(cls, data: DataConfig) -> ScoringProtocol | None:
        """Return the protocol of the final scores; None where `data.report` is null."""
        if not data.report:
            return None
        return cls(data, data.report, rows=data.report_height)

    def describe(self) -> str:
        """Describe the protocol, for example `val, at most 240 px high, stride 2`."""
        split = split_file.label(self.split)
        if pasted := self.data.composites:
            split += f" with the objects of {pasted} more in each video"
        if self.height is not None:
            return f"{split}, at most {self.height} px high, stride {self.stride}"
        frames = "every frame" if self.stride == 1 else f"stride {self.stride}"
        seen = f", of which the network sees {self.rows} rows" if self.rows else ""
        return f"{split} at full size, {frames}{seen}"
