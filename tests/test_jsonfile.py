"""JSON files that are replaced whole."""

import json
from pathlib import Path

import pytest

from vosmodels.jsonfile import read_json, write_json


def test_a_value_comes_back_and_an_absent_file_is_none(tmp_path: Path):
    path = tmp_path / "new" / "x.json"
    assert read_json(path) is None
    write_json(path, {"b": [1, None], "a": 0.1})
    assert read_json(path) == {"a": 0.1, "b": [1, None]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_what_was_there_stays_where_the_new_value_cannot_be_written(tmp_path: Path):
    path = tmp_path / "x.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {1, 2})
    assert json.loads(path.read_text()) == 1
