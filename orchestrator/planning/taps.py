"""Find the taps of dilated convolutions that can never act at the crops of a sweep."""

from __future__ import annotations

from orchestrator.config import RunConfig, SweepConfig
from orchestrator.planning.datasets import staged
from orchestrator.planning.trials import trials
from vosmodels import registry
from vosmodels.spacetime.configs import MobileVOSConfig

STRIDE = 16  # of the maps that ASPP sees


def dead_taps(config: SweepConfig) -> list[str]:
    """List the students' ASPP rates whose outer taps see padding alone at all crops they train at.

    On a map of n x n positions a 3x3 convolution of rate n or more reads nothing but zeros beside
    its middle: its outer taps get no gradient, and weight decay takes them to 0.
    """
    lines = {_line(trial.config): None for trial in trials(config)}
    return [line for line in lines if line]


def _line(run: RunConfig) -> str:
    model = registry.config(run.student.name, **run.student.options)
    if not isinstance(model, MobileVOSConfig) or model.aspp_channels is None:
        return ""
    crops = [stage.train.crop for stage in staged(run) if stage.train.steps]
    if run.stages is None and run.stem.steps:
        crops.append(run.stem.crop or run.train.crop)
    positions = max(crops, default=0) // STRIDE
    dead = [rate for rate in model.aspp_rates if rate >= positions]
    if not dead or not crops:
        return ""
    rates = ", ".join(map(str, dead))
    return (
        f"student {run.student.name}: aspp_rates {rates}: a crop of {max(crops)} px has "
        f"{positions}x{positions} positions, at which a rate of {positions} or more sees padding "
        "alone and learns nothing; smaller ones: student.options.aspp_rates=[2,4,6]"
    )
