import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import youtubevos as tiny
from vosmodels.data.masks import write_palette
from vosmodels.data.youtubevos import YouTubeVosDataset, YouTubeVosSequence
from vosmodels.data.youtubevos_meta import VideoMeta, read_meta
from vosmodels.errors import InputError


def video(root: Path, split: str, name: str) -> YouTubeVosSequence:
    return {s.name: s for s in YouTubeVosDataset(root).sequences(split)}[name]


def test_a_train_video_gives_every_picture_and_every_fifth_mask(youtubevos_root: Path) -> None:
    fox = video(youtubevos_root, "train", "fox")
    assert (len(fox), fox.labelled, fox.judged) == (21, (0, 5, 10, 15, 20), (0, 5, 10, 15, 20))
    assert (fox.ids, fox.begins) == ((1,), {1: 0, 2: 10})
    assert list(fox.asked) == tiny.stems(0)
    for number in fox.labelled:
        np.testing.assert_array_equal(fox.mask(number), tiny.ids("fox", number))
    assert fox.frame(7).shape == (tiny.HEIGHT, tiny.WIDTH, 3)
    with pytest.raises(ValueError, match=r"fox: frame 7 has no mask; labelled are \(0, 5"):
        fox.mask(7)


def test_a_video_starts_at_its_first_labelled_frame(youtubevos_root: Path) -> None:
    owl = video(youtubevos_root, "train", "owl")
    assert [path.stem for path in owl.images] == ["00005", "00010", "00015", "00020"]
    assert (owl.ids, owl.begins, owl.labelled) == ((7,), {7: 0}, (0, 1, 2, 3))
    np.testing.assert_array_equal(owl.mask(0), tiny.ids("owl", 5))


def test_a_valid_video_has_the_masks_that_give_objects_and_nothing_to_judge(
    youtubevos_root: Path,
) -> None:
    fox = video(youtubevos_root, "valid", "fox")
    assert (len(fox), fox.labelled, fox.begins, fox.judged) == (5, (0, 2), {1: 0, 2: 2}, ())


def test_all_frames_borrow_masks_and_meta_from_the_split_they_belong_to(
    youtubevos_root: Path,
) -> None:
    splits = YouTubeVosDataset(youtubevos_root).splits()
    assert splits == ("offline_train", "offline_val", "train", "valid", "valid_all_frames")
    owl = video(youtubevos_root, "valid_all_frames", "owl")
    assert (len(owl), owl.begins, owl.labelled) == (16, {7: 0}, (0,))
    answers = [owl.answer(number) for number in range(len(owl))]
    wanted = [Path("Annotations/owl") / f"{stem}.png" for stem in tiny.stems(5)]
    assert [answer for answer in answers if answer] == wanted
    assert answers[0] == wanted[0]
    assert answers[5] == wanted[1]


def test_a_split_may_be_the_root_itself(youtubevos_root: Path) -> None:
    dataset = YouTubeVosDataset(youtubevos_root / "valid")
    assert dataset.splits() == ("valid",)
    assert [s.name for s in dataset.sequences("valid")] == ["fox", "owl"]
    whole = YouTubeVosDataset(youtubevos_root)
    assert dataset.fingerprint("valid") == whole.fingerprint("valid")


def test_only_a_folder_with_meta_json_is_recognised(
    youtubevos_root: Path, davis_root: Path
) -> None:
    assert YouTubeVosDataset.recognises(youtubevos_root)
    assert YouTubeVosDataset.recognises(youtubevos_root / "train")
    assert not YouTubeVosDataset.recognises(youtubevos_root / "valid_all_frames")
    assert not YouTubeVosDataset.recognises(davis_root)


def test_labelled_only_has_a_mask_for_every_frame(youtubevos_root: Path) -> None:
    fox = video(youtubevos_root, "train", "fox").labelled_only()
    assert (len(fox), fox.begins) == (5, {1: 0, 2: 2})
    for number in range(5):
        np.testing.assert_array_equal(fox.mask(number), tiny.ids("fox", 5 * number))
        assert fox.images[number].stem == fox.masks[number].stem


def test_frames_are_judged_only_where_all_that_are_asked_for_are_labelled() -> None:
    meta = VideoMeta({2: ("b", "d"), 1: ("a", "b")})
    assert (meta.start, meta.asked) == ("a", ("a", "b", "d"))
    assert meta.judged(["d", "c", "b", "a"]) == ("a", "b", "d")
    assert meta.judged(["a", "b", "c"]) == ()


