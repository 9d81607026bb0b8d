"""Test that the page of all YAML keys agrees with the schema."""

from pathlib import Path

import pytest

from orchestrator.config import SweepConfig, reference
from vosmodels.errors import InputError

PAGE = Path(__file__).resolve().parents[2] / "sweeps" / "README.md"
REFRESH = f"python -m {reference.MODULE} sweeps/README.md"


def rows(text):
    return {line for line in text.splitlines() if line.startswith("| `")}


def test_the_page_has_every_key_of_the_schema_with_its_default_and_no_other():
    page = PAGE.read_text()
    fresh = reference.refreshed(page, str(PAGE))
    lacking, stale = rows(fresh) - rows(page), rows(page) - rows(fresh)
    assert page == fresh, (
        f"{PAGE}: run: {REFRESH}\nadd: {sorted(lacking)}\ntake out: {sorted(stale)}"
    )


def test_every_key_of_the_page_has_a_meaning():
    empty = reference.without_meaning(PAGE.read_text())
    assert not empty, f"{PAGE}: write the last column of {', '.join(empty)}"


def test_every_default_on_the_page_is_that_of_a_configuration_without_the_key():
    """By another route: what a file that says nothing else comes to."""
    config = SweepConfig.model_validate({"name": "x", "sweep": {}}).model_dump(mode="json")
    for key, (_, default) in reference.keys().items():
        if default and "N" not in key.split("."):
            value = config
            for part in key.split("."):
                value = value[part]
            assert default == _written(value), key


def _written(value):
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize(
    ("key", "row"),
    [
        ("name", ("text", "")),
        (
            "stem.crop",
            ("whole number, >= 16, <= 8193, a multiple of 16, or one more or `null`", "null"),
        ),
        ("train.ema", ("number, >= 0, < 1", "0")),
        ("data.train.N.year", ("`auto` or `2016` or `2017`", "auto")),
        ("cluster.workers", ("whole number, >= 1, <= 4096", "1")),
        ("seed", ("whole number, >= 0, <= 9223372036854775807", "0")),
    ],
)
def test_a_key_has_the_bounds_of_its_type(key, row):
    assert reference.keys()[key] == row


def test_meanings_stay_and_a_new_key_waits_for_one():
    page = f"a\n{reference.BEGIN}\n| `seed` | text | `7` | of all |\n{reference.END}\nb\n"
    fresh = reference.refreshed(page, "page")
    assert "| `seed` | whole number, >= 0, <= 9223372036854775807 | `0` | of all |" in fresh
    assert "train.lr" in reference.without_meaning(fresh)
    assert "seed" not in reference.without_meaning(fresh)
    assert (fresh[:2], fresh[-3:]) == ("a\n", "\nb\n")


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(InputError, match="page: needs one line '<!-- keys: begin"):
        reference.refreshed("nothing here", "page")


def test_the_command_writes_the_page_and_names_what_lacks_a_meaning(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"{reference.BEGIN}\n{reference.END}\n")
    assert reference.main([str(page)]) == 0
    assert "write the meaning of train.lr" in capsys.readouterr().out
    assert len(rows(page.read_text())) == len(reference.keys())
