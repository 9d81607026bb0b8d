"""Test the videos of a scoring protocol, and the key of their content."""

import pytest

from orchestrator.config import RunConfig
from orchestrator.config.data import DataConfig
from orchestrator.config.protocol import ScoringProtocol
from orchestrator.planning import protocol as opened
from orchestrator.planning.paths import located
from orchestrator.planning.protocol import check_scored_videos, protocol_key, scored_videos
from vosmodels.errors import InputError


def test_a_split_that_only_gives_objects_is_refused_where_scores_are_wanted(youtubevos_root):
    data = DataConfig(root=str(youtubevos_root))
    assert len(scored_videos(ScoringProtocol(data, "train"))) == 2
    with pytest.raises(InputError, match="split 'valid' has nothing to score"):
        scored_videos(ScoringProtocol(data, "valid"))


@pytest.mark.parametrize(
    ("protocol", "conditions"),
    [
        (ScoringProtocol(DataConfig(), "val", height=240, stride=2), [240, 2]),
        (ScoringProtocol(DataConfig(), "test"), [None, 1]),
        (ScoringProtocol(DataConfig(), "test", rows=480), [None, 1, 480]),
    ],
)
def test_a_key_holds_content_height_and_stride_and_rows_where_they_are_set(
    monkeypatch, protocol, conditions
):
    monkeypatch.setattr(opened, "fingerprint", lambda data, split: f"content of {split}")
    assert protocol_key(protocol) == [f"content of {protocol.split}", *conditions]


def test_select_is_scored_in_a_folder_of_its_own_and_the_rest_read_from_the_root(davis_root):
    root = str(davis_root)
    own = DataConfig(root=root, select="val")
    apart = DataConfig(root="generated", select_root=root, select="val", report="test")
    select, report = ScoringProtocol.for_select(apart), ScoringProtocol.for_report(apart)
    assert report is not None
    names = [[v.name for v in scored_videos(p)] for p in (ScoringProtocol.for_select(own), select)]
    assert names[0] == names[1] != [v.name for v in scored_videos(report)]
    assert protocol_key(select) == protocol_key(ScoringProtocol.for_select(own))
    absolute = located(RunConfig(name="apart", data=apart))
    assert absolute.data.select_root == root
    drawn = RunConfig(name="drawn", data=DataConfig(root=root, select_root="generated"))
    assert located(drawn).data.select_root == "generated"


def test_generated_videos_are_refused_at_a_stride_that_leaves_nothing_to_score():
    check_scored_videos(ScoringProtocol(DataConfig(), "val", stride=7))
    with pytest.raises(InputError, match=r"16 frames at stride 8 .* lower data\.select_stride"):
        check_scored_videos(ScoringProtocol(DataConfig(), "val", stride=8))


def test_a_key_follows_the_videos_and_not_their_folder(davis_root):
    def key(root):
        return protocol_key(ScoringProtocol.for_select(DataConfig(root=str(root))))

    before = key(davis_root)
    moved = davis_root.rename(davis_root.with_name("moved"))
    assert key(moved) == before
    grown = moved.rename(moved.with_name("grown"))  # another name: a folder is read once
    picture = next((grown / "JPEGImages" / "480p" / "cat").iterdir())
    picture.write_bytes(picture.read_bytes() + b"0")
    assert key(grown) != before
