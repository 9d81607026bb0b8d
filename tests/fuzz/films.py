"""Make films, folders of pictures and first masks, and the segment commands that read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import pictures
from tests.fuzz.draw import Draw
from tests.fuzz.runner import Case, Command, Reply
from tests.fuzz.videos import Video, count_frames, film, picture_folder

COUNT = 100
KIND = "films"


def is_process(index: int) -> bool:
    """Tell the cases that are run as a process."""
    return index % 8 == 5


def case(index: int, folder: Path, checkpoint: Path) -> Case:
    """Make a video with a first mask, change both, and say how to segment it."""
    draw = Draw(KIND, index)
    made = Case(KIND, index, folder, shared=(checkpoint,), process=is_process(index))
    made.work.mkdir(parents=True)
    video = picture_folder(draw, made) if index % 3 == 0 else film(draw, made)
    mask = _mask(draw, made, video)
    out, words = _out(draw, made, video, mask)
    if draw.chance(0.6):
        words += ["--height", draw.one(["16", "24", "480", "100000", "9" * 20])]
    elif draw.chance(0.15):
        words += ["--height", draw.one(["0", "-5", "15", "1e3", "all"])]
        made.changes.append("height")
        video.wrong.append("the height is no number of rows from 16 on")
    given = {"--checkpoint": str(checkpoint), "--video": str(video.path), "--mask": str(mask)}
    written = [word for pair in given.items() for word in pair]
    names = (video.path.name, mask.name, "--height", "--out", out.name, "frame ")

    def judge(reply: Reply) -> Iterator[str]:
        found = answers(out)
        if found is None:
            yield f"exit code 0, and nothing that can be read at {out.name}"
        elif isinstance(found, int) and found != len(video.stems):
            yield f"{found} frames in {out.name} for {len(video.stems)} frames"
        elif isinstance(found, set) and found != video.stems:
            yield f"answers {sorted(found)[:9]} for the frames {sorted(video.stems)[:9]}"

    def partial(reply: Reply) -> Iterator[str]:
        found = answers(out) if out.exists() and not out.is_symlink() else None
        if isinstance(found, set) and (strange := found - video.stems):
            yield f"a failure left answers for no frame: {sorted(strange)[:9]}"

    made.commands.append(
        Command(
            module="orchestrator.segment",
            words=(*written, *words),
            names=names,
            wrong=tuple(video.wrong),
            sound=video.sound and not video.wrong,
            judge=judge,
            partial=partial,
            stores=(str(out.relative_to(folder)),) if out.is_relative_to(folder) else (),
        )
    )
    return made


def answers(out: Path) -> set[str] | int | None:
    """Return the stems of the masks in a folder, or the number of frames in a film."""
    if out.is_dir():
        found = {path.stem for path in out.glob("*.png")}
        return found - {"mine"} or None
    if not out.is_file():
        return None
    return count_frames(out) or None


def _mask(draw: Draw, made: Case, video: Video) -> Path:
    path = made.folder / draw.one(["first.png", "first mask #1.png", "erste ü.png"])
    ids = pictures.ids(*video.size)
    ways = {**pictures.SAVED, **pictures.REFUSED, **pictures.UNFIT}
    how = draw.one(sorted(ways)) if draw.chance(0.35) else "palette"
    ways[how](path, ids)
    if how not in ("palette", "grey", "0 and 255", "one bit"):
        made.changes.append(f"mask: {how}")
        video.sound = False
    if how in pictures.REFUSED or how in pictures.UNFIT:
        video.wrong.append(f"the mask is {how}")
    elif draw.chance(0.15):
        what = draw.one(sorted(pictures.DAMAGED))
        made.changes.append(f"mask: {what}")
        pictures.DAMAGED[what](path, draw)
        video.wrong.append(f"the mask is damaged ({what})")
    return path


def _out(draw: Draw, made: Case, video: Video, mask: Path) -> tuple[Path, list[str]]:
    """Draw where the answers go; a place that is an input's is no place."""
    how = draw.one(PLACES if draw.chance(0.3) else ("a film", "a folder", "left out"))
    made.changes.append(f"out: {how}")
    if how == "left out":
        name = video.path.name if video.path.is_dir() else video.path.stem
        return video.path.with_name(f"{name}-masks"), []
    out = (
        made.folder
        / {
            "a film": draw.one(["o.mp4", "o.MP4", "o x.mp4", "o.avi", "o.mov"]),
            "a folder": draw.one(["masks", "new/masks", "masks #1", "маски"]),
            "an odd suffix": draw.one(["o.mkv", "o.webm", "o.gif", "o.png", "o.zip", "o.txt"]),
            "the video": video.path.name,
            "the mask": mask.name,
            "a link to the video": "link-out.mp4",
            "the video spelt otherwise": f"work/../{video.path.name}",
            "a folder with files": "full",
            "a film that is there": "there.mp4",
            "below a file": f"{mask.name}/out",
        }[how]
    )
    if how == "a link to the video":
        out.symlink_to(video.path)
    if how == "a folder with files":
        out.mkdir()
        (out / "mine.png").write_bytes(b"a picture of somebody")
        (out / "00000.png").write_bytes(b"a mask of somebody")
    if how == "a film that is there":
        out.write_bytes(b"a film of somebody")
    if how not in ("a film", "a folder", "an odd suffix"):
        video.wrong.append(f"--out is {how}")
    if how == "an odd suffix":
        video.wrong.append(
            f"--out is neither a folder nor a film that can be written: {out.suffix}"
        )
    return out, ["--out", str(out)]


PLACES = (
    "an odd suffix",
    "the video",
    "the mask",
    "a link to the video",
    "the video spelt otherwise",
    "a folder with files",
    "a film that is there",
    "below a file",
)
