"""Test the breakdown of scores by the number of objects in a video."""

from dataclasses import replace

from orchestrator.reporting.seed_tables import markdown, show_sweep
from orchestrator.reporting.seeds import SeedTable
from orchestrator.reporting.split_scores import SplitScores, VideoScores
from orchestrator.reporting.strata import by_objects
from tests.tables import run


def scores(**videos):
    """Scores of videos, each (J, F, objects)."""
    return SplitScores(0.0, 0.0, 0.0, {name: VideoScores(*v) for name, v in videos.items()})


def test_every_cell_is_the_mean_over_videos_with_so_many_objects_and_over_seeds():
    first = scores(a=(0.2, 0.4, 1), b=(0.6, 0.8, 1), c=(1.0, 0.8, 5))
    second = scores(a=(0.4, 0.4, 1), b=(0.8, 0.8, 1), c=(0.6, 0.8, 5))
    grid = by_objects({"one": [first, second], "other": [first]}, "report")
    assert grid is not None
    assert list(grid.head) == ["report J&F by objects", "1", "5"]
    assert [list(row) for row in grid.rows] == [
        ["one", f"{(0.3 + 0.7 + 0.4 + 0.8) / 4:.3f}", "0.800"],
        ["other", "0.500", "0.900"],
    ]
    assert "2 with 1, 1 with 5" in grid.notes[0]


def test_there_is_no_breakdown_where_all_videos_have_equally_many_objects():
    assert by_objects({"one": [scores(a=(0.2, 0.4, 2), b=(0.6, 0.8, 2))]}, "report") is None


def test_a_row_without_videos_has_no_line_and_a_missing_video_leaves_its_cell_empty():
    rows = {"all": [scores(a=(0.2, 0.4, 1), b=(0.6, 0.8, 2))], "none": [], "some": [scores()]}
    rows["part"] = [scores(b=(0.6, 0.6, 2))]
    grid = by_objects(rows, "select")
    assert grid is not None
    assert [list(row) for row in grid.rows] == [["all", "0.300", "0.700"], ["part", "", "0.600"]]


def test_tables_of_one_and_of_several_seeds_have_the_breakdown(capsys):
    runs = {seed: run(seed) for seed in (0, 1)}
    for text in (runs[0].markdown(), markdown(SeedTable("t", runs))):
        below = text[text.index("report J&F by objects") :].splitlines()
        head, _, copy, *_ = (
            [cell.strip() for cell in line.strip("|").split("|")] for line in below
        )
        assert head == ["report J&F by objects", "1", "2"]
        assert copy == ["first-frame copy", "0.200", "0.200"]
        assert "2 with 1, 1 with 2" in text
    show_sweep(runs[0], whole=True)
    assert "report J&F by objects" in capsys.readouterr().out


def test_a_table_of_single_objects_stays_as_it_was():
    made = run(0)
    assert "by objects" in markdown(SeedTable("t", {0: made}))
    assert "by objects" not in markdown(SeedTable("t", {0: single(made)}))


def single(made):
    """The run as if every video had one object."""

    def alone(split):
        videos = {name: replace(v, objects=1) for name, v in split.sequences.items()}
        return replace(split, sequences=videos)

    rows = [replace(r, scores={k: alone(s) for k, s in r.scores.items()}) for r in made.rows]
    return replace(made, rows=rows)
