import logging
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.config.document import parse_value
from tests.conftest import FRAMES, HEIGHT, WIDTH
from vosmodels.data.davis import DavisDataset
from vosmodels.data.masks import write_palette
from vosmodels.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"


def image(root: Path, sequence: str, frame: int) -> Path:
    return root / "JPEGImages" / "480p" / sequence / f"{frame:05d}.jpg"


def mask(root: Path, sequence: str, frame: int) -> Path:
    return root / "Annotations" / "480p" / sequence / f"{frame:05d}.png"


def test_a_2016_folder_gives_its_sequences_in_the_order_of_the_split(davis_root: Path) -> None:
    split = davis_root / "ImageSets" / "2016" / "train.txt"
    split.write_text("bee\n\nant\n")
    dataset = DavisDataset(davis_root)
    assert dataset.year == 2016
    assert dataset.splits() == ("offline_train", "offline_val", "train", "val")
    assert [s.name for s in dataset.sequences("train")] == ["bee", "ant"]


def test_a_sequence_gives_frames_and_masks_that_belong_together(davis_root: Path) -> None:
    (sequence,) = DavisDataset(davis_root).sequences("val")
    assert len(sequence) == FRAMES
    assert sequence.ids == (1,)
    for t in range(FRAMES):
        frame, ids = sequence.frame(t), sequence.mask(t)
        assert frame.shape == (HEIGHT, WIDTH, 3)
        assert frame[ids == 1].mean() > 100 > 45 > frame[ids == 0].mean()
        assert np.flatnonzero(ids.any(axis=0))[0] == 8 + 4 * t


def test_a_2017_folder_keeps_every_id_and_2016_merges_them(davis17_root: Path) -> None:
    assert DavisDataset(davis17_root).year == 2017
    assert DavisDataset(davis17_root).sequences("val")[0].ids == (1, 2)
    (davis17_root / "ImageSets" / "2017").rename(davis17_root / "ImageSets" / "2016")
    (merged,) = DavisDataset(davis17_root).sequences("val")
    assert merged.ids == (1,)
    assert np.count_nonzero(merged.mask(0)) == 18 * 18 + 10 * 16


