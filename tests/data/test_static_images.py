import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vosmodels.data.static_images import StaticImage, StaticImages
from vosmodels.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
LAYOUTS = {  # image -> where its mask belongs
    "plain": {"images/a.jpg": "masks/a.png", "images/b.png": "masks/b.png"},
    "ecssd": {"images/0001.jpg": "ground_truth_mask/0001.png"},
    "duts": {
        "DUTS-TR-Image/a.jpg": "DUTS-TR-Mask/a.png",
        "DUTS-TR-Image/b.jpg": "DUTS-TR-Mask/b.png",
    },
    "stcn": {"a.jpg": "a.png", "b.v2.JPG": "b.v2.png"},  # BIG_small, HRSOD_small, DUTS-TE, ecssd
    "fss": {
        "abacus/1.jpg": "abacus/1.png",
        "abacus/2.jpg": "abacus/2.png",
        "zebra/1.jpg": "zebra/1.png",
    },
}


def write(root: Path, names: dict[str, str]) -> Path:
    """Each image is one colour, 10 * its number; its mask has as many columns as its number."""
    for number, (image, mask) in enumerate(sorted(names.items()), start=1):
        for path in (root / image, root / mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 12), (10 * number,) * 3).save(root / image, format="PNG")
        levels = np.zeros((12, 20), dtype=np.uint8)
        levels[:, :number] = 255
        Image.fromarray(levels).save(root / mask)
    return root


def mask_of(path: Path, levels: Sequence[object], mode: str = "L") -> list[bool]:
    image = Image.fromarray(np.array([levels], dtype=np.uint8), mode if mode != "P" else None)
    if mode == "P":
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 0, 0])
    image.save(path)
    row: list[bool] = StaticImage(path, path).object_mask()[0].tolist()
    return row


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_gives_its_images_with_their_masks(tmp_path: Path, layout: str) -> None:
    root = write(tmp_path / "set", LAYOUTS[layout])
    assert StaticImages.recognises(root)
    images = StaticImages(root).images()
    assert [p.image.relative_to(root).as_posix() for p in images] == sorted(LAYOUTS[layout])
    for number, pair in enumerate(images, start=1):
        assert (pair.frame() == 10 * number).all()
        assert pair.object_mask().sum() == 12 * number


def test_a_mask_folder_without_images_is_left_alone(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["plain"] | {"images/a.jpg": "ground_truth_mask/a.png"})
    write(root, LAYOUTS["plain"])
    masks = [pair.mask.parent.name for pair in StaticImages(root).images()]
    assert masks == ["masks", "masks"]


def test_files_that_are_no_images_are_left_alone(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["fss"])
    (root / ".cache").mkdir()
    (root / "abacus" / "Thumbs.db").write_bytes(b"")
    (root / "zebra" / "9.png").write_bytes(b"a mask without image")
    assert len(StaticImages(root).images()) == 3


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_masks_without_an_image_are_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    folder = StaticImages(write(tmp_path, LAYOUTS[layout]))
    assert folder.lone_masks() == []
    lone = (tmp_path / min(LAYOUTS[layout].values())).with_name("lone.png")
    lone.write_bytes(b"")
    assert folder.lone_masks() == [lone]


@pytest.mark.parametrize(
    ("name", "layout", "published"),
    [
        ("ecssd", "stcn", "ECSSD"),
        ("DUTS-TR", "stcn", "DUTS"),
        ("BIG_small", "stcn", "BIG"),
        ("HRSOD_small", "stcn", "HRSOD"),
        ("fss", "fss", "FSS-1000"),
        ("FSS-1000", "fss", "FSS-1000"),
        ("mine", "duts", "DUTS"),
        ("mine", "ecssd", "ECSSD"),
        ("mine", "plain", None),
        ("bigger", "stcn", None),
    ],
)
def test_names_of_folders_tell_the_published_set(
    tmp_path: Path, name: str, layout: str, published: str | None
) -> None:
    assert StaticImages(write(tmp_path / name, LAYOUTS[layout])).published == published