def test_a_missing_root_and_a_foreign_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        YouTubeVosDataset(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"looked for SPLIT/JPEGImages/.* found other"):
        YouTubeVosDataset(tmp_path)


def test_a_split_that_is_not_there_is_told_with_those_that_are(youtubevos_root: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"no split 'val'; there are offline_train, .* valid_all_frames; .*'valid'\?",
    ):
        YouTubeVosDataset(youtubevos_root).sequences("val")


def test_a_file_of_names_is_refused_with_the_splits_there_are(youtubevos_root: Path) -> None:
    with pytest.raises(
        InputError, match=r"'my\.txt': a file .* is for DAVIS folders; there are off"
    ):
        YouTubeVosDataset(youtubevos_root).sequences("my.txt")


def test_a_split_without_meta_json_is_refused(youtubevos_root: Path) -> None:
    (youtubevos_root / "valid" / "meta.json").unlink()
    with pytest.raises(InputError, match=r"valid/meta\.json: cannot be read .*unpack it from"):
        YouTubeVosDataset(youtubevos_root).sequences("valid")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{videos", "Invalid JSON"),
        ('{"videos": {}}', "videos: Dictionary should have at least 1 item"),
        ('{"videos": {"fox": {"objects": {"0": {"frames": ["00000"]}}}}}', "fox.objects.0"),
        ('{"videos": {"fox": {"objects": {"1": {"frames": []}}}}}', "fox.objects.1.frames"),
    ],
)
def test_a_meta_json_that_is_none_is_told_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "meta.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"meta\.json: not the meta\.json of YouTube-VOS"
    ) as caught:
        read_meta(path)
    assert says in str(caught.value)


def test_all_problems_of_a_split_come_in_one_message(youtubevos_root: Path) -> None:
    root = youtubevos_root
    begins = {"fox": {1: 0, 2: 10, 3: 10}, "owl": {7: 5}, "yak": {1: 0}, "elk": {1: 0}}
    tiny.write_meta(root / "train" / "meta.json", begins)
    (root / "train/JPEGImages/elk").mkdir()
    (root / "train/Annotations/elk").mkdir()
    tiny.picture(root, "train", "fox", 20).unlink()
    Image.new("L", (10, 20)).save(tiny.mask(root, "train", "fox", 5))
    tiny.mask(root, "train", "fox", 15).unlink()
    tiny.mask(root, "train", "owl", 5).unlink()
    dataset = YouTubeVosDataset(root)
    with pytest.raises(InputError, match=r"split 'train' cannot be used.*data\.leave_out"):
        dataset.sequences("train")
    told = [line for lines in dataset.problems("train").values() for line in lines]
    images, masks = root / "train/JPEGImages", root / "train/Annotations"
    assert told == [
        f"{images / 'elk'}: no pictures (.jpg, .jpeg, .png)",
        f"{images / 'fox'}: no picture 00020, which meta.json lists",
        f"{masks / 'fox/00005.png'}: mask of 10x20 pixels for an image of 64x48 (00005.jpg)",
        f"{masks / 'fox/00020.png'}: mask without image in {images / 'fox'}",
        f"{masks / 'fox/00010.png'}: no object 3, which by meta.json begins there; "
        "the mask holds 1, 2",
        f"{masks / 'fox/00015.png'}: no such mask, though meta.json lists the frame",
        f"{masks / 'owl/00005.png'}: no such mask; by meta.json objects [7] begin there",
        f"{images / 'yak'}: no such folder",
        f"{masks / 'yak'}: no such folder",
    ]
    assert dataset.problems("valid") == {}


def test_a_corrupt_first_mask_is_a_problem_not_a_stop(youtubevos_root: Path) -> None:
    path = tiny.mask(youtubevos_root, "valid", "owl", 5)
    path.write_bytes(path.read_bytes()[:-40])
    problems = YouTubeVosDataset(youtubevos_root).problems("valid")["owl"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}: corrupt or missing mask")


def test_an_id_that_meta_json_does_not_name_is_no_object(youtubevos_root: Path) -> None:
    path = tiny.mask(youtubevos_root, "valid", "owl", 5)
    ids = tiny.ids("owl", 5)
    ids[40:, :5] = 9
    write_palette(path, ids)
    assert video(youtubevos_root, "valid", "owl").ids == (7,)