def test_year_auto_prefers_2017_and_says_which(
    davis_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (davis_root / "ImageSets" / "2017").mkdir()
    (davis_root / "ImageSets" / "2017" / "val.txt").write_text("ant")
    with caplog.at_level(logging.INFO, logger="vosmodels.data.davis"):
        dataset = DavisDataset(davis_root)
    assert "year auto is 2017" in caplog.text
    assert [s.name for s in dataset.sequences("val")] == ["ant"]
    assert [s.name for s in DavisDataset(davis_root, 2016).sequences("val")] == ["cat"]


def test_pairs_of_paths_are_splits_too_but_names_win(davis_root: Path) -> None:
    pairs = davis_root / "ImageSets" / "480p"
    pairs.mkdir()
    lines = [
        f"/JPEGImages/480p/{s}/{t:05d}.jpg /Annotations/480p/{s}/{t:05d}.png"
        for s in ("cat", "ant")
        for t in range(2)
    ]
    (pairs / "val.txt").write_text("\n".join(lines))
    (pairs / "both.txt").write_text("\n".join(lines))
    dataset = DavisDataset(davis_root)
    assert [s.name for s in dataset.sequences("both")] == ["cat", "ant"]
    assert [s.name for s in dataset.sequences("val")] == ["cat"]


def test_the_only_resolution_there_is_stands_in_for_480p(davis_root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (davis_root / kind / "480p").rename(davis_root / kind / "240p")
    assert len(DavisDataset(davis_root).sequences("val")[0]) == FRAMES
    (davis_root / "JPEGImages" / "1080p").mkdir()
    with pytest.raises(InputError, match=r"wanted a folder 480p.*found 1080p, 240p"):
        DavisDataset(davis_root)


def test_without_imagesets_every_video_is_in_the_split_all(davis17_root: Path) -> None:
    shutil.rmtree(davis17_root / "ImageSets")
    dataset = DavisDataset(davis17_root)
    assert (dataset.year, dataset.splits()) == (2017, ("all",))
    assert [s.name for s in dataset.sequences("all")] == ["ant", "bee", "cat"]
    assert dataset.sequences("all")[0].ids == (1, 2)
    assert DavisDataset(davis17_root, 2016).sequences("all")[0].ids == (1,)
    with pytest.raises(InputError, match=r"no split 'train' .* there are all"):
        dataset.sequences("train")


def test_bl30k_has_its_videos_without_a_folder_for_the_resolution(davis17_root: Path) -> None:
    before = [s.frame(2) for s in DavisDataset(davis17_root).sequences("train")]
    shutil.rmtree(davis17_root / "ImageSets")
    for kind in ("JPEGImages", "Annotations"):
        for video in (davis17_root / kind / "480p").iterdir():
            video.rename(davis17_root / kind / video.name)
        (davis17_root / kind / "480p").rmdir()
        (davis17_root / kind / "readme.txt").touch()
    ant, bee, cat = DavisDataset(davis17_root).sequences("all")
    assert (ant.name, bee.name, cat.name, len(cat)) == ("ant", "bee", "cat", FRAMES)
    np.testing.assert_array_equal([ant.frame(2), bee.frame(2)], before)
    assert ant.ids == (1, 2)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        DavisDataset(tmp_path / "nowhere")


def test_a_folder_that_is_not_davis_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(
        InputError,
        match=r"no JPEGImages; looked for JPEGImages/480p.*found Annotations",
    ):
        DavisDataset(tmp_path)


def test_a_year_that_is_not_there_is_refused(davis_root: Path) -> None:
    with pytest.raises(InputError, match=r"no split of year 2017; looked for .*found 2016"):
        DavisDataset(davis_root, 2017)


def test_a_split_that_is_not_in_imagesets_names_those_that_are(davis_root: Path) -> None:
    with pytest.raises(
        InputError, match=r"'trian' of year 2016.* train, val; did you mean 'train'"
    ):
        DavisDataset(davis_root).sequences("trian")


def test_train_is_parted_where_nobody_made_parts_of_it(davis_root: Path) -> None:
    lists = davis_root / "ImageSets" / "2016"
    (lists / "train.txt").write_text("ant\nsurf\n")
    assert DavisDataset(davis_root).names("offline_train") == ("ant",)
    assert DavisDataset(davis_root).names("offline_val") == ("surf",)
    (lists / "offline_val.txt").write_text("ant\n")
    assert DavisDataset(davis_root).names("offline_val") == ("ant",)


def test_an_empty_split_is_refused(davis_root: Path) -> None:
    (davis_root / "ImageSets" / "2016" / "val.txt").write_text("\n")
    with pytest.raises(InputError, match=r"split 'val' names no sequence"):
        DavisDataset(davis_root).sequences("val")


def test_a_split_ending_in_txt_is_a_file_of_names_in_their_order(davis_root: Path) -> None:
    split = davis_root.parent / "mine.txt"
    split.write_text("cat\n\n  ant\ncat\n")
    assert [s.name for s in DavisDataset(davis_root).sequences(str(split))] == ["cat", "ant"]


@pytest.mark.parametrize("name", ["mine.txt", "ImageSets/2017/mine.txt"])
@pytest.mark.parametrize(
    "text",
    [
        "\ufeffmy dog\nant\n".encode(),
        b"my dog\r\nant\r\n",
        "my dog\nant\n".encode("utf-16"),
        b"# the best\n\n my dog  # twice filmed\n#old\nant # small\n",
        b"/JPEGImages/480p/my dog/00000.jpg /Annotations/480p/my dog/00000.png\nant\n",
    ],
)
def test_a_list_is_read_as_people_write_it(davis17_root: Path, name: str, text: bytes) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (davis17_root / kind / "480p" / "bee").rename(davis17_root / kind / "480p" / "my dog")
    (davis17_root / name).write_bytes(text)
    dataset = DavisDataset(davis17_root)
    split = str(davis17_root / name) if name == "mine.txt" else "mine"
    assert dataset.names(split) == ("my dog", "ant")


def test_a_name_that_looks_like_a_comment_is_a_name(davis17_root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (davis17_root / kind / "480p" / "bee").rename(davis17_root / kind / "480p" / "take #2")
    (davis17_root / "ImageSets/2017/mine.txt").write_text("take #2\n#take #2\n")
    assert DavisDataset(davis17_root).names("mine") == ("take #2",)


def test_a_broken_list_is_told_when_its_split_is_asked_for(davis_root: Path) -> None:
    (davis_root / "ImageSets" / "2016" / "odd.txt").write_bytes(b"ant\n\xe9\n")
    dataset = DavisDataset(davis_root)
    assert dataset.names("val") == ("cat",)
    with pytest.raises(InputError, match=r"odd\.txt: line 2: .* not UTF-8"):
        dataset.names("odd")


def rename(root: Path, video: str, names: list[str]) -> None:
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = root / kind / "480p" / video
        for old, new in zip(sorted(folder.iterdir()), names, strict=True):
            old.rename(folder / f"{new}.{suffix}")


def test_frames_are_read_in_the_order_of_their_numbers(
    davis_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (before,) = DavisDataset(davis_root).sequences("val")
    frames = [before.frame(t) for t in range(FRAMES)]
    padded = DavisDataset(davis_root).fingerprint("val")
    rename(davis_root, "cat", ["7", "8", "9", "10", "11", "12"])
    (cat,) = DavisDataset(davis_root).sequences("val")
    assert [path.stem for path in cat.images] == ["7", "8", "9", "10", "11", "12"]
    np.testing.assert_array_equal([cat.frame(t) for t in range(FRAMES)], frames)
    assert [str(cat.answer(t)) for t in (0, 3)] == ["cat/7.png", "cat/10.png"]
    assert "cat: numbers without zeros in front (7 ... 12)" in caplog.text
    assert DavisDataset(davis_root).fingerprint("val") != padded


def test_hidden_files_are_no_frames_and_change_no_fingerprint(davis_root: Path) -> None:
    before = DavisDataset(davis_root).fingerprint("val")
    for kind in ("JPEGImages", "Annotations"):
        folder = davis_root / kind / "480p" / "cat"
        for name in (".DS_Store", "._00000.jpg", "._00000.png", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"not a picture")
        (folder / ".ipynb_checkpoints").mkdir()
        (folder.parent / "__MACOSX").mkdir()
    (davis_root / "ImageSets" / "2016" / "._val.txt").write_bytes(b"\0\xff")
    dataset = DavisDataset(davis_root)
    assert dataset.problems("val") == {}
    assert dataset.fingerprint("val") == before
    assert dataset.splits() == ("offline_train", "offline_val", "train", "val")


def test_two_pictures_of_one_name_are_refused(davis_root: Path) -> None:
    shutil.copy(mask(davis_root, "cat", 0), image(davis_root, "cat", 0).with_suffix(".png"))
    (problem, *_) = DavisDataset(davis_root).problems("val")["cat"]
    assert "480p/cat: 00000.jpg and 00000.png: two pictures of one name" in problem


def test_suffixes_may_be_written_large(davis_root: Path) -> None:
    image(davis_root, "cat", 1).rename(image(davis_root, "cat", 1).with_suffix(".JPG"))
    mask(davis_root, "cat", 1).rename(mask(davis_root, "cat", 1).with_suffix(".PNG"))
    (cat,) = DavisDataset(davis_root).sequences("val")
    assert cat.frame(1)[cat.mask(1) == 1].mean() > 100


def test_frames_of_several_sizes_are_a_problem(davis_root: Path) -> None:
    for path in (image(davis_root, "cat", 3), mask(davis_root, "cat", 3)):
        Image.open(path).resize((32, 24)).save(path)
    (problem,) = DavisDataset(davis_root).problems("val")["cat"]
    assert "cat: frames of several sizes: 00000.jpg 64x48, 00003.jpg 32x24" in problem


def test_left_out_videos_are_in_no_split(davis_root: Path) -> None:
    mask(davis_root, "bee", 1).unlink()
    dataset = DavisDataset(davis_root, leave_out=["bee"])
    assert [s.name for s in dataset.sequences("train")] == ["ant"]
    assert dataset.fingerprint("train") != DavisDataset(davis_root).fingerprint("train")
    with pytest.raises(InputError, match=r"split 'val' has no video left"):
        DavisDataset(davis_root, leave_out=["cat"]).names("val")


def test_an_object_that_appears_late_begins_where_it_appears(davis17_root: Path) -> None:
    for t in range(FRAMES):
        ids = np.array(Image.open(mask(davis17_root, "cat", t)))
        ids[ids == 2] = 0
        if t >= 3:
            ids[:4, :4] = 9
        write_palette(mask(davis17_root, "cat", t), ids)
    (cat,) = DavisDataset(davis17_root).sequences("val")
    assert (cat.ids, cat.begins) == ((1,), {1: 0, 9: 3})
    (merged,) = DavisDataset(davis17_root, 2017).sequences("val")[:1]
    assert list(merged.judged) == list(range(FRAMES))


def test_masks_that_only_give_objects_make_a_test_split(davis17_root: Path) -> None:
    late = np.array(Image.open(mask(davis17_root, "cat", 3)))
    late[:4, :4] = 9
    write_palette(mask(davis17_root, "cat", 3), late)
    for t in (1, 2, 4, 5):
        mask(davis17_root, "cat", t).unlink()
    (cat,) = DavisDataset(davis17_root).sequences("val", labels=None)
    assert (cat.begins, list(cat.judged)) == ({1: 0, 2: 0, 9: 3}, [])
    with pytest.raises(InputError, match=r"00001\.jpg: image without mask"):
        DavisDataset(davis17_root).sequences("val", labels=True)


def test_a_lost_mask_does_not_make_a_test_split(davis17_root: Path) -> None:
    mask(davis17_root, "cat", 4).unlink()
    with pytest.raises(InputError, match=r"00004\.jpg: image without mask"):
        DavisDataset(davis17_root).sequences("val", labels=None)


def test_a_split_file_with_the_names_of_a_split_has_its_fingerprint(davis_root: Path) -> None:
    split = davis_root.parent / "mine.txt"
    split.write_text("ant\nbee\n")
    dataset = DavisDataset(davis_root)
    assert dataset.fingerprint(str(split)) == dataset.fingerprint("train")
    assert dataset.fingerprint(str(split)) != dataset.fingerprint("val")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, r"mine\.txt: cannot be read as a split \(No such file"),
        ("ant\nbé".encode("latin-1"), r"mine\.txt: line 2: .*b'\\xe9' are not UTF-8; save"),
        ("ant\nbee".encode("utf-16-le"), r"mine\.txt: line 1: .*NUL bytes; save the list as UTF-8"),
        (b"\xff\xfea\0n", r"mine\.txt: line 1: .* not UTF-16"),
        (b"\n \n", r"mine\.txt: names no video; write one name a line"),
        (
            b"ant\n\nbea\ndog\n",
            r"mine\.txt: line 3: no video 'bea' in .*480p; did you mean 'bee'\?; line 4: .*'dog'",
        ),
    ],
)
def test_a_split_file_that_cannot_be_used_is_told_with_its_lines(
    davis_root: Path, text: bytes | None, says: str
) -> None:
    split = davis_root.parent / "mine.txt"
    if text is not None:
        split.write_bytes(text)
    with pytest.raises(InputError, match=says):
        DavisDataset(davis_root).sequences(str(split))


def test_all_problems_of_a_split_come_in_one_message(davis_root: Path) -> None:
    mask(davis_root, "ant", 3).unlink()
    Image.new("L", (10, 20)).save(mask(davis_root, "bee", 1))
    image(davis_root, "bee", 2).write_bytes(b"nothing")
    with (davis_root / "ImageSets" / "2016" / "train.txt").open("a") as split:
        split.write("dog\n")
    dataset = DavisDataset(davis_root)
    with pytest.raises(InputError, match="split 'train' cannot be used") as caught:
        dataset.sequences("train")
    message = str(caught.value)
    assert "\n" not in message
    assert f"{image(davis_root, 'ant', 3)}: image without mask" in message
    assert f"{mask(davis_root, 'bee', 1)}: mask of 10x20 pixels for an image of 64x48" in message
    assert f"{image(davis_root, 'bee', 2)}: not a picture" in message
    assert f"{davis_root / 'JPEGImages/480p/dog'}: no such folder" in message
    assert sum(map(len, dataset.problems("train").values())) == 5
    assert dataset.problems("val") == {}


def test_many_problems_are_counted_not_listed(davis_root: Path) -> None:
    for name in ("ant", "bee"):
        for t in range(FRAMES):
            mask(davis_root, name, t).unlink()
    with pytest.raises(InputError, match=r"; and 2 more; restore"):
        DavisDataset(davis_root).sequences("train")


def test_a_sequence_without_pictures_is_a_problem(davis_root: Path) -> None:
    for t in range(FRAMES):
        image(davis_root, "cat", t).unlink()
    with pytest.raises(InputError, match=r"cat: no pictures"):
        DavisDataset(davis_root).sequences("val")


def test_a_corrupt_jpeg_is_named_before_it_is_read(davis_root: Path) -> None:
    (sequence,) = DavisDataset(davis_root).sequences("val")
    path = image(davis_root, "cat", 4)
    path.write_bytes(path.read_bytes()[:-400])
    assert sequence.frame(3).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(InputError, match=r"cat/00004\.jpg: corrupt picture"):
        sequence.frame(4)
    with pytest.raises(
        InputError, match=r"'val' cannot be used: .*cat/00004\.jpg: corrupt picture"
    ):
        DavisDataset(davis_root).sequences("val")


def test_fingerprint_changes_with_the_files_of_its_split_alone(davis_root: Path) -> None:
    dataset = DavisDataset(davis_root)
    train, val = dataset.fingerprint("train"), dataset.fingerprint("val")
    assert train != val
    assert DavisDataset(davis_root).fingerprint("val") == val
    image(davis_root, "cat", 0).write_bytes(image(davis_root, "cat", 0).read_bytes() + b"\0")
    grown = dataset.fingerprint("val")
    image(davis_root, "cat", 5).unlink()
    assert len({val, grown, dataset.fingerprint("val")}) == 3
    assert dataset.fingerprint("train") == train


def test_fingerprint_does_not_depend_on_where_the_folder_lies(davis_root: Path) -> None:
    before = DavisDataset(davis_root).fingerprint("train")
    moved = davis_root.rename(davis_root.parent / "a place with spaces")
    assert DavisDataset(moved).fingerprint("train") == before


def test_a_video_with_only_its_first_mask_opens_where_labels_are_not_read(
    davis17_root: Path,
) -> None:
    dataset = DavisDataset(davis17_root)
    assert all(video.labelled for video in dataset.sequences("train", labels=False))
    for index in range(1, FRAMES):
        mask(davis17_root, "cat", index).unlink()
    with pytest.raises(InputError, match=r"00001\.jpg: image without mask"):
        dataset.sequences("val")
    (cat,) = dataset.sequences("val", labels=False)
    assert (cat.labelled, cat.ids, len(cat)) == (False, (1, 2), FRAMES)
    mask(davis17_root, "cat", 0).unlink()
    with pytest.raises(InputError, match=r"00000\.jpg: image without mask"):
        dataset.sequences("val", labels=False)


def test_the_real_folders_hold_what_their_readme_says() -> None:
    root = SHARED / "data" / "davis16"
    if not root.is_dir():
        pytest.skip("the DAVIS videos are not beside this checkout")
    dataset = DavisDataset(root)
    parts = ("fit", "offline_train", "offline_val", "report", "select", "train")
    assert (dataset.year, dataset.splits()) == (2016, parts)
    sequences = {s.name: s for s in dataset.sequences("train")}
    assert (len(sequences), sum(len(s) for s in sequences.values())) == (30, 2079)
    assert not sequences["bmx-bumps"].mask(60).any()
    assert sequences["bear"].ids == (1,)


def test_a_real_video_without_imagesets_has_its_objects() -> None:
    root = SHARED / "data" / "multi"
    if not root.is_dir():
        pytest.skip("the video of several objects is not beside this checkout")
    (video,) = DavisDataset(root).sequences("all")
    assert (video.name, len(video), video.ids) == ("schoolgirls", 80, (1, 2, 3, 4, 5, 6, 7))


def test_pictures_in_a_format_that_is_not_read_are_named(davis_root: Path) -> None:
    for name in ("00006.tif", "00007.HEIC"):
        image(davis_root, "cat", 0).with_name(name).touch()
    (problem,) = DavisDataset(davis_root).problems("val")["cat"]
    assert (
        "cat: 2 pictures in a format that is not read (00006.tif, 00007.HEIC); convert" in problem
    )


def test_videos_beside_480p_are_refused_as_one_of_two_layouts(davis_root: Path) -> None:
    shutil.copytree(davis_root / "JPEGImages/480p/cat", davis_root / "JPEGImages/dog")
    with pytest.raises(InputError, match=r"holds 480p, .* and videos beside it \(dog\); keep one"):
        DavisDataset(davis_root)


def test_a_full_resolution_beside_480p_is_left_alone(davis_root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis_root / kind / "480p", davis_root / kind / "Full-Resolution")
    assert DavisDataset(davis_root).problems("val") == {}


def test_the_remedy_names_videos_as_an_override_that_can_be_typed(davis_root: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (davis_root / kind / "480p/bee").rename(davis_root / kind / "480p/004")
    (davis_root / "ImageSets/2016/train.txt").write_text("ant\n004\n")
    mask(davis_root, "004", 1).unlink()
    with pytest.raises(InputError) as caught:
        DavisDataset(davis_root).sequences("train")
    (word,) = [w for w in shlex.split(str(caught.value)) if w.startswith("data.leave_out")]
    assert parse_value(word.partition("=")[2].removesuffix(",")) == ["004"]
