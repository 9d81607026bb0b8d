"""Test masks that some tracker left in a folder, as labels of videos."""

import shutil

import numpy as np
import pytest

from tests import youtubevos
from vosmodels.data.davis import DavisDataset
from vosmodels.data.mask_folder import MaskFolder
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.data.youtubevos import YouTubeVosDataset
from vosmodels.errors import Absent


@pytest.fixture
def davis(davis17_root, tmp_path):
    """The training videos, and their own masks as a tracker's folder."""
    folder = shutil.copytree(davis17_root / "Annotations/480p", tmp_path / "tracked")
    return DavisDataset(davis17_root).given("train"), MaskFolder(folder)


def test_masks_of_every_frame_are_labels_and_the_given_one_stays_the_datasets(davis):
    videos, folder = davis
    ant = videos[0]
    (folder.root / "ant/00000.png").unlink()
    assert folder.problems(videos) == {}
    masks = folder.of(ant)
    assert np.array_equal(masks.ids(0), ant.mask(0))
    assert np.array_equal(masks.ids(3), read_mask(folder.root / "ant/00003.png"))
    assert np.array_equal(masks.labels(3, 1.0), masks.ids(3))
    for i in (1, 2):
        assert np.array_equal(masks.probability(3, i), 255 * (masks.ids(3) == i))


def test_every_mask_that_is_no_label_is_told(davis):
    videos, folder = davis
    (folder.root / "ant/00002.png").unlink()
    ids = read_mask(folder.root / "ant/00003.png")
    write_palette(folder.root / "ant/00003.png", ids[:-2])
    write_palette(folder.root / "ant/00004.png", np.where(ids == 2, 9, ids))
    (folder.root / "ant/00005.png").write_bytes(b"no picture")
    told = " | ".join(folder.problems(videos)["ant"])
    assert "ant/00002.png: no such mask, for the frame" in told
    assert "ant/00003.png: mask of 64x46 pixels for an image of 64x48" in told
    assert "ant/00004.png: ids 9, of which no given mask of ant has an object by then" in told
    assert "there are 1, 2" in told
    assert "ant/00005.png: corrupt or missing mask" in told
    shutil.rmtree(folder.root / "bee")
    assert "tracked/bee: no such folder; the folder of masks holds" in str(folder.problems(videos))
    with pytest.raises(Absent, match="nowhere: no such folder"):
        MaskFolder(folder.root / "nowhere").problems(videos)


def test_masks_of_davis_2016_are_one_object(davis_root, tmp_path):
    (ant, _) = DavisDataset(davis_root).given("train")
    folder = MaskFolder(tmp_path)
    (tmp_path / "ant").mkdir()
    for image in ant.images:
        write_palette(tmp_path / "ant" / f"{image.stem}.png", 3 * ant.mask(0))
    assert folder.problems([ant]) == {}
    assert folder.of(ant).ids(4).max() == 1


def test_the_content_of_masks_after_the_first_is_what_the_digest_holds(davis, tmp_path):
    videos, folder = davis
    before = folder.fingerprint(videos)
    moved = MaskFolder(shutil.copytree(folder.root, tmp_path / "moved"))
    (moved.root / "ant/00000.png").unlink()
    assert moved.fingerprint(videos) == before
    changed = read_mask(folder.root / "bee/00005.png")
    changed[0, 0] = 1
    write_palette(folder.root / "bee/00005.png", changed)
    assert folder.fingerprint(videos) != before
    assert folder.fingerprint(videos[:1]) == moved.fingerprint(videos[:1])


def test_objects_of_youtubevos_that_begin_later_are_laid_over_the_masks(youtubevos_root, tmp_path):
    fox, _ = YouTubeVosDataset(youtubevos_root).given("train")
    assert (len(fox), sorted(fox.masks)) == (21, [0, 10])
    folder = MaskFolder(tmp_path)
    (tmp_path / "fox").mkdir()
    for number, image in enumerate(fox.images):
        ids = youtubevos.ids("fox", number)
        ids[ids == 2] = 0 if number <= 10 else 2  # the tracker is a frame late
        write_palette(tmp_path / "fox" / f"{image.stem}.png", ids)
    assert folder.problems([fox]) == {}
    masks = folder.of(fox)
    for number in (0, 9, 10, 11):
        assert np.array_equal(masks.ids(number), youtubevos.ids("fox", number))
    early = youtubevos.ids("fox", 12)
    write_palette(tmp_path / "fox/00009.png", early)
    (line,) = folder.problems([fox])["fox"]
    assert line.endswith("ids 2, of which no given mask of fox has an object by then; there are 1")
