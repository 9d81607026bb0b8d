"""Test figures, read back from matplotlib and as files."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from PIL import Image

from orchestrator.reporting import figures
from orchestrator.reporting.results import Row
from orchestrator.reporting.seeds import SeedTable
from tests.tables import both, config, run, unreported


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a table; the axes of its panels and the file."""
    kept = []

    save = Figure.savefig

    def savefig(self, *words, **options):
        kept.append(self)
        save(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)

    def draw(*runs):
        kept.clear()
        table = SeedTable("t", {one.config["seed"]: one for one in runs})
        path, *over_key = figures.draw(table, tmp_path / "t.json")
        assert [file.is_file() for file in (path, *over_key)] == [True] * len(kept)
        return kept[-1 if over_key else 0].axes, path

    return draw


def test_the_panels_hold_every_seed_the_course_and_the_shares(drawn):
    (scores, course, errors), path = drawn(run(0), run(1, taught=(0.8, 0.8, 0.8)))
    dots = {tuple(line.get_xdata()) for line in scores.lines if line.get_marker() == "o"}
    assert {tuple(round(x, 6) for x in xs) for xs in dots} == {(0.6, 0.6), (0.6, 0.8)}
    assert [tick.get_text() for tick in scores.get_yticklabels()] == ["plain", "taught"]
    assert [list(line.get_xdata()) for line in course.lines] == [[45.0, 90.0], [45.5, 91.0]]
    assert [bar.get_height() for bar in errors.patches] == [0.125, 0.25, 0.375, 0.5] * 2
    with Image.open(path) as picture:
        assert picture.format == "PNG"
    assert path.stat().st_size < 200_000


def test_only_what_is_there_is_drawn(drawn):
    one = run(0)
    rows = [replace(unreported(row), curve=()) for row in one.rows]
    axes, _ = drawn(replace(one, rows=rows))
    assert len(axes) == 1


def test_the_same_results_make_the_same_file(drawn):
    first = drawn(run(0))[1].read_bytes()
    assert drawn(run(0))[1].read_bytes() == first


def test_without_a_trial_there_is_nothing_to_draw(drawn):
    one = run(0)
    with pytest.raises(ValueError, match="t: no trial"):
        drawn(replace(one, rows=one.rows[:1]))


def test_points_that_number_a_key_stand_over_it_with_the_spread_of_the_seeds(drawn):
    points = {"plain": {"loss.logit": 0.0}, "a": {"loss.omega": 0.2}, "b": {"loss.omega": 1.0}}
    made = config(sweep={"points": points}).model_dump(mode="json")
    jfs = {0: {"plain": 0.3, "a": 0.5, "b": 0.6}, 1: {"plain": 0.5, "a": 0.7, "b": 0.6}}
    runs = [
        run(
            seed,
            config=made | {"seed": seed},
            rows=[
                Row("stem: cross-entropy only", "anchor", both(0.2, 0.2, 0.2)),
                *(Row(name, "trial", both(jf, jf, jf)) for name, jf in of_seed.items()),
            ],
        )
        for seed, of_seed in jfs.items()
    ]
    response = drawn(*runs)[0][0]
    (curve,) = response.containers
    line, _, (bars,) = curve
    assert line.get_xydata().tolist() == [pytest.approx(p) for p in ([0.2, 0.6], [1.0, 0.6])]
    halves = [(top - bottom) / 2 for (_, bottom), (_, top) in bars.get_segments()]
    assert halves == pytest.approx([0.2 / 2**0.5, 0.0])
    levels = {t.get_text().strip(): t.get_position()[1] for t in response.texts[1:]}
    assert levels == {"stem: cross-entropy only": 0.2, "plain": 0.4}
    assert (response.get_xlabel(), response.get_ylabel()) == ("omega", "report J&F")
