"""Test the figures of one sweep, read back from matplotlib and as files."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.reporting.sweep_figures import Cost, draw_costs, draw_losses
from orchestrator.tracking.events import Losses

CURVES = {
    "cka": [
        Losses(10, {"total": 3.0, "ce": 2.0, "attention": 1.0, "grad_norm": 9.0}),
        Losses(20, {"total": 2.0, "ce": 1.5, "attention": 0.5, "ignored": 0.1}),
    ],
    "plain": [Losses(10, {"total": 2.5, "ce": 2.5}), Losses(20, {"total": 1.0, "ce": 1.0})],
}
COSTS = [
    Cost("untrained student", "anchor", 0.1, 80.0, 9.0),
    Cost("teacher", "teacher", 0.8, 300.0, 2.0),
    Cost("omega=0.5", "trial", 0.7, 80.0, None),
]


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that were saved."""
    kept = []
    save = Figure.savefig

    def savefig(self, *words, **options):
        kept.append(self)
        save(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return kept


def test_every_loss_has_a_panel_with_the_lines_of_the_trials_that_have_it(drawn, tmp_path):
    path = tmp_path / "a" / "losses.png"
    assert draw_losses(CURVES, path)
    panels = {axes.get_title(): axes for axes in drawn[0].axes}
    assert list(panels) == ["total", "ce", "attention"]
    lines = {
        (title, line.get_label()): [*map(tuple, line.get_xydata().tolist())]
        for title, axes in panels.items()
        for line in axes.lines
    }
    assert lines == {
        ("total", "cka"): [(10, 3.0), (20, 2.0)],
        ("total", "plain"): [(10, 2.5), (20, 1.0)],
        ("ce", "cka"): [(10, 2.0), (20, 1.5)],
        ("ce", "plain"): [(10, 2.5), (20, 1.0)],
        ("attention", "cka"): [(10, 1.0), (20, 0.5)],
    }
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["cka", "plain"]
    for axes in panels.values():
        colours = {line.get_label(): line.get_color() for line in axes.lines}
        assert colours["cka"] == panels["total"].lines[0].get_color()
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert path.stat().st_size < 200_000


def test_the_same_losses_make_the_same_file_and_none_make_no_file(tmp_path):
    one, two = tmp_path / "1.png", tmp_path / "2.png"
    assert draw_losses(CURVES, one)
    assert draw_losses(CURVES, two)
    assert one.read_bytes() == two.read_bytes()
    assert not draw_losses({"plain": []}, tmp_path / "3.png")
    assert not draw_costs([], tmp_path / "3.png", where="here")
    assert not (tmp_path / "3.png").exists()


def test_a_single_value_can_be_seen(drawn, tmp_path):
    draw_losses({"short": [Losses(4, {"ce": 2.0})]}, tmp_path / "one.png")
    (line,) = drawn[0].axes[0].lines
    assert line.get_marker() == "."


def test_a_legend_of_many_trials_names_some_and_counts_the_rest(drawn, tmp_path):
    curves = {f"trial {n}": [Losses(1, {"ce": n})] for n in range(20)}
    draw_losses(curves, tmp_path / "many.png")
    (legend,) = drawn[0].legends
    assert len(legend.get_texts()) == 16
    assert legend.get_title().get_text() == "and 4 more"
    assert len({line.get_color() for line in drawn[0].axes[0].lines}) == 20


def test_scores_stand_against_memory_and_against_measured_speed(drawn, tmp_path):
    path = tmp_path / "costs.png"
    assert draw_costs(COSTS, path, where="on one core")
    memory, speed = drawn[0].axes
    points = [
        {line.get_label(): tuple(line.get_xydata()[0].tolist()) for line in axes.lines}
        for axes in (memory, speed)
    ]
    assert points[0] == {
        "untrained student": (80.0, 0.1),
        "teacher": (300.0, 0.8),
        "omega=0.5": (80.0, 0.7),
    }
    assert points[1] == {"untrained student": (9.0, 0.1), "teacher": (2.0, 0.8)}
    assert speed.get_xlabel() == "frames a second, on one core"
    assert "MiB" in memory.get_xlabel()
    for axes, most in ((memory, 300.0), (speed, 9.0)):
        low, high = axes.get_xlim()
        assert low == 0
        assert most < high < 1.2 * most
    assert path.stat().st_size < 200_000


def test_without_a_measured_speed_there_is_one_panel(drawn, tmp_path):
    draw_costs(COSTS[2:], tmp_path / "costs.png", where="nowhere")
    assert len(drawn[0].axes) == 1
