"""Test the scoring protocol that a configuration describes."""

import pytest
from pydantic import ValidationError

from orchestrator.config.data import PROTOCOL, DataConfig
from orchestrator.config.protocol import ScoringProtocol

DATA = DataConfig(root="/videos", layout="davis", report="test")


def conditions(data):
    """Select's and report's conditions, without the data section they come from."""
    protocols = ScoringProtocol.for_select(data), ScoringProtocol.for_report(data)
    return [p and (p.split, p.height, p.stride, p.rows) for p in protocols]


def test_select_is_scaled_and_strided_and_a_report_is_whole():
    assert conditions(DATA) == [("val", 240, 2, None), ("test", None, 1, None)]


def test_select_may_lie_in_a_folder_of_its_own():
    data = DATA.model_copy(update={"year": 2016, "select_root": "/chosen/on"})
    select, report = ScoringProtocol.for_select(data), ScoringProtocol.for_report(data)
    assert report is not None
    read = [(p.data.root, p.data.layout, p.data.year) for p in (select, report)]
    assert read == [("/chosen/on", "auto", "auto"), ("/videos", "davis", 2016)]
    drawn = DataConfig(root="/videos", select_root="generated")
    assert ScoringProtocol.for_select(drawn).data.generated
    assert not drawn.generated


@pytest.mark.parametrize(
    ("places", "refused"),
    [
        ({"root": "/v", "select_root": "generated", "select": "mine"}, "is no split of gen"),
        ({"root": "generated", "select_root": "/v", "select": "mine"}, None),
        ({"root": "/v", "select": "mine", "report": "mine"}, "is also data.select"),
        (
            {"root": "/v", "select_root": "/v", "select": "mine", "report": "mine"},
            "is also data.select",
        ),
        ({"root": "/v", "select_root": "/w", "select": "mine", "report": "mine"}, None),
        (
            {"root": "/v", "select_root": "/w", "train": "mine", "report": "mine"},
            "is also data.train",
        ),
    ],
)
def test_a_split_is_judged_by_the_folder_that_it_is_of(places, refused):
    if refused is None:
        assert DataConfig(**places).select == "mine"
        return
    with pytest.raises(ValidationError, match=refused):
        DataConfig(**places)


def test_without_a_report_split_there_is_no_report_protocol():
    assert ScoringProtocol.for_report(DataConfig()) is None


@pytest.mark.parametrize("key", sorted(set(DataConfig.model_fields)))
def test_the_keys_that_no_sweep_may_vary_are_those_a_protocol_is_made_of(key):
    other = {"select": "fit", "report": "hidden", "max_objects": 1, "root": "/others"}
    changed = DATA.model_copy(update={key: other.get(key, 48)})
    assert (conditions(changed) != conditions(DATA)) == (key in PROTOCOL)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({}, ["val, at most 240 px high, stride 2", "test at full size, every frame"]),
        (
            {"select_height": 96, "select_stride": 1, "report_height": 480},
            [
                "val, at most 96 px high, stride 1",
                "test at full size, every frame, of which the network sees 480 rows",
            ],
        ),
    ],
)
def test_a_protocol_is_described_in_words(update, words):
    data = DATA.model_copy(update=update)
    report = ScoringProtocol.for_report(data)
    assert report is not None
    assert [ScoringProtocol.for_select(data).describe(), report.describe()] == words
