"""Test the facts and problems of tiny folders, each problem put in by hand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests import youtubevos
from tests.conftest import FRAMES, HEIGHT, WIDTH
from vosmodels.data.check.inspection import Facts
from vosmodels.data.check.inventory import LICENCES, UNKNOWN_LICENCE, Folder, open_folder
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.data.static_images import StaticImage
from vosmodels.errors import InputError


def looked(folder: Folder, split: str, *, decode: bool = False) -> list[Facts]:
    return [video.look(decode) for video in folder.splits[split]]


def problems(root: Path, *, decode: bool = False) -> list[str]:
    """All, with paths below the root."""
    folder = open_folder(root)
    videos = dict.fromkeys(video for split in folder.splits.values() for video in split)
    found = [*folder.problems, *(p for video in videos for p in video.look(decode).problems)]
    return [problem.replace(f"{root}/", "") for problem in found]


PARTS = ["offline_train", "offline_val"]


def test_a_davis_folder_holds_what_its_lists_name(davis17_root: Path) -> None:
    folder = open_folder(davis17_root)
    assert (folder.name, folder.licence()) == ("DAVIS", LICENCES["DAVIS"])
    assert (sorted(folder.splits), folder.merged) == ([*PARTS, "train", "val"], frozenset())
    sizes, ids = frozenset({(HEIGHT, WIDTH)}), frozenset({1, 2})
    assert looked(folder, "train") == [Facts(FRAMES, FRAMES, sizes, 2, ids)] * 2
    assert problems(davis17_root) == problems(davis17_root, decode=True) == []


def test_both_years_of_davis_are_splits_of_their_own(davis17_root: Path) -> None:
    lists = davis17_root / "ImageSets"
    shutil.copytree(lists / "2017", lists / "2016")
    (lists / "2016" / "val.txt").write_text("ant\n")
    folder = open_folder(davis17_root)
    names = [*PARTS, "train", "val"]
    assert list(folder.splits) == [f"{year} {name}" for year in (2016, 2017) for name in names]
    assert folder.merged == {f"2016 {name}" for name in names}
    assert folder.splits["2016 val"] == folder.splits["2017 train"][:1]
    assert problems(davis17_root) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def garble(path: Path) -> None:
    """Bytes before the end marker that belong to nothing."""
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"junk" + data[-2:])


def colour(path: Path) -> None:
    image = Image.open(path).convert("RGB")
    image.putpixel((0, 0), (9, 0, 0))
    image.save(path)


def shrink(path: Path) -> None:
    Image.fromarray(read_mask(path)[::2]).save(path)


def void(path: Path) -> None:
    ids = read_mask(path)
    ids[0, 0] = 255
    Image.fromarray(ids).save(path)


def empty(path: Path) -> None:
    write_palette(path, np.zeros((HEIGHT, WIDTH)))


IMAGE, MASK = "JPEGImages/480p/ant/{}.jpg", "Annotations/480p/ant/{}.png"


@pytest.mark.parametrize(
    ("damage", "path", "says", "seen"),
    [
        (Path.unlink, IMAGE.format("00003"), "00003.png: mask without image in JPEG", True),
        (Path.unlink, MASK.format("00003"), "00003.jpg: image without mask; wanted Anno", True),
        (cut, IMAGE.format("00003"), "00003.jpg: corrupt picture", True),
        (cut, MASK.format("00003"), "00003.png: corrupt or missing mask", True),
        (cut, MASK.format("00000"), "00000.png: corrupt or missing mask", True),
        (
            garble,
            IMAGE.format("00003"),
            "00003.jpg: corrupt picture; it can be decoded, but its",
            False,
        ),
        (colour, MASK.format("00003"), "00003.png: mode 'RGB' with colour (9, 0, 0)", True),
        (shrink, MASK.format("00003"), "mask of 64x24 pixels for an image of 64x48", True),
        (void, MASK.format("00003"), "00003.png: value 1 beside 255", False),
        (empty, MASK.format("00000"), "00000.png: no object in the first mask", True),
        (empty, MASK.format("00003"), None, False),
    ],
)
def test_a_damaged_file_is_one_problem(
    davis17_root: Path, damage: Callable[[Path], None], path: str, says: str | None, seen: bool
) -> None:
    damage(davis17_root / path)
    for decode in (False, True):
        found = problems(davis17_root, decode=decode)
        assert len(found) == (0 if says is None or not (seen or decode) else 1), found
        assert all(says is not None and says in problem for problem in found)


def test_zeros_after_a_pictures_end_are_no_problem(davis17_root: Path) -> None:
    path = davis17_root / IMAGE.format("00003")
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert problems(davis17_root) == problems(davis17_root, decode=True) == []


def test_lists_and_folders_that_disagree_are_told(davis17_root: Path) -> None:
    (davis17_root / "ImageSets" / "2017" / "train.txt").write_text("ant\nghost\n")
    (davis17_root / "ImageSets" / "2017" / "none.txt").write_text("\n")
    (davis17_root / "Annotations" / "480p" / "dog").mkdir()
    assert problems(davis17_root) == [
        "ImageSets: split 'none' names no sequence",
        "JPEGImages/480p/bee: in no list of ImageSets",
        "Annotations/480p/bee: in no list of ImageSets",
        "Annotations/480p/dog: in no list of ImageSets",
        "JPEGImages/480p/ghost: no such folder",
        "Annotations/480p/ghost: no such folder",
    ]


def test_a_first_mask_alone_is_told_apart_from_masks_that_are_lost(davis17_root: Path) -> None:
    for path in sorted((davis17_root / "Annotations/480p/ant").iterdir())[1:]:
        path.unlink()
    ant, bee = looked(open_folder(davis17_root), "train")
    assert ant.only_first.endswith("ant: one mask for 6 frames, only where objects begin")
    assert (ant.objects, ant.labelled, ant.problems, bee.only_first) == (2, 1, (), "")


def bl30k(root: Path) -> Path:
    """The folder as BL30K lies: no ImageSets, no folder for the resolution."""
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(root / kind / "480p", root.with_name("BL30K") / kind)
    return root.with_name("BL30K")


def test_videos_of_bl30k_have_a_length(davis17_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = bl30k(davis17_root)
    folder = open_folder(root)
    assert (folder.name, folder.licence(), list(folder.splits)) == (
        "BL30K",
        LICENCES["BL30K"],
        ["all"],
    )
    wanted = [
        f"JPEGImages/{n}: 6 frames; videos of this set have 160" for n in ("ant", "bee", "cat")
    ]
    assert problems(root) == wanted
    monkeypatch.setattr("vosmodels.data.check.inventory.BL30K_FRAMES", FRAMES)
    assert problems(root) == []


def test_videos_without_imagesets_are_of_no_known_set(davis17_root: Path) -> None:
    other = bl30k(davis17_root).rename(davis17_root.with_name("mine"))
    folder = open_folder(other)
    assert (folder.name, folder.licence()) == ("videos without ImageSets", UNKNOWN_LICENCE)
    assert problems(other) == []


def test_a_youtubevos_folder_holds_what_meta_json_names(youtubevos_root: Path) -> None:
    folder = open_folder(youtubevos_root)
    assert folder.name == "YouTube-VOS"
    facts = {split: looked(folder, split) for split in folder.splits}
    counts = {
        split: [(f.frames, f.labelled, f.objects, sorted(f.ids)) for f in found]
        for split, found in facts.items()
    }
    fox, owl = (21, 5, 2, [1, 2]), (5, 4, 1, [7])
    assert counts == {
        "offline_train": [fox],
        "offline_val": [owl],
        "train": [fox, owl],
        "valid": [(5, 2, 2, [1, 2]), (5, 1, 1, [7])],
        "valid_all_frames": [(21, 2, 2, [1, 2]), (21, 1, 1, [7])],
    }
    assert problems(youtubevos_root, decode=True) == []


def test_a_broken_meta_json_does_not_hide_the_other_splits(youtubevos_root: Path) -> None:
    (youtubevos_root / "train" / "meta.json").write_text("{")
    (youtubevos_root / "valid" / "JPEGImages" / "yak").mkdir()
    cut(youtubevos.mask(youtubevos_root, "valid", "owl", 5))
    broken, yak, mask = problems(youtubevos_root)[:3]
    assert broken.startswith("train/meta.json: not the meta.json of YouTube-VOS")
    assert yak.startswith("valid/JPEGImages/yak: not named in valid/meta.json")
    assert mask.startswith("valid/Annotations/owl/00005.png: corrupt or missing mask")


def test_objects_without_a_category_are_no_problem(youtubevos_root: Path) -> None:
    path = youtubevos_root / "train" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["videos"]["fox"]["objects"]["1"]["category"]
    path.write_text(json.dumps(meta))
    assert "offline_train" not in open_folder(youtubevos_root).splits
    assert problems(youtubevos_root) == []


def stills(root: Path, *names: str) -> Path:
    """Images with their masks beside them, the left half of each the object."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(root / f"{name}.jpg")
        levels = np.zeros((12, 20), dtype=np.uint8)
        levels[:, :10] = 255
        Image.fromarray(levels).save(root / f"{name}.png")
    return root


