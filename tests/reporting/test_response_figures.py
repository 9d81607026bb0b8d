"""Test the figures of what swept keys do to J&F, read back from matplotlib."""

from itertools import product
from statistics import stdev

import pytest
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.reporting.response_figures import (
    Measured,
    draw_parallel,
    draw_response,
    numbered_key,
)

OMEGA = {0.8: (0.68, 0.72), 0.0: (0.5, 0.6), 0.2: (0.6, 0.6)}  # two repeats each
TRIALS = [
    Measured({"omega": omega}, repeat, jf)
    for omega, jfs in OMEGA.items()
    for repeat, jf in enumerate(jfs)
]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    kept = []
    save = Figure.savefig

    def savefig(self, *words, **options):
        kept.append(self)
        save(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return kept


def bars_of(axes):
    """Points of the curve and half the lengths of their bars."""
    (container,) = axes.containers
    line, _, (bars,) = container
    half = [(top - bottom) / 2 for (_, bottom), (_, top) in bars.get_segments()]
    return line.get_xydata().tolist(), half


def test_the_curve_of_a_key_has_the_mean_and_spread_of_its_repeats(drawn, tmp_path):
    levels = {"stem": 0.4}
    assert draw_response(TRIALS, tmp_path / "r.png", title="best omega=0.8", levels=levels)
    (axes,) = drawn[0].axes
    points, half = bars_of(axes)
    assert points == [pytest.approx(p) for p in ([0.0, 0.55], [0.2, 0.6], [0.8, 0.7])]
    assert half == pytest.approx([stdev(OMEGA[0.0]), 0.0, stdev(OMEGA[0.8])])
    thin = [line for line in axes.lines if line.get_linewidth() == 1 and len(line.get_xdata()) == 3]
    assert [line.get_ydata().tolist() for line in thin] == [[0.5, 0.6, 0.68], [0.6, 0.6, 0.72]]
    (star,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert star.get_xydata().tolist() == [pytest.approx([0.8, 0.7])]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["0.8: .700", " stem"]
    assert (axes.get_xlabel(), drawn[0].get_suptitle()) == ("omega", "best omega=0.8")
    with Image.open(tmp_path / "r.png") as picture:
        assert min(picture.size) > 200


def test_values_that_are_no_numbers_stand_side_by_side_in_their_order(drawn, tmp_path):
    trials = [
        Measured({"sampling": s}, 0, jf) for s, jf in (("boundary", 0.5), ("all", 0.6), (True, 0.4))
    ]
    draw_response(trials, tmp_path / "r.png", title="", levels={})
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["boundary", "all", "true"]
    assert axes.containers[0][0].get_ydata().tolist() == [0.5, 0.6, 0.4]


def test_two_numeric_keys_have_a_surface_and_each_a_curve_of_means(drawn, tmp_path):
    grid = {(o, t): o / 2 + t for o, t in product((0.0, 1.0), (0.1, 0.2, 0.4))}
    trials = [Measured({"omega": o, "tau": t}, 0, jf) for (o, t), jf in grid.items()]
    draw_response(trials, tmp_path / "r.png", title="", levels={})
    omega, tau, surface, _ = drawn[0].axes  # the last is the bar of colours
    assert omega.containers[0][0].get_ydata() == pytest.approx([0.7 / 3, 0.5 + 0.7 / 3])
    assert tau.containers[0][0].get_ydata() == pytest.approx([0.35, 0.45, 0.65])
    (image,) = surface.images
    assert image.get_array().tolist() == [
        pytest.approx([grid[o, t] for o in (0.0, 1.0)]) for t in (0.1, 0.2, 0.4)
    ]
    assert (surface.get_xlabel(), surface.get_ylabel()) == ("omega", "tau")


def test_places_that_are_no_grid_are_points_of_the_surface(drawn, tmp_path):
    trials = [Measured({"omega": n / 10, "lr": 10.0**-n}, 0, n / 10) for n in range(1, 5)]
    draw_response(trials, tmp_path / "r.png", title="", levels={})
    *_, surface, _ = drawn[0].axes
    (points,) = surface.collections
    assert points.get_array().tolist() == [0.1, 0.2, 0.3, 0.4]
    assert surface.get_yscale() == "log"
    assert surface.get_xscale() == "linear"


def test_three_keys_have_parallel_coordinates_whose_best_line_is_thick(drawn, tmp_path):
    trials = [
        Measured({"omega": o, "tau": t, "sampling": s}, repeat, o + t + (s == "all"))
        for o, t, s, repeat in product((0.0, 0.5, 1.0), (0.1, 0.2), ("boundary", "all"), (0, 1))
    ]
    assert draw_parallel(trials, tmp_path / "p.png", title="")
    (axes,) = drawn[0].axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 12  # repeats are one line
    (thick,) = [line for line in lines if line.get_linewidth() > 2]
    assert list(thick.get_ydata()) == [1.0, 1.0, 1.0, 1.0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["omega", "tau", "sampling", "select J&F"]


def test_nothing_is_drawn_of_what_does_not_vary(tmp_path):
    same = [Measured({"omega": 0.5, "tau": 0.1}, repeat, 0.5) for repeat in (0, 1)]
    assert not draw_response(same, tmp_path / "r.png", title="", levels={})
    assert not draw_parallel(TRIALS, tmp_path / "p.png", title="")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("points", "key"),
    [
        (
            {"ce": {"loss.logit": 0.0}, "a": {"loss.omega": 0.2}, "b": {"loss.omega": 1}},
            "loss.omega",
        ),
        ({"a": {"loss.omega": 0.2}, "b": {"loss.omega": 0.2}}, None),
        ({"a": {"loss.omega": 0.2, "loss.tau": 1}, "b": {"loss.omega": 1, "loss.tau": 2}}, None),
        ({"a": {"teacher.targets": "soft"}, "b": {"teacher.targets": "hard"}}, None),
        ({}, None),
    ],
)
def test_the_key_of_a_curve_is_the_only_one_that_points_set_to_several_numbers(points, key):
    assert numbered_key(points) == key
