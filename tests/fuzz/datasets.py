"""Make dataset folders in every layout, as people keep them, and the commands that read them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import youtubevos
from tests.conftest import SPLITS, write_davis
from tests.fuzz import folders
from tests.fuzz.answers import CHANGES
from tests.fuzz.draw import Draw
from tests.fuzz.folder_changes import changes_of
from tests.fuzz.folder_lists import split_file
from tests.fuzz.folders import Folder
from tests.fuzz.runner import Case, Command, Reply

COUNT = 100
KIND = "datasets"
LAYOUTS = ("davis 2016", "davis 2017", "own videos", "flat videos", "youtube-vos", "still images")


def is_process(index: int) -> bool:
    """Tell the cases whose first command is run as a process."""
    return index % 8 == 3


def case(index: int, folder: Path, checkpoint: Path) -> Case:
    """Make a dataset folder, change it, and list the commands that are run on it."""
    draw = Draw(KIND, index)
    made = Case(KIND, index, folder, shared=(checkpoint,), process=is_process(index))
    made.work.mkdir(parents=True)
    layout = LAYOUTS[index % len(LAYOUTS)]
    data = write(layout, folder / draw.one(["odd-set", "odd-set #1 ü"]))
    made.changes.append(layout)
    answers = folder / "answers"
    if layout != "still images":
        shutil.copytree(data.masks, answers)
    for change in draw.several(changes_of(data), 1, 3):
        made.changes += change(draw, data)
    made.commands.append(_check(draw, data))
    if layout == "still images":
        made.commands.append(_dry_run(data))
        return made
    others = [_dry_run(data), _evaluate(draw, data, made, checkpoint)]
    made.commands += draw.several(others, 1, 2)
    if draw.chance(0.5):
        made.commands.append(_masks(draw, data, made, answers))
    return made


def write(layout: str, root: Path) -> Folder:
    """Write a sound folder of three small videos, two for YouTube-VOS, or of still images."""
    if layout == "still images":
        root.mkdir()
        return folders.still_images(root)
    if layout == "youtube-vos":
        youtubevos.write(root)
        within = root / "valid"
        names = {"valid": tuple(youtubevos.BEGINS)}
        return Folder(layout, root, within / "JPEGImages", within / "Annotations", names)
    write_davis(root, 2016 if layout == "davis 2016" else 2017)
    splits = {name: tuple(names) for name, names in SPLITS.items()}
    resolution = "480p"
    if layout in ("own videos", "flat videos"):
        shutil.rmtree(root / "ImageSets")
        splits = {"all": tuple(name for names in splits.values() for name in names)}
    if layout == "flat videos":
        resolution = ""
        for kind in ("JPEGImages", "Annotations"):
            for video in (root / kind / "480p").iterdir():
                video.rename(root / kind / video.name)
            (root / kind / "480p").rmdir()
    frames, masks = (root / kind / resolution for kind in ("JPEGImages", "Annotations"))
    return Folder(layout, root, frames, masks, splits)


def _names(data: Folder, *more: str) -> tuple[str, ...]:
    return (data.root.name, *more)


def _check(draw: Draw, data: Folder) -> Command:
    words = [str(data.root), *(["--decode", "--workers", "1"] if draw.chance(0.6) else [])]
    wrong = tuple(data.unsound.values()) if "--decode" in words else ()
    return Command(
        module="vosmodels.data.check",
        words=tuple(words),
        names=_names(data),
        wrong=wrong,
        sound=data.benign,
        silent=True,
    )


def _dry_run(data: Folder) -> Command:
    train, select = ("train", "val") if "val" in data.splits else ("all", "all")
    if data.layout == "youtube-vos":
        select = "offline_val"
    words = [f"data.root={data.root}", f"data.train={train}", f"data.select={select}"]
    if data.layout == "still images":
        words = [f"data.static={data.root}", "stages=[{name: static, steps: 1}]"]
    path = data.root.parent / "work" / "run.yaml"
    path.write_text("student: {name: mobilevos_mobilenetv2_noaspp}\n", encoding="utf-8")
    named = _names(data, "data.", "stages")
    return Command(module="orchestrator.train", words=(path.name, "--dry-run", *words), names=named)


def _evaluate(draw: Draw, data: Folder, made: Case, checkpoint: Path) -> Command:
    split = draw.one(sorted(data.splits))
    videos = data.splits[split]
    wrong = [data.unlisted[split]] if split in data.unlisted else []
    sound = data.benign
    words = ["--checkpoint", str(checkpoint), "--data", str(data.root), "--json"]
    if draw.chance(0.3) and data.layout != "youtube-vos":
        split, videos, note = split_file(draw, data, made.work / "names.txt")
        made.changes.append(note)
        wrong = ["the split file names a video that is not there"] if "unknown" in note else []
        sound = False
    words += ["--split", split]
    out = made.folder / "out"
    if draw.chance(0.7):
        words += ["--out", str(out)]
    if not (data.root / "ImageSets").is_dir() and data.layout != "youtube-vos":
        videos = tuple(video for video in videos if (data.frames / video).is_dir())
    reasons = [*data.unsound.items(), *data.unscorable.items()]
    wrong += [reason for video, reason in reasons if video in videos]
    frames = {video: data.stems(video) for video in videos}

    def judge(reply: Reply) -> Iterator[str]:
        yield from _scored(reply, set(videos))
        if "--out" in words:
            yield from _answered(out, frames, every=data.layout != "youtube-vos")

    def partial(reply: Reply) -> Iterator[str]:
        yield from _answered(out, frames, every=False, some=False)

    return Command(
        module="orchestrator.evaluate",
        words=tuple(words),
        names=_names(data, split, checkpoint.name),
        wrong=tuple(wrong),
        sound=sound,
        judge=judge,
        partial=partial,
        stores=(out.name,),
    )


def _scored(reply: Reply, videos: set[str]) -> Iterator[str]:
    try:
        scores = json.loads(reply.out)
    except ValueError:
        yield "exit code 0, but stdout holds no JSON"
        return
    if strange := set(scores["sequences"]) - videos:
        yield f"scores of {', '.join(sorted(strange))}, which was not asked for"
    if scores["sequences"] and (silent := videos - set(scores["sequences"])):
        yield f"no scores of {', '.join(sorted(silent))}, and exit code 0"


def _answered(
    out: Path, frames: Mapping[str, set[str]], *, every: bool, some: bool = True
) -> Iterator[str]:
    """Compare the masks that were written with the frames that were asked for.

    every: all frames have a mask; some: at least one frame of a video has.
    """
    written: dict[str, set[str]] = {}
    for path in out.rglob("*.png"):
        written.setdefault(path.parent.name, set()).add(path.stem)
    if strange := set(written) - set(frames):
        yield f"masks of {', '.join(sorted(strange))}, which was not asked for"
    for video, stems in frames.items():
        found = written.get(video, set())
        if strange := found - stems:
            yield f"masks of {video} for no frame: {', '.join(sorted(strange)[:4])}"
        if (some and not found) or (every and stems - found):
            yield f"frames of {video} without a mask: {', '.join(sorted(stems - found)[:4])}"


def _masks(draw: Draw, data: Folder, made: Case, answers: Path) -> Command:
    """Change the answers of a benchmark, which are the true masks, and score them."""
    wrong = list(data.unscorable.values())
    change = draw.one([None, *sorted(CHANGES)])
    if change is not None:
        made.changes.append(change)
        video = draw.one([path for path in sorted(answers.iterdir()) if path.is_dir()])
        wrong += CHANGES[change](draw, video)
    # A folder of annotations may hold folders that are no video, such as .ipynb_checkpoints.
    videos = {path.name for path in answers.iterdir() if path.is_dir()}
    listed = {path.name for path in data.masks.iterdir() if path.name[:1] != "."}
    wrong += [f"the answers for {name} are numbered otherwise" for name in data.renumbered]
    if strangers := videos - listed - {".ipynb_checkpoints"}:
        wrong.append(f"{', '.join(sorted(strangers))} has no annotations")
    if data.layout != "youtube-vos" and listed - videos:
        wrong.append(f"{', '.join(sorted(listed - videos))} has no answers")

    def judge(reply: Reply) -> Iterator[str]:
        yield from _scored(reply, listed)
        try:
            scores = json.loads(reply.out)["sequences"]
        except ValueError:
            return
        for video, score in scores.items():
            most = len(list((data.masks / video).glob("[!.]*.png")))
            for number, one in score["objects"].items():
                if len(one["J_frames"]) > most:
                    yield f"object {number} of {video}: {len(one['J_frames'])} scores, {most} masks"

    return Command(
        module="orchestrator.evaluate",
        words=("--masks", str(answers), "--annotations", str(data.masks), "--json"),
        names=_names(data, "answers"),
        wrong=tuple(wrong),
        sound=data.benign and not wrong and data.layout != "youtube-vos",
        judge=judge,
    )