def test_fingerprint_changes_with_the_files_and_the_meta_of_its_split(
    youtubevos_root: Path,
) -> None:
    def prints() -> tuple[str, str]:
        dataset = YouTubeVosDataset(youtubevos_root)
        return dataset.fingerprint("train"), dataset.fingerprint("valid")

    train, valid = prints()
    assert prints() == (train, valid)
    tiny.picture(youtubevos_root, "valid", "fox", 15).unlink()
    fewer = prints()
    meta = youtubevos_root / "valid" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"note": 1}))
    noted = prints()
    assert len({valid, fewer[1], noted[1]}) == 3
    assert {train, fewer[0], noted[0]} == {train}


def test_offline_splits_part_train_by_category(youtubevos_root: Path) -> None:
    dataset = YouTubeVosDataset(youtubevos_root)
    (fox,), (owl,) = dataset.sequences("offline_train"), dataset.sequences("offline_val")
    assert (fox.name, fox.unseen) == ("fox", None)
    assert (owl.name, owl.unseen) == ("owl", frozenset({7}))
    assert owl.judged == video(youtubevos_root, "train", "owl").judged
    prints = {dataset.fingerprint(split) for split in ("train", "offline_train", "offline_val")}
    assert len(prints) == 3


def test_a_split_without_train_has_no_offline_parts(youtubevos_root: Path) -> None:
    assert YouTubeVosDataset(youtubevos_root / "valid").splits() == ("valid",)
    root = YouTubeVosDataset(youtubevos_root / "train")
    assert root.splits() == ("offline_train", "offline_val", "train")
    assert [s.name for s in root.sequences("offline_val")] == ["owl"]


def test_a_folder_called_as_an_offline_part_is_read_whole(youtubevos_root: Path) -> None:
    (youtubevos_root / "valid").rename(youtubevos_root / "offline_val")
    dataset = YouTubeVosDataset(youtubevos_root)
    assert [s.name for s in dataset.sequences("offline_val")] == ["fox", "owl"]


def test_offline_parts_want_a_category_of_every_object(youtubevos_root: Path) -> None:
    path = youtubevos_root / "train" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["videos"]["fox"]["objects"]["2"]["category"]
    path.write_text(json.dumps(meta))
    dataset = YouTubeVosDataset(youtubevos_root)
    assert len(dataset.sequences("train")) == 2
    with pytest.raises(InputError, match=r"without a category, .*'offline_train': videos: fox;"):
        dataset.sequences("offline_train")


def test_an_offline_part_without_videos_is_told(youtubevos_root: Path) -> None:
    tiny.write_meta(youtubevos_root / "train" / "meta.json", tiny.BEGINS, {})
    with pytest.raises(InputError, match="none of its 2 videos is in the split 'offline_val'"):
        YouTubeVosDataset(youtubevos_root).sequences("offline_val")


def test_left_out_videos_are_in_no_split(youtubevos_root: Path) -> None:
    dataset = YouTubeVosDataset(youtubevos_root, leave_out=["owl"])
    assert [video.name for video in dataset.sequences("train")] == ["fox"]
    assert dataset.fingerprint("train") != YouTubeVosDataset(youtubevos_root).fingerprint("train")
    with pytest.raises(InputError, match=r"meta\.json: no video is left, as data\.leave_out"):
        YouTubeVosDataset(youtubevos_root, leave_out=["owl", "fox"]).videos("train")


def test_videos_with_too_few_labels_for_a_clip_are_problems(youtubevos_root: Path) -> None:
    dataset = YouTubeVosDataset(youtubevos_root)
    assert dataset.problems("train", shortest=4) == {}
    problems = dataset.problems("train", shortest=5)  # owl's labels begin with its second frame
    assert list(problems) == ["owl"]
    assert "owl: 4 frames with masks, too short for a clip of 5" in problems["owl"][0]


def test_frames_without_zeros_in_front_keep_their_order(
    youtubevos_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = YouTubeVosDataset(youtubevos_root).sequences("train")
    for path in sorted((youtubevos_root / "train").glob("*/*/*.*")):
        path.rename(path.with_name(f"{int(path.stem)}{path.suffix}"))
    meta = json.loads((youtubevos_root / "train/meta.json").read_text())
    for video in meta["videos"].values():
        for thing in video["objects"].values():
            thing["frames"] = [str(int(stem)) for stem in thing["frames"]]
    (youtubevos_root / "train/meta.json").write_text(json.dumps(meta))
    for old, new in zip(before, YouTubeVosDataset(youtubevos_root).sequences("train"), strict=True):
        assert [int(path.stem) for path in new.images] == [int(path.stem) for path in old.images]
        assert (new.begins, new.labelled, new.judged) == (old.begins, old.labelled, old.judged)
    assert caplog.text.count("fox: numbers without zeros in front (0 ... 20)") == 1
