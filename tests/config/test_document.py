"""Test YAML text and overrides, before any schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.document import ConfigError, parse, read, split_key


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0e-4", 1e-4),
        ("-2E+3", -2000.0),
        (".5", 0.5),
        ("12", 12),
        ("off", "off"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_reads_them(text: str, value: Any):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


def test_a_yaml_tag_cannot_run_code(tmp_path: Path):
    path = file(tmp_path, "a: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="python/object/apply"):
        read(path)


def test_a_key_that_is_there_twice_is_refused_with_its_line(tmp_path: Path):
    path = file(tmp_path, "train:\n  lr: 1\n  lr: 2\n")
    with pytest.raises(ConfigError, match=r"s\.yaml: not YAML: line 3, column 3: key 'lr' is th"):
        read(path)


def test_merge_keys_are_no_duplicates(tmp_path: Path):
    path = file(tmp_path, "a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: *a, z: 3}\n")
    assert read(path).values["c"] == {"x": 1, "z": 3}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("a: [", "not YAML: line 1"),
        ("- 1\n- 2\n", r"\[1, 2\] is not a mapping"),
        ("just words", "'just words' is not a mapping"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        read(file(tmp_path, text))


def test_a_missing_file_and_a_binary_one_are_refused_by_name(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read(tmp_path / "none.yaml")
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"b\.yaml: cannot be read as text"):
        read(binary)


def test_overrides_set_nested_keys_and_are_split_on_the_first_equals_sign(tmp_path: Path):
    path = file(tmp_path, "train: {lr: 1}\nx: 1\n")
    document = read(path, ["train.lr=1e-4", "tracking.uri=http://h?a=b", "x="])
    assert document.values == {
        "train": {"lr": 1e-4},
        "tracking": {"uri": "http://h?a=b"},
        "x": None,
    }
    assert document.place(("train", "lr")) == "command line"
    assert document.place(("train", "steps")) == str(path)


def test_a_swept_key_is_one_key_with_its_dots(tmp_path: Path):
    assert split_key("sweep.parameters.loss.omega") == ("sweep", "parameters", "loss.omega")
    document = read(file(tmp_path, "a: 1"), ["sweep.parameters.loss.omega=[0, 1]"])
    assert document.values["sweep"] == {"parameters": {"loss.omega": [0, 1]}}


def test_overrides_that_cannot_be_read_are_all_told(tmp_path: Path):
    document = read(file(tmp_path, "a: 1"), ["word", "a.b=2", "c=[", ".=1"])
    assert [problem.split(";")[0].split(":")[1].strip() for problem in document.problems] == [
        "'word'",
        "a.b",
        "c",
        "'.=1'",
    ]
