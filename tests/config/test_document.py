"""Test YAML text and overrides, before any schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.document import (
    DEEPEST,
    LARGEST,
    ConfigError,
    parse,
    parse_value,
    read,
    read_text,
    split_key,
)


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
        ("010", 10),
        ("-0x1F", -31),
        ("1_000", 1000),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: !!binary aGVsbG8=", "line 1, column 4: tag .*binary' is not read"),
        ("a: !mine 1", "tag '!mine' is not read; write the value without a tag"),
        ("a: &a [*a]", r"line 1, column 8: \*a lies within &a"),
        ("&a\n<<: *a", r"line 2, column 5: \*a lies within &a"),
        ("a: " + "[" * 3000 + "]" * 3000, "line 1, column 53: nested more than 50 deep"),
        ("a: " + "{b: " * 3000 + "1" + "}" * 3000, "nested more than 50 deep"),
        ("a: " + "9" * 5000, "line 1, column 4: a number of 5000 digits"),
        ("a: 1\nb:\n\tc: 1", "line 3, column 1: .*; indent with spaces"),
        ("a: 1\nb: \7", r"line 2: character '\\x07' cannot stand in YAML"),
    ],
)
def test_yaml_that_is_no_configuration_is_refused_on_one_line_with_its_place(
    tmp_path: Path, text: str, problem: str
):
    with pytest.raises(ConfigError, match=problem) as caught:
        read(file(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1


def test_aliases_that_multiply_or_nest_are_refused_before_they_are_built(tmp_path: Path):
    lists = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="line 6, column 5: more than 100000 values"):
        read(file(tmp_path, "l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + "".join(lists)))
    half = DEEPEST // 2 + 1
    nested = "a: &a " + "[" * half + "]" * half + "\nb: " + "[" * half + "*a" + "]" * half
    with pytest.raises(ConfigError, match=r"line 2, column .*: nested more than 50 deep"):
        read(file(tmp_path, nested))


def test_an_alias_is_a_value_and_may_be_used_often(tmp_path: Path):
    path = file(tmp_path, "a: &a {x: [1, 2]}\nb: *a\nc: [*a, *a]\n")
    inner = {"x": [1, 2]}
    assert read(path).values == {"a": inner, "b": inner, "c": [inner, inner]}


def test_an_override_of_one_of_two_aliases_leaves_the_other(tmp_path: Path):
    path = file(tmp_path, "a: &a {x: {y: 1}, z: [{w: 1}]}\nb: *a\n")
    values = read(path, ["b.x.y=2", "b.z.0.w=3"]).values
    assert values == {"a": {"x": {"y": 1}, "z": [{"w": 1}]}, "b": {"x": {"y": 2}, "z": [{"w": 3}]}}


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_any_line_ends_are_read(tmp_path: Path, ends: str, encoding: str):
    path = tmp_path / "s.yaml"
    path.write_bytes(f"a: grün{ends}b: 1{ends}".encode(encoding))
    assert read(path).values == {"a": "grün", "b": 1}
    assert read_text(path) == f"a: grün{ends}b: 1{ends}"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("a: 1\nb: größe".encode("latin-1"), "line 2: byte 0xf6 is not UTF-8; save it as UTF-8"),
        ("a: 1".encode("utf-16"), "it is UTF-16 or UTF-32; save it as UTF-8"),
        ("a: 1".encode("utf-32"), "it is UTF-16 or UTF-32; save it as UTF-8"),
        ("a: 1".encode("utf-16-le"), "line 1: a NUL character"),
        (b"a: 1\n\n\0", "line 3: a NUL character"),
        (b"#" * (LARGEST + 1), "more than 1000000 bytes"),
    ],
)
def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path, data: bytes, problem: str):
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=rf"s\.yaml: cannot be read as text: {problem}"):
        read_text(path)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_any_path_is_the_value_that_was_typed(text: str):
    typed = f"/{text}".rstrip(" ")
    assert parse_value(typed) == typed
    assert parse_value(f" {typed} ") == typed


@pytest.mark.parametrize(
    "text",
    [
        *("/w/st #3", "a: b", "a:", "#a", "- a", "-", "*x", "&x y", "!x y", "@x", "%x", "|x", ">"),
        *("? x", "---", "...", "it's", "<<", "=", "~/x", "x\\n", "`x`", ", x", "2024-01-01"),
    ],
)
def test_words_that_yaml_would_read_otherwise_are_text(text: str):
    assert parse_value(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("", None), (" ", None), ("~", None), ("null", None), ("true", True), ("1e-5", 1e-5)),
        *(("[a, 1]", ["a", 1]), ("{a: 1}", {"a": 1}), ("'a # b'", "a # b"), ('"12"', "12")),
        *(("'~'", "~"), (" [1] ", [1])),
    ],
)
def test_values_of_other_types_quotes_lists_and_mappings_are_yaml(text: str, value: Any):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize("value", ["[1, 2] #3", "'a' b", "{a: 1} x", "[a", "'a"])
def test_what_follows_a_value_is_refused_and_never_dropped(tmp_path: Path, value: str):
    (problem,) = read(file(tmp_path, "a: 1"), [f"b={value}"]).problems
    assert problem.startswith(f"command line: b: {value!r} is not YAML: line 1, column ")
