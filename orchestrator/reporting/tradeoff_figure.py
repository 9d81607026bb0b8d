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
    for number, row in enumerate(values["rows"]):
        whole = row["precision"] == "fp32"
        axes.plot(
            [row["median_ms"]],
            [100 * row["jf"]],
            "o" if whole else "s",
            color=f"C{number % 10}",
            markerfacecolor=f"C{number % 10}" if whole else "none",
            markersize=6 if whole else 9,
            label=f"{row['memory']}, {row['precision']}",
        )
    for marker, (name, ms, jf) in zip("*P", PUBLISHED, strict=True):
        axes.plot([ms], [jf], marker, color="0.5", markersize=10, label=f"published: {name}")
    axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
    machine = f"{threads(values)} of {values['machine']}"
    axes.set_xlabel(f"ms a frame; {values['model']}: {values['size']}, {machine}", fontsize="small")
    axes.set_ylabel(f"J&F in %; {values['model']}: {Path(values['split']).name}", fontsize="small")
    axes.set_title(
        "Published points are of other machines and other videos: no comparison", fontsize="small"
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    save(figure, path)