def test_every_fault_of_still_images_is_a_line(tmp_path: Path) -> None:
    root = stills(tmp_path / "fss", *(f"{c}/{n}" for c in ("ant", "bee") for n in range(7)))
    (root / "ant" / "0.png").unlink()
    (root / "ant" / "1.jpg").unlink()
    cut(root / "ant" / "2.jpg")
    cut(root / "ant" / "3.png")
    Image.new("L", (7, 5), 255).save(root / "ant" / "4.png")
    Image.fromarray(np.ones((12, 20), dtype=np.uint16)).save(root / "ant" / "5.png")
    Image.new("L", (20, 12)).save(root / "ant" / "6.png")
    garble(root / "bee" / "0.jpg")
    colour(root / "bee" / "1.png")
    (root / "bee" / "2.jpg").write_bytes(b"nothing")
    (root / "cat").mkdir()
    headers = [
        "cat: no image in this folder (.jpg, .jpeg)",
        "ant/1.png: mask without image",
        "ant/0.jpg: image without mask; wanted ant/0.png",
        "ant/2.jpg: corrupt picture, ",
        "ant/3.png: corrupt or missing mask (",
        "ant/4.png: mask of 7x5 pixels for an image of 20x12 (4.jpg)",
        "ant/5.png: mode 'I;16'; the mask of an image is black and white",
        "bee/2.jpg: not a picture (its header is unknown)",
    ]
    decoded = [
        *headers[:-1],
        "ant/6.png: no object in this mask; training passes over its image",
        "bee/0.jpg: corrupt picture; it can be decoded, but its decoder says: ",
        headers[-1],
    ]
    for decode, wanted in ((False, headers), (True, decoded)):
        found = problems(root, decode=decode)
        assert [f[: len(w)] for f, w in zip(found, wanted, strict=True)] == wanted


