"""Test that masks on disk are matched with what is annotated, and every mismatch is told."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import youtubevos
from tests.conftest import FRAMES, HEIGHT, WIDTH
from vosmodels.data.masks import read_mask, write_palette
from vosmodels.errors import InputError
from vosmodels.evaluation.runner import score_folders
from vosmodels.evaluation.scores import PartialScores, Scores


@pytest.fixture
def truth(davis17_root: Path) -> Path:
    """Return the annotations of ant, bee (train) and cat (val), six frames each."""
    return davis17_root / "Annotations" / "480p"


@pytest.fixture
def masks(truth: Path, tmp_path: Path) -> Path:
    """Return a copy of the annotations, to be scored."""
    return Path(shutil.copytree(truth, tmp_path / "masks"))


def partial(masks: Path, truth: Path, **options) -> tuple[Scores, str]:
    with pytest.raises(PartialScores) as caught:
        score_folders(masks, truth, **options)
    return caught.value.scores, str(caught.value)


def names(scores: Scores) -> list[str]:
    return [video.name for video in scores.sequences]


def test_a_video_without_masks_is_counted_and_the_rest_is_partial(masks: Path, truth: Path):
    shutil.rmtree(masks / "bee")
    scores, told = partial(masks, truth)
    assert names(scores) == ["ant", "cat"]
    assert f"{masks}: 2 of 3 videos scored: no masks of 1 of 3 annotated videos (bee)" in told


def test_the_masks_of_a_whole_split_miss_nothing(masks: Path, truth: Path):
    shutil.rmtree(masks / "cat")
    assert names(score_folders(masks, truth)) == ["ant", "bee"]
    scores, told = partial(masks, truth, split="val")
    assert names(scores) == []
    assert "no masks of 1 of 1 annotated videos (cat)" in told


def test_a_split_says_which_videos_are_wanted(masks: Path, truth: Path, tmp_path: Path):
    assert names(score_folders(masks, truth, split="train")) == ["ant", "bee"]
    mine = tmp_path / "mine.txt"
    mine.write_text("cat\nant\n")
    assert names(score_folders(masks, truth, split=str(mine))) == ["ant", "cat"]
    with pytest.raises(InputError, match=r"no split 'vall'; there are: .*did you mean 'val'"):
        score_folders(masks, truth, split="vall")
    mine.write_text("cot\n")
    with pytest.raises(InputError, match=r"line 1: no video 'cot'.*did you mean 'cat'"):
        score_folders(masks, truth, split=str(mine))


def test_annotations_alone_have_no_splits_but_files_of_names(masks: Path, truth: Path, tmp_path):
    alone = Path(shutil.copytree(truth, tmp_path / "alone"))
    shutil.rmtree(masks / "cat")
    scores, told = partial(masks, alone)
    assert names(scores) == ["ant", "bee"]
    assert "(cat)" in told
    with pytest.raises(InputError, match="no split 'val'; there are: none"):
        score_folders(masks, alone, split="val")


def test_a_part_of_youtubevos_is_a_split_too(youtubevos_root: Path, tmp_path: Path):
    annotations = youtubevos_root / "train" / "Annotations"
    meta = youtubevos_root / "train" / "meta.json"  # eagle is held out, so owl is offline_val
    youtubevos.write_meta(meta, youtubevos.BEGINS, {1: "cat", 2: "dog", 7: "eagle"})
    shutil.copytree(annotations / "owl", tmp_path / "masks" / "owl")
    assert names(score_folders(tmp_path / "masks", annotations, split="offline_val")) == ["owl"]
    for split in (None, "train"):  # a part of train has no list, so it is not guessed
        scores, told = partial(tmp_path / "masks", annotations, split=split)
        assert names(scores) == ["owl"]
        assert "no masks of 1 of 2 annotated videos (fox)" in told


def test_a_folder_of_no_annotated_video_is_named_with_the_nearest(masks: Path, truth: Path):
    (masks / "cat").rename(masks / "cats")
    scores, told = partial(masks, truth)
    assert names(scores) == ["ant", "bee"]
    assert (
        f"{masks / 'cats'}: belongs to no annotated video of {truth}; did you mean 'cat'?" in told
    )
    (masks / "cats").rename(masks / "cat")
    (masks / ".DS_Store").mkdir()
    assert score_folders(masks, truth).jf == 1


def test_all_of_a_videos_mismatches_are_told_and_it_is_left_out(masks: Path, truth: Path):
    (masks / "ant" / "00003.png").unlink()
    (masks / "ant" / "00009.png").write_bytes((masks / "ant" / "00001.png").read_bytes())
    for t in (2, 4):
        write_palette(masks / "bee" / f"{t:05d}.png", np.zeros((20, 10)))
    scores, told = partial(masks, truth)
    assert names(scores) == ["cat"]
    assert f"{masks / 'ant'}: no mask of 1 of 4 scored frames (00003.png)" in told
    assert f"{masks / 'ant'}: 1 of 6 masks belong to no frame (00009.png)" in told
    assert "bee/00002.png: 10x20 pixels, its annotation has 64x48" in told
    assert "(and 1 more masks there)" in told


@pytest.mark.parametrize("shift", [1, -1])
def test_masks_that_are_numbered_from_another_frame_are_not_scored_a_frame_off(
    masks: Path, truth: Path, shift: int
):
    of_cat, start = (masks, truth)[shift < 0] / "cat", (0, 1)[shift < 0]
    for t in reversed(range(FRAMES)):
        (of_cat / f"{t:05d}.png").rename(of_cat / f"{t + 1:05d}.png")
    scores, told = partial(masks, truth)
    assert names(scores) == ["ant", "bee"]
    assert (
        f"masks start at {1 - start:05d}, annotations at {start:05d}: are they numbered otherwise?"
        in told
    )


def test_frames_that_are_not_scored_need_no_mask_and_may_have_any(masks: Path, truth: Path):
    (masks / "ant" / "00000.png").unlink()
    (masks / "bee" / "00005.png").unlink()
    write_palette(masks / "cat" / "00000.png", np.zeros((20, 10)))
    assert score_folders(masks, truth).jf == 1


def test_a_mask_of_a_picture_between_the_annotated_ones_belongs_to_it(youtubevos_root: Path):
    train = youtubevos_root / "train"
    masks = Path(shutil.copytree(train / "Annotations", youtubevos_root / "masks"))
    write_palette(masks / "fox" / "00007.png", youtubevos.ids("fox", 7))  # fox has all pictures
    assert score_folders(masks, train / "Annotations").jf == 1
    write_palette(masks / "owl" / "00007.png", youtubevos.ids("owl", 7))
    assert (
        "owl: 1 of 5 masks belong to no frame (00007.png)"
        in partial(masks, train / "Annotations")[1]
    )


def test_a_mask_that_cannot_be_read_loses_no_other_video(masks: Path, truth: Path):
    odd = read_mask(masks / "bee" / "00002.png")
    odd[0, 0] = 255
    write_palette(masks / "bee" / "00002.png", odd)
    whole = (masks / "ant" / "00002.png").read_bytes()
    (masks / "ant" / "00002.png").write_bytes(whole[: len(whole) // 2] + whole[-12:])
    scores, told = partial(masks, truth)
    assert names(scores) == ["cat"]
    assert scores.jf == 1
    assert "bee/00002.png: value 1 beside 255" in told
    assert "ant/00002.png: " in told


def test_ids_that_were_scaled_for_viewing_are_told_and_score_no_zero(masks: Path, truth: Path):
    for path in (masks / "ant").iterdir():
        write_palette(path, read_mask(path) * 100)
    scores, told = partial(masks, truth)
    assert names(scores) == ["bee", "cat"]
    assert "ant: its masks hold ids 100, 200, the annotations 1, 2" in told
    for path in (masks / "ant").iterdir():
        write_palette(path, np.zeros((HEIGHT, WIDTH)))  # nothing found is an answer
    assert score_folders(masks, truth).sequences[0].j == 0


def test_masks_and_annotations_without_folders_of_videos_are_refused(truth: Path, tmp_path: Path):
    flat = Path(shutil.copytree(truth / "ant", tmp_path / "flat"))
    with pytest.raises(InputError, match="PNG there belong into a folder named as their video"):
        score_folders(flat, truth)
    with pytest.raises(InputError, match=r"480p: no folder with PNG.*it has 00000\.png"):
        score_folders(truth, shutil.copytree(truth / "ant", tmp_path / "480p"))
    with pytest.raises(InputError, match=r"it has 480p; give the folder that holds that of each"):
        score_folders(truth, truth.parent)


def test_first_masks_of_davis_are_for_the_server(masks: Path, truth: Path):
    for path in (truth / "ant").glob("0000[1-5].png"):
        path.unlink()
    assert (
        "ant: 1 PNG, wanted at least 3; masks that only give the objects"
        in (partial(masks, truth)[1])
    )


def test_an_object_that_appears_later_is_scored_from_the_next_frame(masks: Path, truth: Path):
    for t in (0, 1, 2):
        ids = read_mask(truth / "ant" / f"{t:05d}.png")
        write_palette(truth / "ant" / f"{t:05d}.png", np.where(ids == 2, 0, ids))
    ids = read_mask(masks / "ant" / "00003.png")
    write_palette(masks / "ant" / "00003.png", np.where(ids == 2, 0, ids))
    objects = score_folders(masks, truth).sequences[0].objects
    assert [*objects[1].j_frames] == [1] * 4
    assert [*objects[2].j_frames] == [1]  # of frame 4: it begins in 3, and 5 is the last


def test_numbers_without_zeros_are_read_in_their_order(tmp_path: Path):
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    ids[4:20, 4:20] = 1
    for folder in ("truth", "masks"):
        (tmp_path / folder / "eel").mkdir(parents=True)
        for t in range(12):
            write_palette(tmp_path / folder / "eel" / f"{t}.png", ids)
    for t in (0, 11):  # the first and the last do not count
        write_palette(tmp_path / "masks" / "eel" / f"{t}.png", ids * 0)
    scores = score_folders(tmp_path / "masks", tmp_path / "truth")
    assert scores.sequences[0].objects[1].j_frames == (1,) * 10


def test_partial_scores_survive_the_way_from_another_process(masks: Path, truth: Path):
    (masks / "ant" / "00003.png").unlink()
    with pytest.raises(PartialScores) as caught:
        score_folders(masks, truth)
    back = pickle.loads(pickle.dumps(caught.value))
    assert (str(back), back.scores, back.wanted) == (str(caught.value), caught.value.scores, 3)


def test_ids_of_one_side_alone_are_named(masks: Path, truth: Path, caplog):
    for path in sorted((masks / "ant").iterdir()):
        ids = read_mask(path)
        write_palette(path, np.where(ids == 2, 7, ids))
    (ant,) = [s for s in score_folders(masks, truth).sequences if s.name == "ant"]
    assert (ant.objects[1].j, ant.objects[2].j) == (1, 0)
    assert "ant: its masks also hold ids 7, unknown to the annotations" in caplog.text
    assert "ant: no mask overlaps with object 2" in caplog.text
