"""Test the exit codes, table and JSON of the data check."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vosmodels.data.check import summary
from vosmodels.data.check.__main__ import main


def test_a_sound_folder_is_exit_0_and_told_split_by_split(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(davis17_root)]) == 0
    head, licence, columns, *parts, train, val, last = capsys.readouterr().out.splitlines()
    assert head == f"{davis17_root}: DAVIS"
    assert licence.startswith("licence: CC BY-NC 4.0")
    assert columns.split() == ["split", "videos", "frames", "labelled", "objects", "ids", "size"]
    assert [part.split()[:2] for part in parts] == [["offline_train", "1"], ["offline_val", "1"]]
    assert train.split() == ["train", "2", "12", "12", "4", "1-2", "64x48"]
    assert val.split() == ["val", "1", "6", "6", "2", "1-2", "64x48"]
    assert last == "no problems (by headers; --decode reads every file)"


def test_every_problem_is_told_at_exit_1(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (davis17_root / "Annotations/480p/ant/00002.png").unlink()
    (davis17_root / "JPEGImages/480p/bee/00004.jpg").write_bytes(b"")
    assert main([str(davis17_root), "--decode", "--workers", "1"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-3] == "2 problems (every file was read)"
    assert "ant/00002.jpg: image without mask" in told.out
    assert "bee/00004.jpg: not a picture" in told.out
    assert "Traceback" not in told.err


def told_json(capsys: pytest.CaptureFixture[str], *words: object, code: int) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_json_has_the_same_for_machines(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = told_json(capsys, davis17_root, code=0)
    assert (answer["set"], answer["problems"], answer["decoded"]) == ("DAVIS", [], False)
    assert answer["splits"]["val"] == {
        "videos": 1,
        "frames": 6,
        "labelled": 6,
        "objects": 2,
        "ids": [1, 2],
        "merged": False,
        "sizes": [[64, 48], [64, 48]],
        "first_masks_only": False,
    }
    (davis17_root / "Annotations/480p/ant/00002.png").unlink()
    assert len(told_json(capsys, davis17_root, code=1)["problems"]) == 1


def stills(root: Path, *names: str, size: tuple[int, int]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / f"{name}.jpg")
        Image.new("L", size, 255).save(root / f"{name}.png")


def test_sets_of_still_images_are_told_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stills(tmp_path / "fss", "ant/1", "ant/2", "bee/1", size=(8, 6))
    assert main([str(tmp_path / "fss")]) == 0
    head, licence, *_ = capsys.readouterr().out.splitlines()
    assert head == f"{tmp_path}/fss: FSS-1000"
    assert licence.startswith("licence: its page states none")
    stills(tmp_path / "BIG_small", "a", size=(40, 30))
    stills(tmp_path / "BIG_small", "b", size=(20, 70))
    (tmp_path / "BIG_small" / "a.png").unlink()
    assert main([str(tmp_path)]) == 1
    head, of_big, of_fss, columns, big, fss, note, *rest = capsys.readouterr().out.splitlines()
    assert head == f"{tmp_path}: still images"
    assert of_big.startswith("licence of BIG_small: not for commercial purposes")
    assert of_fss.startswith("licence of fss: its page states none")
    assert columns.split() == ["set", "folders", "images", "masks", "size"]
    assert big.split() == ["BIG_small", "1", "2", "1", "40x30", "to", "20x70"]
    assert fss.split() == ["fss", "2", "3", "3", "8x6"]
    assert note == "several sets: data.static takes a list of their folders"
    lost = f"{tmp_path}/BIG_small/a"
    assert rest == [
        "1 problem (by headers; --decode reads every file)",
        f"  {lost}.jpg: image without mask; wanted {lost}.png",
    ]


def test_json_of_still_images_has_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stills(tmp_path / "mine", "a", "b", size=(8, 6))
    assert told_json(capsys, tmp_path / "mine", "--decode", "--workers", 1, code=0) == {
        "root": f"{tmp_path}/mine",
        "set": "still images",
        "sets": {
            "mine": {
                "licence": "not told by the files: see the set's own page",
                "folders": 1,
                "images": 2,
                "masks": 2,
                "sizes": [[8, 6], [8, 6]],
            }
        },
        "problems": [],
        "notes": [],
        "decoded": True,
    }


def test_a_merged_split_has_an_object_a_video(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (davis17_root / "ImageSets/2017").rename(davis17_root / "ImageSets/2016")
    assert told_json(capsys, davis17_root, code=0)["splits"]["train"]["objects"] == 2
    main([str(davis17_root)])
    assert "1-2 as one" in capsys.readouterr().out


def test_a_problem_of_two_splits_is_told_once(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = davis17_root / "ImageSets/2017"
    shutil.copy(lists / "train.txt", lists / "again.txt")
    (davis17_root / "Annotations/480p/ant/00002.png").unlink()
    assert len(told_json(capsys, davis17_root, code=1)["problems"]) == 1


def test_a_test_set_has_first_masks_only_and_no_problem(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((davis17_root / "Annotations/480p/cat").iterdir())[1:]:
        path.unlink()
    assert told_json(capsys, davis17_root, code=0)["splits"]["val"]["first_masks_only"]
    main([str(davis17_root)])
    assert "val: masks only where objects begin: nothing to" in capsys.readouterr().out
    lists = davis17_root / "ImageSets/2017"
    shutil.copy(lists / "train.txt", lists / "again.txt")
    for path in sorted((davis17_root / "Annotations/480p/ant").iterdir())[1:]:
        path.unlink()
    (lost,) = told_json(capsys, davis17_root, code=1)["problems"]
    assert lost.endswith("ant: one mask for 6 frames, only where objects begin")


def test_progress_tells_rate_and_time_left(
    davis17_root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(summary, "TELL_S", 0.0)
    with caplog.at_level(logging.INFO, logger=summary.__name__):
        main([str(davis17_root)])
    first, second = caplog.messages
    assert first.startswith("1 of 3 videos, ")
    assert second.startswith("2 of 3 videos, ")
    assert "files a second, " in first
    assert first.endswith(" s left")


def test_what_cannot_be_looked_at_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no dataset known here" in capsys.readouterr().err
    assert main([str(tmp_path), "--workers", "0"]) == 2
    assert "--workers 0: 1 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_find_the_same(davis17_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (davis17_root / "Annotations/480p/cat/00002.png").write_bytes(b"")
    words = (davis17_root, "--decode", "--workers")
    alone, together = (told_json(capsys, *words, count, code=1) for count in (1, 2))
    assert alone == together


def test_what_may_not_be_meant_is_noted_at_exit_0(
    davis17_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        folder = davis17_root / kind / "480p/cat"
        for number in range(6):
            (folder / f"{number:05d}.{suffix}").rename(folder / f"{number * 2 + 7}.{suffix}")
        (folder / f"11.{suffix}").unlink()
    exif = Image.Exif()
    exif[0x0112] = 3
    path = davis17_root / "JPEGImages/480p/ant/00000.jpg"
    Image.open(path).save(path, exif=exif)
    assert main([str(davis17_root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4] == "3 to look at, which are used as they are:"
    assert "ant: 1 frames are turned as their EXIF orientation says, first 00000.jpg" in lines[-3]
    assert "cat: numbers without zeros in front (7 ... 17); read in" in lines[-2]
    assert "cat: no frame between 9 and 13; frames are" in lines[-1]
