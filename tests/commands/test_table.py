"""Test which seeds the table command runs, and when its file holds them."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest

from orchestrator import dry_run, pipeline, prepared, table
from orchestrator.reporting.seeds import SeedTable
from tests import tables
from vosmodels.support.cli import CommandFailed

SWEEP = """
name: t
data: {report: test}
sweep: {points: {plain: {loss.logit: 0.0}, taught: {}}}
soup: {after_sweep: false}
"""


class Runs:
    """Stands where sweeps are run: each seed's results, first without report, then whole."""

    def __init__(self, out):
        self.out = out
        self.seeds = []
        self.partly = []
        self.fails = set()
        self.told = []

    def __call__(self, config, *, keep, **told):
        self.seeds.append(config.seed)
        self.told.append(told)
        made = tables.run(config.seed)
        if config.seed in self.fails:
            made = replace(made, rows=made.rows[:-1])
        for count in range(1, len(made.rows) + 1):
            keep(replace(made, rows=[tables.unreported(row) for row in made.rows[:count]]))
            self.partly.append(json.loads(self.out.read_text()))
        if config.seed in self.fails:
            raise CommandFailed(made.as_dict())
        return made.as_dict()


class Kept:
    """Stands where MLflow is."""

    files: ClassVar[list[tuple[str, str, list[str]]]] = []

    def __init__(self, connection):
        pass

    def log_files(self, experiment, sweep, files):
        self.files.append((experiment, sweep, [file.name for file in files]))


def drawn(made, out):
    """A figure that holds the table's name."""
    picture = out.with_suffix(".png")
    picture.write_text(made.name)
    return [picture]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(SWEEP)
    made = Runs(tmp_path / "results" / "t.json")
    monkeypatch.setattr(pipeline, "run", made)
    monkeypatch.setattr(pipeline, "Connection", lambda store: store)
    monkeypatch.setattr(pipeline, "Tracker", Kept)
    monkeypatch.setattr(Kept, "files", [])
    monkeypatch.setattr(pipeline, "draw", drawn)
    return made


def test_every_seed_is_run_once_and_its_rows_are_on_disk_as_they_come(runs, capsys):
    assert table.main(["t.yaml", "--json"]) == 0
    assert runs.seeds == [0, 1, 2]
    sizes = [[len(run["rows"]) for run in partly["runs"]] for partly in runs.partly]
    assert sizes == [[1], [2], [3], [3, 1], [3, 2], [3, 3], [3, 3, 1], [3, 3, 2], [3, 3, 3]]
    told = json.loads(capsys.readouterr().out)
    assert told["seeds"] == [0, 1, 2]
    assert {row["name"]: len(row["seeds"]) for row in told["rows"]}["taught"] == 3
    assert runs.out.with_suffix(".png").exists()
    assert Kept.files[-1] == ("t", "sweep2", ["t.json", "t.png"])


def test_seeds_that_are_there_are_not_run_again_and_others_are_added(runs):
    assert table.main(["t.yaml", "--seeds", "0,4"]) == 0
    assert table.main(["t.yaml", "--seeds", "0,1,4"]) == 0
    assert runs.seeds == [0, 4, 1]
    assert sorted(SeedTable.read(runs.out).runs) == [0, 1, 4]


def test_a_failed_trial_leaves_the_other_seeds_alone_and_is_tried_again(runs, capsys):
    runs.fails = {1}
    assert table.main(["t.yaml", "--json"]) == 1
    assert runs.seeds == [0, 1, 2]
    told = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["seeds"] for row in told["rows"]}["taught"] == [0, 2]
    runs.fails = set()
    assert table.main(["t.yaml"]) == 0
    assert runs.seeds == [0, 1, 2, 1]
    assert "91" in capsys.readouterr().out


def test_a_file_loses_no_rows_while_a_seed_is_run_again(runs):
    assert table.main(["t.yaml", "--seeds", "0"]) == 0
    grown = "sweep.points={plain: {loss.logit: 0.0}, taught: {}, more: {loss.tau: 1.0}}"
    runs.partly.clear()
    assert table.main(["t.yaml", grown, "--seeds", "0"]) == 0
    assert [len(partly["runs"][0]["rows"]) for partly in runs.partly] == [3, 3, 3]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["seed=1"], 2, "seed: varies within a table; use --seeds"),
        (["--seeds", "0,x,1"], 2, "--seeds: 'x' in '0,x,1': seeds are whole numbers"),
        (["--seeds", "-1"], 2, "--seeds"),
        (["--seeds", ""], 2, "--seeds: '' in ''"),
        (["train.lr=0"], 2, "train.lr: 0: must be greater than 0"),
        (["--out", "other.json"], 1, "other.json: not a table of several seeds"),
    ],
)
def test_bad_words_run_nothing(runs, tmp_path, capsys, words, code, told):
    (tmp_path / "other.json").write_text("{}")
    assert table.main(["t.yaml", *words]) == code
    assert told in capsys.readouterr().err
    assert runs.seeds == []


def test_a_table_of_another_configuration_is_left_as_it_is(runs, capsys):
    assert table.main(["t.yaml", "--seeds", "0"]) == 0
    before = runs.out.read_bytes()
    assert table.main(["t.yaml", "train.steps=7"]) == 1
    assert "train.steps 7 here, 200 there" in capsys.readouterr().err
    assert runs.out.read_bytes() == before
    assert runs.seeds == [0]


def test_a_dry_run_shows_the_seeds_that_are_left_and_their_time_together(runs, monkeypatch, capsys):
    def forecast(config, **told):
        return {"seed": config.seed, "seconds": {"trial": 50.0 * config.seed, "scoring": 20.0}}

    assert table.main(["t.yaml", "--seeds", "0"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(dry_run, "show", forecast)
    assert table.main(["t.yaml", "--dry-run", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["table"], told["done"], told["seconds"]) == ("t", [0], 190.0)
    assert [seed["seed"] for seed in told["seeds"].values()] == [1, 2]
    assert "all seeds                          about 190 s, 3.2 min" in err


def test_a_search_is_no_table(runs, capsys):
    words = ["sweep.points={}", "sweep.search=random", "sweep.max_trials=2"]
    assert table.main(["t.yaml", *words, "sweep.parameters={loss.tau: [1, 2]}"]) == 2
    assert "sweep.search: 'random' chooses other values for each seed" in capsys.readouterr().err
    assert runs.seeds == []


def test_with_rerun_changed_a_seed_that_other_code_trained_is_run_again_and_its_table_is_kept(
    runs, monkeypatch
):
    assert table.main(["t.yaml", "--seeds", "0,1"]) == 0
    before = runs.out.read_bytes()
    jobs = {0: (), 1: ("a job",)}

    def found(config, uri):
        return SimpleNamespace(again=jobs[config.seed])

    monkeypatch.setattr(prepared, "older_code_of", found)
    assert table.main(["t.yaml", "--seeds", "0,1"]) == 0
    assert runs.seeds == [0, 1]
    assert not list(runs.out.parent.glob("t.json.*"))
    assert table.main(["t.yaml", "--seeds", "0,1", "--rerun-changed"]) == 0
    assert runs.seeds == [0, 1, 1]
    assert runs.told[-1]["rerun_changed"] is True
    (kept,) = runs.out.parent.glob("t.json.*")
    assert kept.read_bytes() == before