@pytest.mark.parametrize(
    ("mode", "levels", "expected"),
    [
        ("L", [0, 255, 255], [False, True, True]),
        ("L", [0, 60, 200], [False, False, True]),  # smoothed, as in DUTS
        ("L", [0, 127, 128], [False, False, True]),
        ("L", [0, 1, 2], [False, True, True]),  # ids
        ("P", [0, 1, 2], [False, True, True]),  # whatever the palette's colours
        ("RGB", [[0, 0, 0], [255, 255, 255], [60, 9, 9]], [False, True, False]),  # FSS-1000
        ("RGB", [[0, 0, 0], [128, 0, 0], [0, 0, 128]], [False, True, True]),
        ("RGBA", [[0, 0, 0, 255], [255, 255, 255, 255]], [False, True]),
        ("LA", [[0, 255], [255, 255]], [False, True]),
        ("L", [0, 0, 0], [False, False, False]),
    ],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_a_mask_tells_object_from_background(tmp_path: Path, mode: str, levels, expected) -> None:
    assert mask_of(tmp_path / "m.png", levels, mode) == expected


def test_a_mask_of_sixteen_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png: mode 'I;16'; .*8 bits"):
        StaticImage(tmp_path, tmp_path / "m.png").object_mask()


def test_a_corrupt_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    (pair, *_) = StaticImages(write(tmp_path, LAYOUTS["stcn"])).images()
    pair.mask.write_bytes(pair.mask.read_bytes()[:40])
    pair.image.write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png: corrupt or missing mask"):
        pair.object_mask()
    with pytest.raises(InputError, match=r"a\.jpg: corrupt picture"):
        pair.frame()


def test_all_problems_of_a_folder_come_in_one_message(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["fss"])
    (root / "abacus" / "1.png").unlink()
    Image.new("L", (7, 5)).save(root / "abacus" / "2.png")
    (root / "zebra" / "1.jpg").write_bytes(b"nothing")
    (root / "empty").mkdir()
    (root / "empty" / "1.png").write_bytes(b"")
    folder = StaticImages(root)
    with pytest.raises(
        InputError, match=r"cannot be used: .*; restore the files, or leave the images out: data"
    ) as caught:
        folder.images()
    message = str(caught.value)
    assert "\n" not in message
    assert f"{root}/abacus/1.jpg: image without mask; wanted {root}/abacus/1.png" in message
    assert f"{root}/abacus/2.png: mask of 7x5 pixels for an image of 20x12" in message
    assert f"{root}/zebra/1.jpg: not a picture" in message
    assert f"{root}/empty: no image in this folder" in message
    assert len(folder.problems()) == 4


@pytest.mark.parametrize("layout", ["duts", "ecssd", "fss", "plain"])
def test_sets_are_told_from_the_classes_of_one_set(tmp_path: Path, layout: str) -> None:
    for name in ("BIG_small", "HRSOD_small"):
        write(tmp_path / name, LAYOUTS["stcn"])
    assert StaticImages.sets_in(tmp_path) == []  # as two classes
    assert StaticImages(tmp_path).folders == 2
    deeper = write(tmp_path / "z", LAYOUTS[layout])
    (tmp_path / ".cache").mkdir()
    names = ["BIG_small", "HRSOD_small", "z"]
    assert StaticImages.sets_in(tmp_path) == [tmp_path / name for name in names]
    with pytest.raises(InputError, match="name one of its folders: BIG_small, HRSOD_small, z"):
        StaticImages(tmp_path)
    assert StaticImages.sets_in(deeper) == []
    write(tmp_path, LAYOUTS["stcn"])
    assert StaticImages.sets_in(tmp_path) == []  # a set itself


def test_a_folder_that_is_no_such_set_says_what_was_looked_for(
    tmp_path: Path, davis_root: Path
) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        StaticImages(tmp_path / "nowhere")
    for root in (davis_root, davis_root / "JPEGImages" / "480p"):
        assert not StaticImages.recognises(root)
    with pytest.raises(
        InputError, match=r"no images with masks; looked for images/NAME\.jpg .*found Annotations"
    ):
        StaticImages(davis_root)


def test_fingerprint_changes_with_the_files_and_not_with_their_place(tmp_path: Path) -> None:
    root = write(tmp_path / "set", LAYOUTS["plain"])
    before = StaticImages(root).fingerprint()
    root = root.rename(tmp_path / "a place with spaces")
    seen = {before, StaticImages(root).fingerprint()}
    assert len(seen) == 1
    for change in ("images/a.jpg", "masks/b.png"):
        (root / change).write_bytes((root / change).read_bytes() + b"\0")
        seen.add(StaticImages(root).fingerprint())
    (root / "images" / "b.png").unlink()
    seen.add(StaticImages(root).fingerprint())
    assert len(seen) == 4
    (root / "masks" / "unused.png").write_bytes(b"")
    assert StaticImages(root).fingerprint() in seen


def test_the_real_folder_holds_what_its_readme_says() -> None:
    root = SHARED / "data" / "ecssd"
    if not root.is_dir():
        pytest.skip("ECSSD is not beside this checkout")
    images = StaticImages(root).images()
    assert len(images) == 1000
    assert all(0 < pair.object_mask().mean() < 1 for pair in images[::100])


def test_two_images_of_one_mask_are_a_problem(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["plain"])
    image = StaticImages(root).pairs()[0].image
    shutil.copy(image, image.with_suffix(".jpeg"))
    (problem,) = StaticImages(root).problems()
    assert f"the mask of 2 images, {image.stem}.jpeg and {image.name}; keep one" in problem


def test_left_out_images_are_not_used_and_not_judged(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["fss"])
    first = StaticImages(root).pairs()[0]
    first.mask.unlink()
    name = first.image.relative_to(root)
    for left_out in (str(name), str(name.with_suffix(""))):
        folder = StaticImages(root, leave_out=[left_out])
        assert (folder.problems(), len(folder.images()), folder.has(left_out)) == ([], 2, True)
    assert not folder.has("abacus/9")


def test_a_masks_suffix_may_be_written_large(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["plain"])
    mask = StaticImages(root).pairs()[0].mask
    mask.rename(mask.with_suffix(".PNG"))
    assert StaticImages(root).problems() == []