def test_a_still_image_is_a_picture_with_a_mask(tmp_path: Path) -> None:
    folder = open_folder(stills(tmp_path / "BIG_small", "a", "b"))
    assert (folder.name, folder.licence()) == ("BIG", LICENCES["BIG"])
    assert looked(folder, "BIG_small") == [Facts(1, 1, frozenset({(12, 20)}))] * 2
    assert [facts.objects for facts in looked(folder, "BIG_small", decode=True)] == [1, 1]


def test_headers_suffice_for_coloured_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSS-1000 has coloured masks only."""
    root = stills(tmp_path, "ant/1")
    colour(root / "ant" / "1.png")
    read: list[StaticImage] = []
    monkeypatch.setattr(StaticImage, "object_mask", read.append)
    assert problems(root) == []
    assert read == []


def test_each_set_of_a_folder_is_a_split_with_a_licence(tmp_path: Path) -> None:
    stills(tmp_path / "HRSOD_small", "a")
    stills(tmp_path / "fss", "ant/1", "bee/1")
    (tmp_path / "lost").mkdir()
    folder = open_folder(tmp_path)
    assert {name: len(items) for name, items in folder.splits.items()} == {
        "HRSOD_small": 1,
        "fss": 2,
    }
    licences = [folder.licence(name) for name in folder.splits]
    assert licences == [LICENCES["HRSOD"], LICENCES["FSS-1000"]]
    assert (folder.name, folder.licence()) == ("still images", UNKNOWN_LICENCE)
    wanted = ["lost: no still images with masks here; check this folder by itself"]
    assert problems(tmp_path) == wanted


def test_a_folder_of_no_known_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"looked for JPEGImages and .*DUTS.* found pictures"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        open_folder(tmp_path / "nowhere")


def test_levels_of_grey_and_a_background_that_is_an_object_are_told(davis17_root: Path) -> None:
    first = davis17_root / MASK.format("00000")
    ids = read_mask(first)
    write_palette(first, ids + 1)
    (ant, _) = looked(open_folder(davis17_root), "train")
    assert ant.problems == ()
    assert "00000.png: id 1 covers" in ant.notes[0]
    assert ant.notes[0].endswith("is it the background? The background has to be 0")
    blurred = cv2.GaussianBlur(np.where(ids > 0, np.uint8(200), np.uint8(0)), (7, 7), 0)
    Image.fromarray(blurred).save(first)
    (problem,) = problems(davis17_root)
    assert "00000.png: " in problem
    assert "only fringe others, as the edges of a smoothed mask do" in problem
