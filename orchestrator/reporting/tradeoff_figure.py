"""Draw the J&F of a student's exports against their milliseconds."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from orchestrator.reporting.sweep_figures import save
from orchestrator.reporting.tradeoff import Tradeoff, threads

# (what, ms a frame, J&F in %): MobileVOS without ASPP, arXiv:2303.07815, abstract and Table 1, a
# queue of two; EdgeTAM, arXiv:2501.07256, 15.7 frames a second.
PUBLISHED = (
    ("MobileVOS MobileNetV2, Galaxy S22, DAVIS-2016 val", 32.0, 90.1),
    ("EdgeTAM, iPhone 15 Pro Max, DAVIS-2017 val", 1000 / 15.7, 87.7),
)


def draw(values: Tradeoff, path: Path) -> None:
    """Draw J&F against milliseconds; published points of other machines and videos are grey."""
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.add_subplot()
    whole = [row for row in values["rows"] if row["precision"] == "fp32"]
    whole.sort(key=lambda row: row["median_ms"])
    axes.plot(
        [row["median_ms"] for row in whole],
        [100 * row["jf"] for row in whole],
        "o-",
        label=f"{values['model']}, by memory: {values['machine']}",
    )
    for row in whole:
        place = (row["median_ms"], 100 * row["jf"])
        axes.annotate(
            row["memory"], place, (0, -8), textcoords="offset points", fontsize="small",
            rotation=-50, ha="left", va="top", rotation_mode="anchor",
        )  # fmt: skip
    for marker, row in zip(
        "sD^v", (r for r in values["rows"] if r["precision"] != "fp32"), strict=False
    ):
        label = f"{row['precision']} weights, {row['memory']}"
        axes.plot(
            [row["median_ms"]], [100 * row["jf"]], marker, label=label, markerfacecolor="none"
        )
    for marker, (name, ms, jf) in zip("*P", PUBLISHED, strict=True):
        axes.plot([ms], [jf], marker, color="0.5", markersize=10, label=f"published: {name}")
    axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
    axes.set_xlabel(f"ms a frame; ours {values['size']}, {threads(values)} of a CPU")
    axes.set_ylabel("J&F in %; ours on " + values["split"])
    axes.set_title(
        "Published points are of other machines and other videos: no comparison", fontsize="small"
    )
    axes.grid(alpha=0.3)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.25 * (high - low), high)  # for the names of memories
    figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    save(figure, path)
